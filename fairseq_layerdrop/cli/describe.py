"""``fairseq-layerdrop describe CKPT``."""

import json
from itertools import groupby

from ..plan import format_layers
from ..surgery import describe, history_in_words, load_checkpoint

HELP = "show a checkpoint's architecture, layers, parameters, LayerDrop rates and how it was pruned"


def add_arguments(parser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", help="a fairseq checkpoint (.pt)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _layer_rows(layers):
    """Rows of consecutive layers with the same sub-layers."""
    for sub_layers, run in groupby(range(len(layers)), key=lambda number: layers[number]):
        yield f"  {format_layers(run)}", ", ".join(sub_layers)


def run(args) -> None:
    description = describe(load_checkpoint(args.checkpoint))
    if args.json:
        print(json.dumps(description.to_dict(), indent=2))
        return
    rows = [("architecture", description.architecture), ("task", description.task)]
    for stack, depth in description.depths.items():
        rows.append((stack, f"{depth} layers, LayerDrop {description.layerdrop[stack]:g}"))
        rows += _layer_rows(description.sub_layers[stack])
    rows.append(("parameters", f"{description.parameters:,}"))
    rows += [(f"  {part}", f"{count:,}") for part, count in description.parameters_by_part.items()]
    if description.updates is not None:
        rows.append(("updates", f"{description.updates:,}"))
    rows += [("pruned", line) for line in history_in_words(description.pruning_history)]
    width = max(len(label) for label, _ in rows) + 2
    for label, value in rows:
        print(f"{label:{width}}{value}")
