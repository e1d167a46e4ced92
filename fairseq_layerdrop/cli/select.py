"""``fairseq-layerdrop select DATA --path CKPT --method METHOD``."""

import argparse
import os
import re
import time
from pathlib import Path

from ..evaluation import Metric, add_word_arguments
from ..plan import STACKS, UserError, unit_name, write_ladder, write_plan
from ..selection import (
    DISTANCES,
    METHODS,
    Answer,
    Budget,
    Distance,
    Engine,
    Generation,
    Processes,
    Question,
    ScoreLog,
    Scorer,
    loss,
    protected_ends,
    tokens,
)
from ..selection.calibration import data_fingerprint
from ..selection.generation import METRICS as GENERATED
from ..selection.generation import SETTINGS
from ..version import __version__
from .data_flags import GENERATION, add_data_arguments, add_generation_arguments, at_least_one, load_data

# What only some methods know: option -> those methods.
OPTIONS = {
    "threshold": ("contribution",),
    "protect_share": ("finercut",),
    "max_plans": ("search",),
    "beam_width": ("search",),
    "unit": ("search",),
}
DEFAULTS = {"protect_share": 0.4, "max_plans": 5000, "beam_width": 8}


HELP = "choose by data which layers or sub-layers to keep, and write a plan or a ladder for --prune-layers"
# What says what a word is in what is generated.
_WORDS = ("remove_bpe", "tokenize", "tokenizer")
# Methods that score plans, and by what where they leave no choice.
SCORING = {"sleb": "loss", "blockpruner": "loss", "finercut": None, "search": None}


def _keep(text: str) -> dict[str, int]:
    found = dict(re.findall(r"(encoder|decoder)=(\d+)", text))
    if not found or ",".join(f"{stack}={count}" for stack, count in found.items()) != text:
        raise argparse.ArgumentTypeError(f"'{text}' is not like encoder=6,decoder=3")
    return {stack: int(count) for stack, count in found.items()}


def add_arguments(parser) -> None:
    parser.add_argument("--path", metavar="CKPT", required=True, help="checkpoint of the full model")
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="plan or ladder to write, a .json file")
    parser.add_argument(
        "--keep", type=_keep, default={}, metavar="encoder=N,decoder=M",
        help="number of layers to keep of each stack named (of sub-layers, for methods that remove these); a stack "
        "that isn't named stays whole. Without this and --keep-total a ladder is written, down to one layer",
    )  # fmt: skip
    parser.add_argument("--keep-total", type=int, metavar="N", help="number to keep of all stacks together")
    parser.add_argument(
        "--stacks", choices=(*STACKS, "both"), default="both", help="where --keep-total or a ladder may remove"
    )
    parser.add_argument("--unit", choices=("layer", "sublayer"), help="what search removes (default: layer)")
    parser.add_argument(
        "--metric", help="of finercut: js, js-reversed, kl, angular, norm; of search: loss, bleu, rouge"
    )
    parser.add_argument("--protect-first", type=int, metavar="N", help="never remove the first N layers of a stack")
    parser.add_argument("--protect-last", type=int, metavar="N", help="nor the last N (taylor: 4 and 2, sleb: 1 and 1)")
    parser.add_argument("--protect-share", type=float, metavar="X", help="of finercut (default: 0.4)")
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="of contribution: remove layers with a cosine above"
    )
    parser.add_argument("--max-plans", type=int, metavar="N", help="search all plans up to so many (default: 5000)")
    parser.add_argument("--beam-width", type=int, metavar="N", help="of the search beyond that (default: 8)")
    add_data_arguments(parser)
    parser.add_argument("--log", metavar="FILE", help="scores, to go on from after a kill (default: OUT.scores)")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    group = parser.add_argument_group("generation, for bleu and rouge, as in fairseq-generate")
    add_generation_arguments(group)
    add_word_arguments(group)


def _metric(args) -> str | None:
    known = {"finercut": tuple(DISTANCES), "search": ("loss", *GENERATED)}.get(args.method, ())
    if args.metric is not None and args.metric not in known:
        right = f"its metrics are {', '.join(known)}" if known else "it has its own"
        raise UserError(f"{args.method} has no --metric {args.metric}; {right}")
    return args.metric or (known[0] if known else SCORING.get(args.method))


def _options(args, metric: str | None) -> dict:
    """What the method is told beside its question.

    Raises:
        UserError: an option is of another method.
    """
    for name, methods in OPTIONS.items():
        if getattr(args, name) is not None and args.method not in methods:
            raise UserError(f"--{name.replace('_', '-')} is for {' and '.join(methods)}, not {args.method}")
    if metric not in GENERATED:
        generation = {name: GENERATION[name].default for name in SETTINGS}
        changed = [name for name, default in generation.items() if getattr(args, name, default) != default]
        changed += [name for name in _WORDS if getattr(args, name) is not None]
        if changed:
            name = changed[0]
            raise UserError(f"--{name.replace('_', '-')} is for search --metric bleu or rouge, which generate")
    if args.threshold is not None and (args.keep or args.keep_total is not None):
        raise UserError("--threshold says how much goes; leave out --keep and --keep-total")
    if args.log is not None and args.method not in SCORING:
        raise UserError(f"--log is for {', '.join(SCORING)}; {args.method} looks at the data once")
    at_least_one(args, "max_plans", "beam_width")
    given = {name: getattr(args, name) for name in ("threshold", *DEFAULTS)}
    return {name: DEFAULTS.get(name) if value is None else value for name, value in given.items()}


def _budget(args, engine: Engine, sublayers: bool, ends: tuple[int, int]) -> Budget:
    if args.keep and (args.keep_total is not None or args.stacks != "both"):
        raise UserError("--keep says which stacks it is about; leave out --keep-total and --stacks")
    units = engine.units(sublayers)
    stacks = tuple(args.keep) or (tuple(engine.structure) if args.stacks == "both" else (args.stacks,))
    if min(value or 0 for value in (args.protect_first, args.protect_last)) < 0:
        raise UserError("--protect-first and --protect-last must be at least 0")
    first, last = (
        default if given is None else given
        for given, default in zip((args.protect_first, args.protect_last), ends, strict=True)
    )
    return Budget(units, stacks, args.keep, args.keep_total, protected_ends(units, first, last))


def run(args) -> None:
    started = time.perf_counter()
    method, sublayers, ends = METHODS[args.method]
    sublayers = args.unit == "sublayer" if sublayers is None else sublayers
    metric = _metric(args)
    options = _options(args, metric)
    words = {name: getattr(args, name) for name in _WORDS}
    text_metric = Metric(GENERATED[metric][0], **words) if metric in GENERATED else None
    output = Path(args.output)
    processes = Processes()
    if output.suffix != ".json":
        raise UserError(f"{output} must be named .json, so that --prune-layers knows it")
    if args.log is not None and Path(args.log).absolute() == output.absolute():
        raise UserError(f"--log and OUT are both {output}; give them different names")
    if output.is_dir():
        raise UserError(f"{output} is a folder; give a file's name")
    if output.exists() and not args.force:
        raise UserError(f"{output} exists; give another name, or --force to replace it")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"cannot write into {output.parent}; is it there?")
    loaded, samples = load_data(args)
    engine = Engine(loaded.model, loaded.structure, samples, args.memory)
    budget = _budget(args, engine, sublayers, ends)
    if not budget.removable([]):
        raise UserError(
            f"there is nothing to remove: all {budget.what} are to be kept or protected "
            "(--protect-first 0 --protect-last 0 protects none)"
        )
    count = sum(tokens(sample, loaded.target_pad) for sample in samples)
    device = next(loaded.model.parameters()).device.type
    origin = {
        "method": args.method, "metric": metric, "checkpoint": Path(args.path).name, "fingerprint": loaded.fingerprint,
        "overrides": args.model_overrides, "data": data_fingerprint(samples), "subset": args.gen_subset,
        "tokens": count, "device": device, "version": __version__,
    }  # fmt: skip
    settings = {key: getattr(args, key) for key in SETTINGS}
    if metric in GENERATED:
        origin["generation"] = {**settings, **words}

    def scorer(name: str) -> Scorer:
        described = {key: value for key, value in origin.items() if key not in ("method", "checkpoint")}
        if name not in GENERATED:
            described["parts (--memory)"] = engine.parts
        log = ScoreLog(Path(args.log or f"{output}.scores"), described, processes)
        runner, measure, total = engine, None, 1
        if name in GENERATED:
            runner = Generation(engine, loaded.task, settings, name, text_metric)
        elif name == "loss":
            measure, total = loss(loaded.model, loaded.criterion), count
        else:
            measure = Distance(engine, name, loaded.target_pad)
            total = count if measure.by == "tokens" else sum(len(sample["target"]) for sample in samples)
        return Scorer(runner, sublayers, measure, total, log, processes, name)

    known = {**options, "importance": loaded.importance}
    answer = method(Question(engine, budget, loaded.pad, loaded.criterion, scorer, metric, known))
    if not answer.removals:
        raise UserError(f"{args.method} would remove nothing")
    seconds = time.perf_counter() - started
    if processes.rank == 0:
        origin["score"] = None if answer.score is None else (-1 if metric in GENERATED else 1) * answer.score
        origin["options"] = {name: value for name, value in options.items() if value is not None} | {
            "protected": [unit_name(unit) for unit in budget.units if unit in budget.protected]
        }
        _write(output, budget, answer, engine, origin)
        ran = f"{engine.evaluations:,.0f} {budget.what} run, " if engine.evaluations else ""
        print(f"wrote {output}: {args.method} on {count:,} {loaded.target}s of {args.gen_subset}, {ran}{seconds:.1f} s")


def _write(output: Path, budget: Budget, answer: Answer, engine: Engine, origin: dict) -> None:
    for unit, score in answer.removals:
        print(f"remove {unit_name(unit):24}{'' if score is None else f'{score:.6g}'}")
    if budget.is_ladder and answer.nested:
        write_ladder(answer.ladder(engine.structure, origin), output)
        stacks = {stack for (stack, *_), _ in answer.removals}
        one = f"{min(stacks)}=" if len(stacks) == 1 else ""
        print(f"use: --prune-layers {one}keep:COUNT@{output}" + ("" if one else ", COUNT of both stacks together"))
    else:
        plan = answer.plan(engine.structure)
        write_plan(plan, output, origin)
        score = "" if origin["score"] is None else f", {origin['metric']} {origin['score']:.6g}"
        print(f"keep {plan}{score}")
        print(f"use: --prune-layers {output}")
