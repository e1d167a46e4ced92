"""``fairseq-layerdrop describe CKPT``, ``describe PLAN.json`` or ``describe LADDER.json``."""

import json
from itertools import groupby

from ..base.errors import UserError
from ..plan import LADDER_FORMAT, format_numbers, plan_to_dict, read_format, read_ladder, read_plan, unit_name


def add_arguments(parser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", help="a fairseq checkpoint (.pt), a plan or a ladder (.json)")
    parser.add_argument(
        "--prune-layers", metavar="SPEC", help="what would be left, for instance decoder=keep:3@every_other"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _layer_rows(layers):
    """Rows of consecutive layers with the same sub-layers."""
    for sub_layers, run in groupby(range(len(layers)), key=lambda number: layers[number]):
        yield f"  {format_numbers(run)}", ", ".join(sub_layers)


def _run_plan(args) -> None:
    read = read_plan(args.checkpoint)
    if args.json:
        print(json.dumps({"stacks": plan_to_dict(read.plan), "origin": read.origin}, indent=2))
        return
    for label, value in {"keeps": read.plan, **read.origin}.items():
        print(f"{label:12}{value}")


def _run_ladder(args) -> None:
    read = read_ladder(args.checkpoint)
    removals = [{"drop": unit_name(unit), "score": score} for unit, score in zip(read.removals, read.scores)]
    if args.json:
        print(json.dumps({"removals": removals, "origin": dict(read.origin)}, indent=2))
        return
    for number, removal in enumerate(removals, start=1):
        score = "" if removal["score"] is None else f"{removal['score']:.6g}"
        print(f"{'drop ' + str(number):12}{removal['drop']:24}{score}")
    for label, value in read.origin.items():
        print(f"{label:12}{value}")


def run(args) -> None:
    if args.checkpoint.endswith(".json"):
        if args.prune_layers is not None:
            raise UserError("--prune-layers is for checkpoints, not for plans and ladders")
        (_run_ladder if read_format(args.checkpoint) == LADDER_FORMAT else _run_plan)(args)
        return
    from .. import describe
    from ..surgery.history import history_in_words

    description = describe(args.checkpoint, args.prune_layers)
    if args.json:
        print(json.dumps(description.to_dict(), indent=2))
        return
    rows = [("architecture", description.architecture), ("task", description.task)]
    for stack, depth in description.depths.items():
        dropping = "".join(f", {words}" for words in description.dropping[stack])
        rows.append((stack, f"{depth} layers, LayerDrop {description.layerdrop[stack]:g}{dropping}"))
        rows += _layer_rows(description.sub_layers[stack])
        if stack in description.importance:
            rows.append(("  importance", ", ".join(f"{score:.3f}" for score in description.importance[stack])))
    if description.teacher is not None:
        rows.append(("teacher", description.teacher))
    rows.append(("parameters", f"{description.parameters:,}"))
    rows += [(f"  {part}", f"{count:,}") for part, count in description.parameters_by_part.items()]
    if description.updates is not None:
        rows.append(("updates", f"{description.updates:,}"))
    rows += [("pruned", line) for line in history_in_words(description.pruning_history)]
    width = max(len(label) for label, _ in rows) + 2
    for label, value in rows:
        print(f"{label:{width}}{value}")
