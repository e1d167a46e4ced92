"""The best point of a sweep for a budget."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.errors import UserError
from ..base.files import StrPath
from .points import Point, Sweep, better, is_lower_better, read_sweep


@dataclass(frozen=True)
class Cost:
    """Something that a smaller model has less of.

    Attributes:
        name: in words.
        unit: in which :attr:`of` tells it, of a sentence.
        of: the cost of a point.
    """

    name: str
    unit: str
    of: Callable[[Point], float]

    def unit_of(self, point: Point) -> str:
        """The unit for a model that may look at blocks instead of sentences."""
        return self.unit.replace("sentence", point.item)


COSTS = {
    "latency": Cost("latency", "ms a sentence", lambda point: 1e3 * point.latency["median"]),
    "params": Cost("parameters", "million", lambda point: point.parameters / 1e6),
    "size": Cost("size of the weights", "MB", lambda point: point.bytes / 1e6),
    "multiply-adds": Cost("multiply-adds", "million a token", lambda point: point.multiply_adds / 1e6),
    "memory": Cost("peak memory", "MB", lambda point: point.peak_memory / 1e6),
    "time": Cost("time in batches", "ms a sentence", lambda point: 1e3 / point.throughput["median"]),
}
# Units that a limit may be given in, as factors to the cost's own.
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_COUNTS = {"": 1e-6, "K": 1e-3, "M": 1.0, "G": 1e3, "B": 1e3}
_SIZES = {"": 1e-6, "B": 1e-6, "KB": 1e-3, "MB": 1.0, "GB": 1e3}
UNITS = {
    "latency": _TIMES,
    "params": _COUNTS,
    "size": _SIZES,
    "multiply-adds": _COUNTS,
    "memory": _SIZES,
    "time": _TIMES,
}


def parse_limit(cost: str, text: str) -> float:
    """A limit like 30ms, 60M or 100MB, in the unit of a cost of :data:`COSTS`.

    Raises:
        ValueError: the text isn't a number above 0 with one of the cost's units.
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    value = float(number) * UNITS[cost][text[len(number) :].strip()] if text[len(number) :] in UNITS[cost] else 0.0
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


@dataclass(frozen=True)
class Bounds:
    """What a user can afford and wants at least.

    Attributes:
        costs: the most of some of :data:`COSTS`, in their units.
        scores: the worst that is good enough of some scores.
        models: the names of models to choose from; of all where it is empty.
    """

    costs: Mapping[str, float]
    scores: Mapping[str, float]
    models: tuple[str, ...] = ()

    def allow(self, point: Point) -> bool:
        return (
            (not self.models or point.model in self.models)
            and all(COSTS[name].of(point) <= most for name, most in self.costs.items())
            and all(
                name in point.quality and not better(name, worst, point.quality[name])
                for name, worst in self.scores.items()
            )
        )


def best(points: Iterable[Point], bounds: Bounds, least: str | None = None) -> Point | None:
    """The best point within *bounds*; None where there is none.

    Args:
        points: of one sweep.
        bounds: what is allowed.
        least: a cost of :data:`COSTS`: take the point that has least of it, not the one with the best score. Of equal
            ones the better, and the one with fewer parameters, is taken.
    """
    allowed = [point for point in points if bounds.allow(point)]
    if not allowed:
        return None

    def rank(point: Point) -> tuple[float, ...]:
        score = point.quality[point.metric] * (1 if is_lower_better(point.metric) else -1)
        return (COSTS[least].of(point), score) if least else (score, point.parameters)

    return min(allowed, key=rank)


def pareto(points: Sequence[Point], cost: str) -> list[Point]:
    """The points to which no other is better and at most as costly, or cheaper and at least as good; cheapest first."""
    front: list[Point] = []
    score = points[0].metric if points else ""
    sign = 1 if is_lower_better(score) else -1
    for point in sorted(points, key=lambda point: (COSTS[cost].of(point), sign * point.quality[score])):
        if not front or better(score, point.quality[score], front[-1].quality[score]):
            front.append(point)
    return front


def nearest(points: Iterable[Point], bounds: Bounds) -> str:
    """Why nothing fits: for each bound by itself the best that there is, in words.

    Raises:
        UserError: no point is of the models asked for, or none has such a score.
    """
    points = list(points)
    candidates = [point for point in points if not bounds.models or point.model in bounds.models]
    if not candidates:
        known = ", ".join(dict.fromkeys(point.model for point in points))
        raise UserError(f"there is no model {' or '.join(bounds.models)} in this sweep; its models are {known}")
    reasons = []
    for name in bounds.costs:
        cost = COSTS[name]
        reasons.append(f"the least {cost.name} is {min(map(cost.of, candidates)):.4g} {cost.unit_of(candidates[0])}")
    for name in bounds.scores:
        found = [point.quality[name] for point in candidates if name in point.quality]
        if not found:
            raise UserError(f"this sweep has no {name}; its scores are {', '.join(candidates[0].quality)}")
        reasons.append(f"the best {name} is {min(found) if is_lower_better(name) else max(found):.4g}")
    return ", ".join(reasons)


def commands(sweep: Sweep, point: Point) -> dict[str, str]:
    """The shell commands that use a point: ``use``, to run it on the sweep's data, and ``export``."""
    run = sweep.run
    stacks = tuple(point.depths)
    subset = "--valid-subset" if stacks == ("encoder",) else "--gen-subset"
    prune = ["--prune-layers", point.prune_layers] if point.prune_layers else []
    words = [run["data"], "--path", point.path, "--task", point.task, *point.task_flags, subset, run["subset"]]
    if len(stacks) > 1:
        words += _flags(run["generation"])
        words += ["--remove-bpe", run["remove_bpe"]] if run.get("remove_bpe") else []
    for name in ("max_tokens", "batch_size"):
        words += [f"--{name.replace('_', '-')}", str(run[name])] if run.get(name) else []
    alone = {"decoder": "fairseq-eval-lm", "encoder": "fairseq-validate"}
    program = "fairseq-generate" if len(stacks) > 1 else alone[stacks[0]]
    words += ["--required-batch-size-multiple", "1", *(["--cpu"] if run.get("cpu") else [])]
    words += ["--skip-invalid-size-inputs-valid-test"] if "encoder" in stacks else []
    words += ["--model-overrides", run["overrides"]] if run["overrides"] != "{}" else []
    user_dir = shlex.quote(run["user_dir"]) if run.get("user_dir") else '"$(fairseq-layerdrop user-dir)"'
    exported = f"{point.model}-{'pruned' if prune else 'exported'}.pt"
    return {
        "use": f"{program} {shlex.join([*words, *prune])} --user-dir {user_dir}",
        "export": shlex.join(["fairseq-layerdrop", "export", point.path, *prune, "-o", exported]),
    }


def _flags(generation: Mapping[str, Any]) -> list[str]:
    """Settings of fairseq's generator as flags."""
    words = []
    for name, value in generation.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not False:
            words += [flag, str(value)]
    return words


# Limit -> names of the score, of which a sweep's first counts.
SCORES = {
    "bleu": ("BLEU",), "rouge_1": ("rouge1",), "rouge_2": ("rouge2",), "rouge_l": ("rougeLsum", "rougeL"),
    "accuracy": ("accuracy",), "loss": ("loss",), "perplexity": ("perplexity",),
}  # fmt: skip


def limit_names() -> dict[str, str]:
    """The limits that :func:`choose` knows, each with the cost of :data:`COSTS` or the score of :data:`SCORES`."""
    costs = {f"max_{name.replace('-', '_')}": name for name in COSTS}
    worst = {name: "max" if is_lower_better(names[0]) else "min" for name, names in SCORES.items()}
    return {**costs, **{f"{bound}_{name}": name for name, bound in worst.items()}}


@dataclass(frozen=True)
class Choice:
    """What :func:`choose` chose.

    Attributes:
        point: the best of the sweep.
        commands: those that use it; see :func:`commands`.
        least: the cost of which it has the least; None where its score decided.
        sentences: how many the scores are of; None for the whole subset.
    """

    point: Point
    commands: Mapping[str, str]
    least: str | None
    sentences: int | None


def choose(
    folder: StrPath, least: str | None = None, models: Sequence[str] = (), **limits: str | float | None
) -> Choice:
    """The best point of a sweep within limits.

    >>> choose("sweep", max_latency="30ms", min_bleu=34)  # doctest: +SKIP

    Args:
        folder: of the sweep.
        least: take what costs least of this within the limits, one of :data:`COSTS`. By default the best score is
            taken, or, where only scores are limited, the least latency.
        models: names of the models to choose from; all by default.
        limits: see :func:`limit_names`; those of costs with their unit, as ``30ms``.

    Raises:
        UserError: there is no sweep, no limit, or nothing within the limits.
        TypeError: there is no such limit.
    """
    sweep, names = read_sweep(folder), limit_names()
    costs, scores = {}, {}
    for key, value in limits.items():
        if key not in names:
            raise TypeError(f"choose() has no limit '{key}'; the limits are {', '.join(names)}")
        if value is None:
            continue
        if names[key] in COSTS:
            costs[names[key]] = value if isinstance(value, float) else parse_limit(names[key], str(value))
        else:
            known = SCORES[names[key]]
            scores[next(filter(sweep.points[0].quality.__contains__, known), known[0])] = float(value)
    bounds = Bounds(costs, scores, tuple(models))
    if not costs and not scores and not least:
        raise UserError("say what the budget is, for instance --max-latency 30ms, --max-params 60M or --min-bleu 34")
    least = least or ("latency" if scores and not costs else None)
    reasons = nearest(sweep.points, bounds)
    point = best(sweep.points, bounds, least)
    if point is None:
        raise UserError(f"none of the {len(sweep.points)} points fits: {reasons}")
    return Choice(point, commands(sweep, point), least, sweep.run["sentences"])
