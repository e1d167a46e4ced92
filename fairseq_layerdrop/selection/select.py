"""Choosing what to keep of a checkpoint's model, and writing it down."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..evaluation import Metric
from ..plan import Ladder, Plan, unit_name, write_ladder, write_plan
from ..running.engine import Engine
from ..running.generation import Generation
from ..running.loading import Data, Loaded, data_fingerprint, load_data
from ..running.measures import Distance, loss, tokens
from ..running.scorer import Processes, ScoreLog, Scorer
from ..running.settings import DEFAULTS, GENERATED
from ..version import __version__
from .budget import Budget, protected_ends
from .methods import METHODS, Method
from .problem import Selection, SelectionProblem


@dataclass(frozen=True)
class Selected:
    """What :func:`select` chose.

    Attributes:
        chosen: a plan, or a ladder with a plan of every size.
        selection: what is removed, in order, with scores.
        origin: how it was chosen, as the file says it.
        what: what is removed: ``layers`` or ``sub-layers``.
        evaluations: number of them that were run.
        target: what the data was counted in: ``token`` or ``label``.
    """

    chosen: Plan | Ladder
    selection: Selection
    origin: Mapping
    what: str
    evaluations: float
    target: str


def _metric(method: Method, metric: str | None) -> str | None:
    if metric is not None and metric not in method.metrics:
        right = f"its metrics are {', '.join(method.metrics)}" if len(method.metrics) > 1 else "it has its own"
        raise UserError(f"{method.name} has no --metric {metric}; {right}")
    return metric or next(iter(method.metrics), None)


def _options(method: Method, given: Mapping) -> dict:
    """What the method is told beside its problem.

    Raises:
        UserError: an option is of another method.
    """
    for name, value in given.items():
        if value is not None and name not in method.options:
            methods = [other.name for other in METHODS.values() if name in other.options]
            raise UserError(f"--{name.replace('_', '-')} is for {' and '.join(methods)}, not {method.name}")
    return {**method.options, **{name: value for name, value in given.items() if value is not None}}


def _budget(
    method: Method, engine: Engine, sublayers: bool, keep: Mapping[str, int], keep_total: int | None, stacks: str,
    protect_first: int | None, protect_last: int | None,
) -> Budget:  # fmt: skip
    if keep and (keep_total is not None or stacks != "both"):
        raise UserError("--keep says which stacks it is about; leave out --keep-total and --stacks")
    units = engine.units(sublayers)
    names = tuple(keep) or (tuple(engine.structure) if stacks == "both" else (stacks,))
    if min(value or 0 for value in (protect_first, protect_last)) < 0:
        raise UserError("--protect-first and --protect-last must be at least 0")
    first, last = (
        default if given is None else given
        for given, default in zip((protect_first, protect_last), method.protects, strict=True)
    )
    budget = Budget(units, names, keep, keep_total, protected_ends(units, first, last))
    if not budget.removable([]):
        raise UserError(
            f"there is nothing to remove: all {budget.what} are to be kept or protected "
            "(--protect-first 0 --protect-last 0 protects none)"
        )
    return budget


def _check_output(output: Path, log: Path | None, force: bool) -> None:
    if output.suffix != ".json":
        raise UserError(f"{output} must be named .json, so that --prune-layers knows it")
    if log is not None and log.absolute() == output.absolute():
        raise UserError(f"--log and OUT are both {output}; give them different names")
    if output.is_dir():
        raise UserError(f"{output} is a folder; give a file's name")
    if output.exists() and not force:
        raise UserError(f"{output} exists; give another name, or --force to replace it")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"cannot write into {output.parent}; is it there?")


def _scorer(
    loaded: Loaded, engine: Engine, name: str, sublayers: bool, settings: dict, text_metric: Metric | None,
    log: ScoreLog,
) -> Scorer:  # fmt: skip
    """What scores plans by a metric: the mean over tokens, or over sentences for distances that speak of these."""
    if text_metric is not None:
        return Scorer(Generation(engine, loaded.task, settings, name, text_metric), sublayers, None, 1, log, name)
    if name == "loss":
        total = sum(tokens(sample, loaded.target_pad) for sample in engine.samples)
        return Scorer(engine, sublayers, loss(loaded.model, loaded.criterion), total, log, name)
    distance = Distance(engine, name, loaded.target_pad)
    by_tokens = distance.by == "tokens"
    total = sum(tokens(sample, loaded.target_pad) if by_tokens else len(sample["target"]) for sample in engine.samples)
    return Scorer(engine, sublayers, distance, total, log, name)


def select(
    path, data: Data, method: str, output, *, keep: Mapping[str, int] | None = None, keep_total: int | None = None,
    stacks: str = "both", unit: str | None = None, metric: str | None = None, protect_first: int | None = None,
    protect_last: int | None = None, generation: Mapping | None = None, remove_bpe: str | None = None,
    tokenize: str | None = None, tokenizer: str | None = None, log=None, force: bool = False, **options,
) -> Selected:  # fmt: skip
    """Choose by data what to keep of a model, and write a plan, or a ladder, for ``--prune-layers``.

    Methods that score plan after plan note each score at once, and a run started again goes on. Several processes of
    torchrun share the plans.

    Args:
        path: checkpoint of the whole model.
        data: what to look at.
        method: one of :data:`~.methods.METHODS`.
        output: the ``.json`` file to write.
        keep: number of layers, or sub-layers, to keep of each stack named. Without it and *keep_total* a ladder is
            written, down to one layer.
        keep_total: number to keep of all stacks together.
        stacks: where *keep_total* or a ladder may remove: ``encoder``, ``decoder`` or ``both``.
        unit: what ``search`` removes: ``layer`` or ``sublayer``.
        metric: by what to score plans; the method's own by default.
        protect_first: never remove the first so many layers of a stack.
        protect_last: never remove the last so many.
        generation: settings of fairseq's generator, for metrics of generated text.
        remove_bpe: how subwords are joined, for these.
        tokenize: sacreBLEU's tokenizer.
        tokenizer: that of ROUGE of summaries.
        log: file of scores; ``OUTPUT.scores`` by default.
        force: replace *output* if it exists.
        options: of the method: ``threshold``, ``protect_share``, ``max_plans``, ``beam_width``.

    Raises:
        UserError: an argument, the checkpoint or the data is wrong.
    """
    chosen_by, output, processes = METHODS[method], Path(output), Processes()
    if unit is not None and chosen_by.sublayers is not None:
        raise UserError(f"--unit is for search, not {method}")
    sublayers = unit == "sublayer" if chosen_by.sublayers is None else chosen_by.sublayers
    metric, known = _metric(chosen_by, metric), _options(chosen_by, options)
    words = {"remove_bpe": remove_bpe, "tokenize": tokenize, "tokenizer": tokenizer}
    words = {name: value for name, value in words.items() if value is not None}
    changed = [name for name, value in (generation or {}).items() if value != DEFAULTS[name]]
    if metric not in GENERATED and (changed or words):
        name = [*changed, *words][0]
        raise UserError(f"--{name.replace('_', '-')} is for search --metric bleu or rouge, which generate")
    settings = {**DEFAULTS, **(generation or {})}
    text_metric = Metric(GENERATED[metric][0], **words) if metric in GENERATED else None
    if known.get("threshold") is not None and (keep or keep_total is not None):
        raise UserError("--threshold says how much goes; leave out --keep and --keep-total")
    if log is not None and not chosen_by.metrics:
        scoring = ", ".join(other.name for other in METHODS.values() if other.metrics)
        raise UserError(f"--log is for {scoring}; {method} looks at the data once")
    _check_output(output, None if log is None else Path(log), force)
    loaded, samples = load_data(path, data)
    engine = Engine(loaded.model, loaded.structure, samples, data.memory)
    budget = _budget(chosen_by, engine, sublayers, keep or {}, keep_total, stacks, protect_first, protect_last)
    run: dict[str, Any] = {
        "metric": metric, "fingerprint": loaded.fingerprint, "overrides": data.overrides,
        "data": data_fingerprint(samples), "subset": data.subset,
        "tokens": sum(tokens(sample, loaded.target_pad) for sample in samples),
        "device": next(loaded.model.parameters()).device.type, "version": __version__,
    }  # fmt: skip
    if metric in GENERATED:
        run["generation"] = {**settings, "remove_bpe": None, **words}

    def scorer(name: str) -> Scorer:
        described = run if name in GENERATED else {**run, "parts (--memory)": engine.parts}
        scores = ScoreLog(Path(log or f"{output}.scores"), described, processes)
        of_text = text_metric if name in GENERATED else None
        return _scorer(loaded, engine, name, sublayers, settings, of_text, scores)

    problem = SelectionProblem(
        engine, budget, loaded.pad, loaded.criterion, scorer, metric, {**known, "importance": loaded.importance}
    )
    selection = chosen_by(problem)
    if not selection.removals:
        raise UserError(f"{method} would remove nothing")
    score = None if selection.score is None else (-1 if metric in GENERATED else 1) * selection.score
    origin = {
        "method": method, "checkpoint": Path(path).name, **run, "score": score,
        "options": {name: value for name, value in known.items() if value is not None}
        | {"protected": [unit_name(unit) for unit in budget.units if unit in budget.protected]},
    }  # fmt: skip
    is_ladder = budget.is_ladder and selection.nested
    chosen = selection.ladder(engine.structure, origin) if is_ladder else selection.plan(engine.structure)
    if processes.rank == 0:
        write_ladder(chosen, output) if isinstance(chosen, Ladder) else write_plan(chosen, output, origin)
    return Selected(chosen, selection, origin, budget.what, engine.evaluations, loaded.target)
