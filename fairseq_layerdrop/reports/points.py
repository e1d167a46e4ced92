"""The points of a sweep, in a file with a line each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.files import StrPath
from ..base.journal import Journal, Record, read_journal

NAME = "sweep.jsonl"
_KIND = {"format": "fairseq-layerdrop sweep", "version": 1}
_LOWER_IS_BETTER = ("loss", "perplexity")
_REMEDY = "give another folder"


@dataclass(frozen=True)
class Point:
    """One model, pruned in one way.

    Attributes:
        model: the model's name in the sweep.
        path: its checkpoint.
        fingerprint: SHA-256 of the whole model's weights.
        task: fairseq's task to run it with.
        task_flags: what it must be told to see the data as here.
        prune_layers: what is kept, as ``--prune-layers`` says; None for the whole model.
        kept: the same in words.
        depths: for each stack how many layers are kept, and of how many.
        parameters: number of them.
        bytes: of the weights.
        multiply_adds: for each target token, with the target given; of an encoder alone for each of its tokens.
        quality: scores by name, the one to compare by first.
        signature: how it was computed.
        latency: seconds of an :attr:`item` by itself: ``median``, ``low``, ``high`` (10th, 90th percentile), ``count``.
        throughput: items per second in batches, with the same keys.
        peak_memory: in bytes.
    """

    model: str
    path: str
    fingerprint: str
    task: str
    task_flags: Sequence[str]
    prune_layers: str | None
    kept: str
    depths: Mapping[str, tuple[int, int]]
    parameters: int
    bytes: int
    multiply_adds: float
    quality: Mapping[str, float]
    signature: str
    latency: Mapping[str, float]
    throughput: Mapping[str, float]
    peak_memory: int

    @property
    def key(self) -> tuple[str, str | None]:
        return self.model, self.prune_layers

    @property
    def metric(self) -> str:
        """Name of the score to compare by."""
        return next(iter(self.quality))

    @property
    def item(self) -> str:
        """What its times are of: a sentence, or of running text the block that a model looks at."""
        flags = dict(zip(self.task_flags, self.task_flags[1:]))
        if flags.get("--sample-break-mode", "eos") == "eos":
            return "sentence"
        return f"block of {flags['--tokens-per-sample']} tokens"

    @property
    def layers(self) -> int:
        """Number of layers kept of all stacks."""
        return sum(kept for kept, _ in self.depths.values())


def is_lower_better(metric: str) -> bool:
    """Whether less of a score is better; of ``perplexity by word`` as of ``perplexity``."""
    return metric.startswith(_LOWER_IS_BETTER)


def better(metric: str, a: float, b: float) -> bool:
    """Whether *a* is a better score than *b*."""
    return a < b if is_lower_better(metric) else a > b


@dataclass(frozen=True)
class Sweep:
    """A sweep's file: how the points were measured, and the points."""

    run: Mapping[str, Any]
    points: tuple[Point, ...]

    @property
    def metric(self) -> str:
        return self.points[0].metric


def read_sweep(folder: StrPath) -> Sweep:
    """The sweep in *folder*.

    Raises:
        UserError: there is none, it has no points, or it isn't a sweep's file.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise UserError(f"no {NAME} in {folder}; make one with fairseq-layerdrop sweep DATA --path CKPT -o {folder}")
    run, records = read_journal(path, _KIND, _REMEDY)
    if not records:
        raise UserError(f"{path} has no points yet")
    return Sweep(run, _points(path, records))


def _points(path: Path, records: Sequence[Record]) -> tuple[Point, ...]:
    try:
        return tuple(Point(**record) for record in records)
    except TypeError as error:
        raise UserError(f"{path} has a line that isn't a point of a sweep; {_REMEDY}") from error


class SweepFile:
    """Points of a sweep in a folder, each there as soon as it is measured; a sweep that is started again goes on.

    Args:
        folder: is made where it isn't there.
        run: how the points are measured. Points that were measured in another way are refused.

    Raises:
        UserError: the folder has another sweep, or can't be written.
    """

    def __init__(self, folder: StrPath, run: Mapping[str, Any]):
        self.path = Path(folder) / NAME
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._journal = Journal(self.path, _KIND, run, _REMEDY)
        self.points = list(_points(self.path, self._journal.records))

    def known(self, model: str, prune_layers: str | None, fingerprint: str, kept: str) -> bool:
        """Whether a point is measured.

        Raises:
            UserError: the model's name is that of another model, or the plan's that of another plan.
        """
        for point in self.points:
            if point.model == model and point.fingerprint != fingerprint:
                raise UserError(f"'{model}' is another model in {self.path}; name this one otherwise, --path NAME=CKPT")
            if point.key == (model, prune_layers) and point.kept != kept:
                raise UserError(
                    f"{prune_layers} was another plan when {self.path} measured it; give it another name, or another "
                    "folder"
                )
        return (model, prune_layers) in {point.key for point in self.points}

    def add(self, point: Point) -> None:
        self._journal.add(asdict(point))
        self.points.append(point)
