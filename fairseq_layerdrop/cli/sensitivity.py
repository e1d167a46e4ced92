"""``fairseq-layerdrop sensitivity DATA --path CKPT -o DIR``."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..analysis.sensitivity import FORMAT, VERSION, chosen_stacks, sensitivity
from ..base.errors import UserError
from ..base.files import write_atomically
from ..plan import STACKS
from ..reports.drawing import pyplot, save
from ..reports.sensitivity_picture import draw_sensitivity
from ..running.engine import Engine
from ..running.loading import data_fingerprint
from ..running.measures import loss, tokens
from ..running.scorer import Processes, ScoreLog, Scorer
from ..version import __version__
from .data_flags import add_data_arguments, at_least_one, load_data

HELP = "tell what each layer and sub-layer is worth: the loss without it, and that of random sub-networks without it"


def add_arguments(parser) -> None:
    parser.add_argument("--path", metavar="CKPT", required=True, help="checkpoint of the full model")
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True,
        help="folder for sensitivity.json, .png and .svg, and for .scores, from which the same command goes on",
    )  # fmt: skip
    parser.add_argument("--stacks", choices=(*STACKS, "both"), default="both", help="where to look (default: both)")
    parser.add_argument(
        "--samples", type=int, default=20, metavar="N", help="random half-depth sub-networks a layer (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of their draws (default: 1)")
    add_data_arguments(parser)


def run(args) -> None:
    started = time.perf_counter()
    output = Path(args.output)
    processes = Processes()
    at_least_one(args, "samples")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; give a folder's name")
    pyplot()  # tell of a missing matplotlib before hours of work
    loaded, samples = load_data(args)
    stacks = chosen_stacks(loaded.structure, args.stacks)
    engine = Engine(loaded.model, loaded.structure, samples, args.memory)
    count = sum(tokens(sample, loaded.target_pad) for sample in samples)
    described = {
        "metric": "loss", "fingerprint": loaded.fingerprint, "overrides": args.model_overrides,
        "data": data_fingerprint(samples), "subset": args.gen_subset, "tokens": count,
        "device": next(loaded.model.parameters()).device.type, "version": __version__,
    }  # fmt: skip
    origin = {
        "checkpoint": Path(args.path).name, **described, "target": loaded.target, "samples": args.samples,
        "seed": args.seed,
    }  # fmt: skip
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {output}: {error.strerror or error}") from error
    log = ScoreLog(
        output / "sensitivity.scores", {**described, "parts (--memory)": engine.parts}, processes, "another DIR"
    )

    def scorer(sublayers: bool) -> Scorer:
        return Scorer(engine, sublayers, loss(loaded.model, loaded.criterion), count, log, processes, "loss")

    found = sensitivity(loaded.structure, stacks, scorer, args.samples, args.seed)
    seconds = time.perf_counter() - started
    if processes.rank == 0:
        told = {"format": FORMAT, "version": VERSION, "origin": origin, **found}
        with write_atomically(output / "sensitivity.json") as file:
            file.write(f"{json.dumps(told, indent=1)}\n".encode())
        save({"sensitivity": draw_sensitivity(told)}, output)
        print(f"loss of the full model: {told['loss']:.4f} bits per {loaded.target}")
        for stack in stacks:
            print("\n".join(["", *_table(told, stack)]))
        ran = f"{engine.evaluations:,.0f} layers and sub-layers run, " if engine.evaluations else ""
        print(
            f"\nwrote {output}/sensitivity.json, .png and .svg: {count:,} {loaded.target}s of {args.gen_subset}, ",
            end="",
        )
        print(f"{ran}{seconds:.1f} s")


def _table(told: Mapping, stack: str) -> Iterator[str]:
    """The lines of a stack's table, one a layer: what its removals add to the loss, and the sub-networks without it."""
    increases: dict[str, dict[str, float]] = {}
    for row in (*told["layers"], *told["sub_layers"]):
        where, number, *name = row["unit"].split(".")
        if where == stack:
            increases.setdefault(number, {})[name[0] if name else "layer"] = row["increase"]
    names = list(dict.fromkeys(name for row in increases.values() for name in row))
    halves = {row["unit"]: row for row in told["half_depth"]}
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
