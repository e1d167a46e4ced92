"""Quality, size, speed and memory of models at each depth."""

import functools
import itertools
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait

import torch
from fairseq.tasks import TASK_REGISTRY

from ..base.errors import UserError
from ..base.progress import Progress
from ..evaluation.cost import machine
from ..plan import LADDER_FORMAT, ModelFacts, Plan, Structure, parse, read_format, read_ladder
from ..reports.choice import COSTS
from ..reports.drawing import pyplot, save
from ..reports.points import Point, Sweep, SweepFile, read_sweep
from ..reports.sweep_pictures import draw_all
from ..running.loading import Data, be_quiet, import_user_dir
from ..running.settings import DEFAULTS
from ..surgery.checkpoint import Checkpoint
from ..tasks import LayerDropSentencePredictionTask, prunable_task
from ..version import __version__
from .point import MeasureSettings, measure_point

_TRANSLATE, _CLASSIFY = "translate", "classify"


@dataclass(frozen=True)
class _Model:
    """A model to be measured."""

    name: str
    path: str
    fingerprint: str
    task: str
    whole: Structure
    facts: ModelFacts

    @property
    def depths(self) -> dict[str, int]:
        return {stack: len(layers) for stack, layers in self.whole.items()}

    def kept(self, plan: str | None) -> str:
        """What a plan keeps of it, in words.

        Raises:
            PlanError: the plan doesn't fit it.
        """
        return str(parse(plan).resolve(self.whole, self.facts) if plan else Plan.whole(self.whole))

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
    checkpoint = Checkpoint.load(path)
    task = prunable_task(checkpoint.task)
    return _Model(name, path, checkpoint.fingerprint, task, checkpoint.structure, checkpoint.facts)


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


@functools.cache
def _context() -> multiprocessing.context.BaseContext:
    """How processes start: as forks of one that has imported fairseq and done nothing else, where the system can."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([measure_point.__module__])
    return context


def _end_with_parent() -> None:
    """Let this process end as soon as the one that started it has, whatever killed that."""

    def watch():
        wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _measure(path: str, prune_layers: str | None, settings: MeasureSettings) -> dict | UserError:
    """In a process of its own; a user's mistake comes back."""
    be_quiet()
    logging.getLogger("fairseq_layerdrop").setLevel(logging.WARNING)  # what is pruned stands in the point's line
    import_user_dir(settings.user_dir)
    try:
        return measure_point(path, prune_layers, settings)
    except UserError as error:
        return error


def _point(model: _Model, plan: str | None, settings: MeasureSettings) -> Point:
    """A point, measured in a process of its own: what another left in memory or in caches doesn't count."""
    with ProcessPoolExecutor(1, _context(), initializer=_end_with_parent) as process:
        try:
            found = process.submit(_measure, model.path, plan, settings).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"measuring {plan or 'the whole model'} ended without a result: too little memory? "
                "Take smaller batches, --max-tokens; what is measured is kept"
            ) from error
    if isinstance(found, UserError):
        raise found
    return Point(model.name, model.path, model.fingerprint, model.task, prune_layers=plan, **found)


def _line(point: Point) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in list(point.quality.items())[:2])
    latency, time = (f"{COSTS[name].of(point):.4g} {COSTS[name].unit_of(point)}" for name in ("latency", "time"))
    return (
        f"{point.model} {point.prune_layers or 'whole'}: {scores}, {point.parameters:,} parameters, "
        f"{latency}, {time} in batches"
    )


def sweep(
    paths: Mapping[str, str], data: Data, output, depths: Mapping[str, Sequence[int]] | None = None,
    rules: Sequence[str] | None = None, plans: Sequence[str] = (), metric: str = "loss",
    generation: Mapping | None = None, remove_bpe: str | None = None, timed_sentences: int = 100, repeats: int = 3,
    threads: int | None = None, tokenize: str | None = None, tokenizer: str | None = None,
) -> Sweep:  # fmt: skip
    """Measure models at each depth; write ``sweep.jsonl`` and pictures.

    Each point is measured in a process of its own and noted at once; a sweep that is started again goes on.

    Args:
        paths: checkpoints by the names of their models.
        data: what to measure on.
        output: folder for the results.
        depths: for some stacks the numbers of layers to keep, all combinations of them; see :func:`plans_for`.
        rules: by which layers are kept; ``every_other`` by default.
        plans: files of plans, and of ladders, of which every depth is measured.
        metric: ``loss``, ``accuracy`` of classifiers, or one of :data:`~fairseq_layerdrop.evaluation.TEXT_METRICS`.
        generation: settings of fairseq's generator, by name; the others are fairseq's defaults.
        remove_bpe: how subwords are joined, as in fairseq-generate.
        timed_sentences: number of sentences, or blocks, to time.
        repeats: times to repeat each timing.
        threads: of PyTorch's operations; PyTorch's default where it is None.
        tokenize: sacreBLEU's tokenizer.
        tokenizer: that of ROUGE of summaries.

    Raises:
        UserError: an argument, a checkpoint or the data is wrong, or the folder has another sweep.
    """
    import_user_dir(data.user_dir)
    pyplot()  # tell of a missing matplotlib before hours of work
    threads = threads or torch.get_num_threads()
    models = [_model(name, path) for name, path in paths.items()]
    does, *others = dict.fromkeys(model.does for model in models)
    if others:
        raise UserError(f"models that {does} and models that {others[0]} have no score in common; sweep them apart")
    needed = {"loss": does, "accuracy": _CLASSIFY}.get(metric, _TRANSLATE)
    if does != needed:
        raise UserError(f"--metric {metric} is for models that {needed}, and these {does}; take loss")
    settings = MeasureSettings(
        data.folder, data.subset, data.sentences, data.most_tokens, data.batch_size, metric,
        {**DEFAULTS, **(generation or {})} if does == _TRANSLATE else {}, remove_bpe, timed_sentences, repeats, threads,
        data.cpu, data.overrides, data.user_dir, tokenize, tokenizer,
    )  # fmt: skip
    settings.text_metric  # noqa: B018 - tells of a wrong tokenizer before anything is measured
    device = torch.device("cuda" if torch.cuda.is_available() and not data.cpu else "cpu")
    run = {**vars(settings), "machine": machine(device), "torch": torch.__version__, "version": __version__}
    todo = [(model, plan) for model in models for plan in plans_for(model.depths, depths or {}, rules, plans)]
    kept = [model.kept(plan) for model, plan in todo]
    file = SweepFile(output, run)
    missing = [
        (model, plan)
        for (model, plan), what in zip(todo, kept, strict=True)
        if not file.known(model.name, plan, model.fingerprint, what)
    ]
    with Progress("sweep", "points", len(todo), len(todo) - len(missing)) as progress:
        for model, plan in missing:
            point = _point(model, plan, settings)
            file.add(point)
            progress.update()
            progress.write(f"{progress.place} {_line(point)}")
    found = read_sweep(output)
    save(draw_all(found), output)
    return found
