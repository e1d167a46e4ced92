"""Scores of many plans: with a log to go on from, on one process or several, with progress shown."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import distributed

from ..base.errors import UserError
from ..base.journal import Journal
from ..base.progress import Progress
from ..plan import Unit, unit_name
from .engine import Engine
from .generation import Generation

FORMAT = "fairseq-layerdrop scores"


class Processes:
    """The processes of this run: one, or those that torchrun started."""

    def __init__(self):
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        if self.size > 1 and not {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
            raise UserError("WORLD_SIZE is set without RANK, MASTER_ADDR and MASTER_PORT; start this by torchrun")
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo")  # Python's objects are all that is sent

    def gather(self, value) -> list:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        distributed.all_gather_object(values, value)
        return values


class ScoreLog:
    """Scores of plans in a journal, for a run that is started again.

    Args:
        path: the first process's file; the others' have their rank behind its name. None keeps nothing.
        run: what the scores are of: model, data, metric. Scores of another run are refused.
        processes: those of this run.
        other: how the user gives another log.

    Raises:
        UserError: the file is of another run, or not of this kind.
    """

    def __init__(self, path: Path | None, run: Mapping, processes: Processes, other: str = "another with --log"):
        self.known: dict[tuple[str, int], float] = {}
        self.processes = processes
        self._journal = None
        if path is None:
            return
        remedy = f"give {other}, or remove it"
        own = path if processes.rank == 0 else path.with_name(f"{path.name}.{processes.rank}")
        others = [old for old in sorted(path.parent.glob(f"{path.name}.*")) if old.suffix[1:].isdigit()]
        journals = {old: Journal(old, {"format": FORMAT}, run, remedy) for old in dict.fromkeys([path, *others, own])}
        for journal in journals.values():
            for record in journal.records:
                try:
                    self.known[record["without"], record["part"]] = float(record["score"])
                except (KeyError, TypeError, ValueError) as error:
                    raise UserError(f"{journal.path} isn't a file of the format '{FORMAT}'; {remedy}") from error
        for known in processes.gather(self.known):  # nobody writes before all have read, and all know the same
            self.known.update(known)
        self._journal = journals[own]

    def add(self, without: str, part: int, score: float) -> None:
        self.known[without, part] = score
        if self._journal is not None:
            self._journal.add({"without": without, "part": part, "score": score})


def _without(name: str) -> str:
    return f"without {name}" if name else "of the full model"


class Scorer:
    """Scores plans by what they leave out, each once.

    Args:
        engine: runs the plans.
        sublayers: whether the units are sub-layers.
        measure: what is summed over the data; None for a :class:`.generation.Generation`, which has its own.
        total: what the sum is divided by: number of tokens, or of sentences.
        log: where scores are kept; its processes share the work.
        name: of the metric, for the progress bar.
    """

    def __init__(
        self, engine: Engine | Generation, sublayers: bool, measure, total: float, log: ScoreLog,
        name: str = "score",
    ):  # fmt: skip
        self.engine = engine
        self.units = engine.units(sublayers)
        self.measure = measure
        self.total = total
        self.log = log
        self.name = name
        self._order = {unit: number for number, unit in enumerate(self.units)}
        self._progress = Progress(name, "plans", shown=log.processes.rank == 0)
        self._best = ""
        self._lowest = math.inf

    def name_of(self, dropped: Sequence[Unit]) -> str:
        """The units that a plan leaves out, as the log has them."""
        return ",".join(unit_name(unit) for unit in sorted(dropped, key=self._order.__getitem__))

    def kept(self, dropped: Sequence[Unit]) -> tuple[Unit, ...]:
        """What is left without *dropped*, in running order."""
        gone = set(dropped)
        return tuple(unit for unit in self.units if unit not in gone)

    def scores(self, candidates: Sequence[Sequence[Unit]]) -> list[float]:
        """The scores of the model without each of *candidates*.

        Raises:
            UserError: a score isn't a number.
        """
        self._lowest, self._best = math.inf, ""
        names = [self.name_of(dropped) for dropped in candidates]
        by_name = dict(zip(names, candidates))
        order = sorted(by_name, key=lambda name: [self._order[unit] for unit in self.kept(by_name[name])])
        for part in range(self.engine.parts):
            missing = [name for name in order if (name, part) not in self.log.known]
            share = -(-len(missing) // self.log.processes.size)
            mine = missing[self.log.processes.rank * share :][:share]
            for name in mine:
                score = self.engine.score(self.kept(by_name[name]), self.measure, part)
                if not math.isfinite(score):
                    raise UserError(f"the {self.name} {_without(name)} is {score}; the model or the data is broken")
                self.log.add(name, part, score)
                self._show(name, part)
            for theirs in self.log.processes.gather({name: self.log.known[name, part] for name in mine}):
                self.log.known.update({(name, part): score for name, score in theirs.items()})
        return [self._total(name) for name in names]

    def _total(self, name: str) -> float:
        return math.fsum(self.log.known[name, part] for part in range(self.engine.parts)) / self.total

    def _show(self, name: str, part: int) -> None:
        if part == self.engine.parts - 1:
            score = self._total(name)
            if score < self._lowest:
                self._lowest, self._best = score, f"best so far {score:.4f} {_without(name)}"
        self._progress.update(self._best)
