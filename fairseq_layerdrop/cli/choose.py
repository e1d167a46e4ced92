"""``fairseq-layerdrop choose DIR``."""

import argparse
import json
from dataclasses import asdict

from ..base.errors import UserError
from ..reports.choice import COSTS, Bounds, best, commands, nearest, parse_limit
from ..reports.points import LOWER_IS_BETTER, read_sweep

HELP = "the best plan of a sweep for a budget, with the commands to use it"
_EXAMPLES = {
    "latency": "30ms", "params": "60M", "size": "200MB", "multiply-adds": "50M", "memory": "1GB", "time": "10ms",
}  # fmt: skip
# flag -> names of the score, of which a sweep's first counts
_SCORES = {
    "bleu": ("BLEU",), "rouge-1": ("rouge1",), "rouge-2": ("rouge2",), "rouge-l": ("rougeLsum", "rougeL"),
    "accuracy": ("accuracy",), "loss": ("loss",), "perplexity": ("perplexity",),
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
    for name, cost in COSTS.items():
        told = f"{cost.name}, {cost.unit.replace('sentence', 'sentence or block')}"
        parser.add_argument(f"--max-{name}", type=_limit(name), metavar=_EXAMPLES[name], help=told)
    for flag, names in _SCORES.items():
        which = "max" if names[0] in LOWER_IS_BETTER else "min"
        told = f"{which}imum {', else '.join(names)}"
        parser.add_argument(f"--{which}-{flag}", type=float, metavar="X", dest=flag, help=told)
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME", help="choose from these models")
    parser.add_argument(
        "--least", choices=COSTS,
        help="take what costs least of this within the bounds; without it the best score, or, where only scores are "
        "bounded, the least latency",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args) -> None:
    sweep = read_sweep(args.folder)
    costs = {name: getattr(args, f"max_{name.replace('-', '_')}") for name in COSTS}
    has = sweep.points[0].quality
    scores = {next(filter(has.__contains__, names), names[0]): getattr(args, flag) for flag, names in _SCORES.items()}
    bounds = Bounds(
        {name: most for name, most in costs.items() if most is not None},
        {name: worst for name, worst in scores.items() if worst is not None},
        tuple(args.model),
    )
    if not bounds.costs and not bounds.scores and not args.least:
        raise UserError("say what the budget is, for instance --max-latency 30ms, --max-params 60M or --min-bleu 34")
    least = args.least or ("latency" if bounds.scores and not bounds.costs else None)
    reasons = nearest(sweep.points, bounds)
    point = best(sweep.points, bounds, least)
    if point is None:
        raise UserError(f"none of the {len(sweep.points)} points fits: {reasons}")
    told = commands(sweep, point)
    if args.json:
        print(json.dumps({**asdict(point), "commands": told}, indent=1))
        return
    spread = point.latency
    print(f"chosen by   {f'the least {COSTS[least].name}, then ' if least else ''}the best {point.metric}")
    print(f"model       {point.model}, {point.path}")
    print(f"plan        {point.prune_layers or 'the whole model'}")
    print(f"keeps       {point.kept}")
    print(f"scores      {', '.join(f'{name} {value:.4g}' for name, value in point.quality.items())}")
    for cost in COSTS.values():
        print(f"{cost.name}: {cost.of(point):.4g} {cost.unit_of(point)}")
    print(f"latency's 10th to 90th percentile: {1e3 * spread['low']:.4g}-{1e3 * spread['high']:.4g} ms")
    print(f"run it:     {told['use']}")
    if (first := sweep.run["sentences"]) is not None:
        print(f"            it scores the whole subset; the scores above are of its first {first} alone")
    print(f"export it:  {told['export']}")
