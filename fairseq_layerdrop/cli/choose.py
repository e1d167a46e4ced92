"""``fairseq-layerdrop choose DIR``."""

import argparse
import json
from dataclasses import asdict

from ..reports.choice import COSTS, SCORES, limit_names, parse_limit

_EXAMPLES = {
    "latency": "30ms", "params": "60M", "size": "200MB", "multiply-adds": "50M", "memory": "1GB", "time": "10ms",
}  # fmt: skip


def _limit(cost: str):
    def parse(text: str) -> float:
        try:
            return parse_limit(cost, text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not like {_EXAMPLES[cost]}") from None

    return parse


def add_arguments(parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of a sweep")
    for name, what in limit_names().items():
        flag = f"--{name.replace('_', '-')}"
        if what in COSTS:
            unit = COSTS[what].unit.replace("sentence", "sentence or block")
            text = f"most {COSTS[what].name}, {unit}"
            parser.add_argument(flag, type=_limit(what), metavar=_EXAMPLES[what], help=text)
        else:
            text = f"{name[:3]}imum {', else '.join(SCORES[what])}"
            parser.add_argument(flag, type=float, metavar="X", help=text)
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME", help="choose from these models only")
    parser.add_argument(
        "--least", choices=COSTS,
        help="choose the point that costs least of this within the limits; without it the one of the best score, or, "
        "where only scores are limited, of the least latency",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args) -> None:
    from ..reports.choice import choose

    limits = {name: getattr(args, name) for name in limit_names()}
    chosen = choose(args.folder, args.least, args.model, **limits)
    point = chosen.point
    if args.json:
        print(json.dumps({**asdict(point), "commands": chosen.commands}, indent=1))
        return
    least = f"the least {COSTS[chosen.least].name}, then " if chosen.least else ""
    print(f"chosen by   {least}the best {point.metric}")
    print(f"model       {point.model}, {point.path}")
    print(f"plan        {point.prune_layers or 'the whole model'}")
    print(f"keeps       {point.kept}")
    print(f"scores      {', '.join(f'{name} {value:.4g}' for name, value in point.quality.items())}")
    for cost in COSTS.values():
        print(f"{cost.name}: {cost.of(point):.4g} {cost.unit_of(point)}")
    low, high = (1e3 * point.latency[end] for end in ("low", "high"))
    print(f"latency's 10th to 90th percentile: {low:.4g}-{high:.4g} ms")
    print(f"run it:     {chosen.commands['use']}")
    if chosen.sentences is not None:
        print(f"            it scores the whole subset; the scores above are of its first {chosen.sentences} alone")
    print(f"export it:  {chosen.commands['export']}")
