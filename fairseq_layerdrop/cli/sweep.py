"""``fairseq-layerdrop sweep DATA --path CKPT -o DIR``."""

import argparse
import itertools
import logging
import multiprocessing
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait

import torch
from fairseq.tasks import TASK_REGISTRY
from tqdm import tqdm

from ..analysis.point import Measured, measure_point
from ..base.errors import UserError
from ..evaluation import TEXT_METRICS, add_word_arguments
from ..evaluation.cost import machine
from ..plan import LADDER_FORMAT, LEARNED, RULES, STACKS, Details, Plan, Structure, parse, read_format, read_ladder
from ..reports.choice import COSTS
from ..reports.drawing import pyplot, save
from ..reports.points import Point, SweepFile, read_sweep
from ..reports.sweep_pictures import draw_all
from ..running.generation import SETTINGS
from ..surgery import details_of, fingerprint, load_checkpoint, structure_of
from ..tasks import LayerDropSentencePredictionTask, our_task
from ..version import __version__
from .data_flags import (
    add_data_arguments,
    add_generation_arguments,
    add_paths_argument,
    at_least_one,
    be_quiet,
    import_user_dir,
    max_tokens,
    named_checkpoints,
)

HELP = "measure quality, size, speed and memory of models at each depth, with pictures"


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
        group.add_argument(f"--{stack}", type=_depths, metavar="1-6", help=f"{stack} layers to keep; with both, a grid")
    told = "by which layers are kept, learned where a training learned it (default: every_other)"
    group.add_argument("--rules", nargs="+", choices=(*RULES, LEARNED), help=told)
    group.add_argument(
        "--plans", nargs="+", default=[], metavar="FILE",
        help="plans, and ladders at each depth; depths by rules then only with --encoder, --decoder or --rules",
    )  # fmt: skip
    group = parser.add_argument_group("quality")
    group.add_argument(
        "--metric", choices=("loss", "accuracy", *TEXT_METRICS), default="loss",
        help="beside loss: accuracy of classifiers, the others of models that translate (default: loss)",
    )  # fmt: skip
    add_word_arguments(group)
    group = parser.add_argument_group("speed")
    group.add_argument("--timed-sentences", type=int, default=100, metavar="N", help="the first N (default: 100)")
    group.add_argument("--repeats", type=int, default=3, metavar="N", help="default: 3")
    group.add_argument("--threads", type=int, metavar="N", help="default: PyTorch's")
    add_data_arguments(parser, stores=False)
    add_generation_arguments(parser.add_argument_group("generation, as in fairseq-generate"))


_TRANSLATE, _CLASSIFY = "translate", "classify"


@dataclass(frozen=True)
class _Model:
    """A model to be measured."""

    name: str
    path: str
    fingerprint: str
    task: str
    whole: Structure
    details: Details

    @property
    def depths(self) -> dict[str, int]:
        return {stack: len(layers) for stack, layers in self.whole.items()}

    def kept(self, plan: str | None) -> str:
        """What a plan keeps of it, in words.

        Raises:
            PlanError: the plan doesn't fit it.
        """
        return str(parse(plan).resolve(self.whole, self.details) if plan else Plan.whole(self.whole))

    @property
    def does(self) -> str:
        """What it does, in words."""
        if len(self.depths) > 1:
            return _TRANSLATE
        if "decoder" in self.depths:
            return "model language"
        classifies = issubclass(TASK_REGISTRY[self.task], LayerDropSentencePredictionTask)
        return _CLASSIFY if classifies else "fill in masks"


def _model(name: str, path: str) -> _Model:
    checkpoint = load_checkpoint(path)
    whole = structure_of(checkpoint)
    return _Model(name, path, fingerprint(checkpoint["model"]), our_task(checkpoint), whole, details_of(checkpoint))


def _keep(depths: Mapping[str, int], kept: Mapping[str, int], rule: str) -> str | None:
    """The text for ``--prune-layers`` that keeps so many layers of some stacks; None where that is all."""
    parts = [f"{stack}=keep:{count}@{rule}" for stack, count in kept.items() if count < depths[stack]]
    return "/".join(parts) or None


def plans_for(
    depths: Mapping[str, int], wanted: Mapping[str, Sequence[int]], rules: Sequence[str] | None, files: Sequence[str]
) -> Iterator[str | None]:
    """What to measure of a model, each once, the whole model first: texts for ``--prune-layers``, None for it.

    Args:
        depths: depth of each of its stacks.
        wanted: for some stacks the numbers of layers to keep; all combinations are measured by each rule. Without any,
            where there are rules or no files, it is every depth of the last stack.
        rules: names of rules; every_other by default.
        files: plans, and ladders, of which every depth is measured.

    Raises:
        UserError: the model hasn't such a stack, or not so many layers.
    """
    for stack, counts in wanted.items():
        if stack not in depths:
            raise UserError(f"--{stack}: this model has no {stack}, only {' and '.join(depths)}")
        if max(counts) > depths[stack]:
            raise UserError(f"--{stack}: can keep 1 to {depths[stack]} layers, not {max(counts)}")
    if not wanted and (rules or not files):
        last = list(depths)[-1]
        wanted = {last: range(depths[last], 0, -1)}
    seen: dict[str | None, None] = {None: None}
    for rule in rules or ["every_other"]:
        for counts in itertools.product(*wanted.values()):
            seen.setdefault(_keep(depths, dict(zip(wanted, counts)), rule))
    for file in files:
        for text in _of_file(file):
            seen.setdefault(text)
    return iter(seen)


def _of_file(file: str) -> Iterator[str]:
    if not file.endswith(".json"):
        raise UserError(f"--plans takes plans and ladders, .json files, not {file}")
    if read_format(file) != LADDER_FORMAT:
        yield file
        return
    ladder = read_ladder(file)
    stacks = {stack for stack, *_ in ladder.removals}
    prefix = f"{min(stacks)}=" if len(stacks) == 1 else ""
    for count in range(1, len(ladder.removals) + 1):
        yield f"{prefix}drop:{count}@{file}"


def _end_with_parent() -> None:
    """Let this process end as soon as the one that started it has, whatever killed that."""

    def watch():
        wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _measure(user_dir: str | None, path: str, prune_layers: str | None, how: Measured) -> dict | str:
    """In a process of its own; a user's mistake comes back as its line."""
    be_quiet()
    logging.getLogger("fairseq_layerdrop").setLevel(logging.WARNING)  # what is pruned stands in the point's line
    import_user_dir(user_dir)
    try:
        return measure_point(path, prune_layers, how)
    except SystemExit as error:
        return str(error)


def run(args) -> None:
    at_least_one(args, "sentences", "timed_sentences", "repeats", "threads", "max_tokens", "batch_size")
    import_user_dir(args.user_dir)
    pyplot()  # tell of a missing matplotlib before hours of work
    threads = args.threads or torch.get_num_threads()
    models = [_model(name, path) for name, path in named_checkpoints(args.path).items()]
    does, *others = dict.fromkeys(model.does for model in models)
    if others:
        raise UserError(f"models that {does} and models that {others[0]} have no score in common; sweep them apart")
    needed = {"loss": does, "accuracy": _CLASSIFY}.get(args.metric, _TRANSLATE)
    if does != needed:
        raise UserError(f"--metric {args.metric} is for models that {needed}, and these {does}; take loss")
    generation = {name: getattr(args, name) for name in SETTINGS} if does == _TRANSLATE else {}
    how = Measured(
        args.data, args.gen_subset, args.sentences, max_tokens(args), args.batch_size, args.metric, generation,
        args.remove_bpe, args.timed_sentences, args.repeats, threads, args.cpu, args.model_overrides, args.tokenize,
        args.tokenizer,
    )  # fmt: skip
    how.text_metric  # noqa: B018  tells of a wrong tokenizer before anything is measured
    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    described = {
        **vars(how), "user_dir": args.user_dir, "machine": machine(device), "torch": torch.__version__,
        "version": __version__,
    }  # fmt: skip
    wanted = {stack: getattr(args, stack) for stack in STACKS if getattr(args, stack)}
    todo = [(model, plan) for model in models for plan in plans_for(model.depths, wanted, args.rules, args.plans)]
    kept = [model.kept(plan) for model, plan in todo]
    file = SweepFile(args.output, described)
    missing = [
        (model, plan)
        for (model, plan), what in zip(todo, kept, strict=True)
        if not file.known(model.name, plan, model.fingerprint, what)
    ]
    with tqdm(total=len(todo), initial=len(todo) - len(missing), unit=" points", disable=None) as bar:
        for model, plan in missing:
            point = _point(args.user_dir, model, plan, how)
            file.add(point)
            bar.update()
            bar.write(_line(point))
    sweep = read_sweep(args.output)
    paths = save(draw_all(sweep), args.output)
    print(f"wrote {file.path}: {len(sweep.points)} points; {', '.join(path.name for path in paths)}")
    print(f"use: fairseq-layerdrop choose {args.output} --max-latency 30ms, fairseq-layerdrop report {args.output}")


def _point(user_dir: str | None, model: _Model, plan: str | None, how: Measured) -> Point:
    """A point, measured in a process of its own: what another left in memory or in caches doesn't count."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_end_with_parent) as process:
        try:
            found = process.submit(_measure, user_dir, model.path, plan, how).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"measuring {plan or 'the whole model'} ended without a result: too little memory? "
                "Take smaller batches, --max-tokens; what is measured is kept"
            ) from error
    if isinstance(found, str):
        raise UserError(found.removeprefix("error: "))
    known = {"model": model.name, "path": model.path, "fingerprint": model.fingerprint, "task": model.task}
    return Point(**known, prune_layers=plan, **found)


def _line(point: Point) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in list(point.quality.items())[:2])
    latency, time = (f"{COSTS[name].of(point):.4g} {COSTS[name].unit_of(point)}" for name in ("latency", "time"))
    return (
        f"{point.model} {point.prune_layers or 'whole'}: {scores}, {point.parameters:,} parameters, "
        f"{latency}, {time} in batches"
    )
