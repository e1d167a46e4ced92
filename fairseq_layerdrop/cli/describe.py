"""``fairseq-layerdrop describe CKPT``."""

import json

from ..surgery import describe, load_checkpoint

HELP = "show a checkpoint's architecture, depths, parameters and LayerDrop rates"


def add_arguments(parser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", help="a fairseq checkpoint (.pt)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args) -> None:
    description = describe(load_checkpoint(args.checkpoint))
    if args.json:
        print(json.dumps(description.to_dict(), indent=2))
        return
    rows = [("architecture", description.architecture), ("task", description.task)]
    for stack, depth in description.depths.items():
        rows.append((stack, f"{depth} layers, LayerDrop {description.layerdrop[stack]:g}"))
    rows.append(("parameters", f"{description.parameters:,}"))
    rows += [(f"  {part}", f"{count:,}") for part, count in description.parameters_by_part.items()]
    if description.updates is not None:
        rows.append(("updates", f"{description.updates:,}"))
    width = max(len(label) for label, _ in rows) + 2
    for label, value in rows:
        print(f"{label:{width}}{value}")
