"""``fairseq-layerdrop glue DATA --path CKPT --task MRPC``."""

import json

from ..evaluation.glue import METRICS
from .data_flags import add_data_arguments, at_least_one, data_of


def add_arguments(parser) -> None:
    parser.add_argument("--path", metavar="CKPT", required=True, help="checkpoint of the fine-tuned model")
    parser.add_argument("--task", choices=METRICS, required=True, help="task of GLUE whose metrics to compute")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="passes to time (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_data_arguments(parser, stores=False)


def run(args) -> None:
    from .. import glue

    at_least_one(args, "repeats")
    found = glue(args.path, data_of(args), args.task, args.repeats)
    if args.json:
        print(json.dumps({"task": args.task, **found}, indent=1))
        return
    for name, score in found["scores"].items():
        print(f"{name:22}{score:.2f}")
    print(f"{found['examples']:,} examples in {found['seconds']:.2f} s, {found['parameters']:,} parameters")
