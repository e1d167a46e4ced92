"""``fairseq-layerdrop sweep DATA --path CKPT -o DIR``."""

import argparse
import json
import re
from dataclasses import asdict

from ..evaluation import TEXT_METRICS, add_word_arguments
from ..plan import LEARNED, RULES, STACKS
from ..running.settings import SETTINGS
from .data_flags import (
    add_data_arguments,
    add_generation_arguments,
    add_paths_argument,
    at_least_one,
    data_of,
    named_checkpoints,
)


def _depths(text: str) -> tuple[int, ...]:
    """1-6 or 1,2,4, largest first."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 1 <= first <= last:
            raise argparse.ArgumentTypeError(f"'{text}' is not like 1-6 or 1,2,4")
        found.update(range(first, last + 1))
    return tuple(sorted(found, reverse=True))


def add_arguments(parser) -> None:
    add_paths_argument(parser)
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder of the sweep; a known one goes on")
    group = parser.add_argument_group("what is measured; by default every depth of the decoder, or of the only stack")
    for stack in STACKS:
        group.add_argument(
            f"--{stack}",
            type=_depths,
            metavar="1-6",
            help=f"numbers of {stack} layers to keep; with both stacks, a grid",
        )
    rules = "rules by which layers are kept; learned is for models that learned it (default: every_other)"
    group.add_argument("--rules", nargs="+", choices=(*RULES, LEARNED), help=rules)
    group.add_argument(
        "--plans", nargs="+", default=[], metavar="FILE",
        help="plan files, and ladders to measure at each depth; depths by rules are measured beside them only with "
        "--encoder, --decoder or --rules",
    )  # fmt: skip
    group = parser.add_argument_group("quality")
    group.add_argument(
        "--metric", choices=("loss", "accuracy", *TEXT_METRICS), default="loss",
        help="beside loss: accuracy of classifiers, the others of models that translate (default: loss)",
    )  # fmt: skip
    add_word_arguments(group)
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--timed-sentences",
        type=int,
        default=100,
        metavar="N",
        help="time the first N sentences, or blocks (default: 100)",
    )
    group.add_argument("--repeats", type=int, default=3, metavar="N", help="times to repeat each timing (default: 3)")
    group.add_argument("--threads", type=int, metavar="N", help="threads of PyTorch's operations (default: PyTorch's)")
    parser.add_argument("--json", action="store_true", help="print the points as JSON")
    add_data_arguments(parser, stores=False)
    add_generation_arguments(parser.add_argument_group("generation, as in fairseq-generate"))


def run(args) -> None:
    from .. import sweep

    at_least_one(args, "timed_sentences", "repeats", "threads")
    found = sweep(
        named_checkpoints(args.path), data_of(args), args.output,
        {stack: getattr(args, stack) for stack in STACKS if getattr(args, stack)}, args.rules, args.plans, args.metric,
        {name: getattr(args, name) for name in SETTINGS}, args.remove_bpe, args.timed_sentences, args.repeats,
        args.threads, args.tokenize, args.tokenizer,
    )  # fmt: skip
    if args.json:
        print(json.dumps({"run": dict(found.run), "points": list(map(asdict, found.points))}, indent=1))
        return
    print(f"wrote {args.output}: {len(found.points)} points in sweep.jsonl, and pictures")
    print(f"use: fairseq-layerdrop choose {args.output} --max-latency 30ms, fairseq-layerdrop report {args.output}")
