"""``fairseq-layerdrop sensitivity DATA --path CKPT -o DIR``."""

import json
import os
import time
from collections.abc import Iterator, Mapping

from ..plan import STACKS
from .data_flags import add_data_arguments, at_least_one, data_of


def add_arguments(parser) -> None:
    parser.add_argument("--path", metavar="CKPT", required=True, help="checkpoint of the full model")
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True,
        help="folder for sensitivity.json, .png and .svg, and for .scores, from which the same command goes on",
    )  # fmt: skip
    parser.add_argument(
        "--stacks", choices=(*STACKS, "both"), default="both", help="stacks whose layers are removed (default: both)"
    )
    parser.add_argument(
        "--samples", type=int, default=20, metavar="N",
        help="number of random half-depth sub-networks for each layer (default: 20)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the random sub-networks (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_data_arguments(parser)


def run(args) -> None:
    from .. import sensitivity

    at_least_one(args, "samples")
    started = time.perf_counter()
    measured = sensitivity(args.path, data_of(args), args.output, args.stacks, args.samples, args.seed)
    found = measured.result
    if int(os.environ.get("RANK", 0)) != 0:
        return
    if args.json:
        print(json.dumps(found, indent=1))
        return
    origin = found["origin"]
    print(f"loss of the full model: {found['loss']:.4f} bits per {origin['target']}")
    for stack in dict.fromkeys(row["unit"].partition(".")[0] for row in found["layers"]):
        print("\n".join(["", *_table(found, stack)]))
    files = f"{args.output}/sensitivity.json, .png and .svg"
    ran = f"{measured.evaluations:,.0f} layers and sub-layers run, " if measured.evaluations else ""
    print(
        f"\nwrote {files}: {origin['tokens']:,} {origin['target']}s of {origin['subset']}, "
        f"{ran}{time.perf_counter() - started:.1f} s"
    )


def _table(found: Mapping, stack: str) -> Iterator[str]:
    """The lines of a stack's table, one a layer: what its removals add to the loss, and the sub-networks without it."""
    increases: dict[str, dict[str, float]] = {}
    for row in (*found["layers"], *found["sub_layers"]):
        where, number, *name = row["unit"].split(".")
        if where == stack:
            increases.setdefault(number, {})[name[0] if name else "layer"] = row["increase"]
    names = list(dict.fromkeys(name for row in increases.values() for name in row))
    halves = {row["unit"]: row for row in found["half_depth"]}
    yield f"{stack}: increase of the loss without a layer, or a sub-layer of it; loss of sub-networks without it"
    yield "".join(f"{name:>14}" for name in ("", *names)) + f"   {len(increases) // 2} layers"
    for number, row in increases.items():
        cells = [f"{row[name]:>+14.4f}" if name in row else " " * 14 for name in names]
        half = halves.get(f"{stack}.{number}")
        yield f"{number:>14}{''.join(cells)}   {_half(half) if half else '-'}"
    if len(increases) < 2:
        yield f"the {stack} has fewer than 2 layers, and so no sub-networks of half its depth"


def _half(row: Mapping) -> str:
    scored, error = len(row["subnetworks"]), row["standard_error"]
    if scored == row["existing"]:
        return f"{row['mean']:.4f} (all {scored})"
    return f"{row['mean']:.4f}{'' if error is None else f' ± {error:.4f}'} ({scored})"
