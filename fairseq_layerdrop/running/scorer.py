"""Scores of many plans: with a log to go on from, on one process or several, with progress shown."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import distributed
from tqdm import tqdm

from ..base.errors import UserError
from ..plan import Unit, unit_name
from .engine import Engine, Measure

FORMAT = "fairseq-layerdrop scores"
_SECONDS_BETWEEN_LINES = 30


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
    """Scores in a file with a line each, which is there at once; a run that is started again reads them.

    Of several processes each writes a file of its own, and all read all.

    Args:
        path: the first process's file; the others' have their rank behind its name. None keeps nothing.
        run: what the scores are of: model, data, metric. Scores of another run are refused.
        processes: those of this run.
        other: how the user gives another log.

    Raises:
        UserError: the file is of another run, or not of this kind.
    """

    def __init__(self, path: Path | None, run: Mapping, processes: "Processes", other: str = "another with --log"):
        self.known: dict[tuple[str, int], float] = {}
        self.file = None
        self.other = other
        if path is None:
            return
        run = json.loads(json.dumps(run))
        for old in sorted([path, *path.parent.glob(f"{path.name}.*")]):
            if old.is_file() and (old == path or old.suffix[1:].isdigit()):
                self._read(old, run)
        for known in processes.gather(self.known):  # nobody writes before all have read, and all know the same
            self.known.update(known)
        own = path if processes.rank == 0 else path.with_name(f"{path.name}.{processes.rank}")
        try:
            self.file = own.open("ab+")
            self.file.seek(0)
            self.file.truncate(self.file.read().rfind(b"\n") + 1)  # a killed process may have left a part of a line
        except OSError as error:
            raise UserError(f"cannot write {own}: {error.strerror or error}") from error
        self.run = run

    def _read(self, path: Path, run: Mapping) -> None:
        whole = path.read_bytes().split(b"\n")[:-1]
        try:
            head = json.loads(whole[0]) if whole else {"format": FORMAT, "run": run}
            known = {(entry["without"], entry["part"]): float(entry["score"]) for entry in map(json.loads, whole[1:])}
            described = dict(head["run"])
            if head["format"] != FORMAT:
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a log of scores; give {self.other}, or remove it") from error
        for name, value in run.items():
            if described.get(name) != value:
                raise UserError(
                    f"{path} is the log of another run: {difference(name, described.get(name), value)}; "
                    f"give {self.other}, or remove it"
                )
        self.known.update(known)

    def _write(self, line: Mapping) -> None:
        if self.file.seek(0, os.SEEK_END) == 0:  # a run that ends before its first score leaves no trace
            self.file.write(f"{json.dumps({'format': FORMAT, 'run': self.run})}\n".encode())
        self.file.write(f"{json.dumps(line)}\n".encode())
        self.file.flush()

    def add(self, without: str, part: int, score: float) -> None:
        self.known[without, part] = score
        if self.file:
            self._write({"without": without, "part": part, "score": score})


def difference(name: str, old: object, new: object) -> str:
    """In which setting two runs differ, in words."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return next(difference(key, old.get(key), value) for key, value in new.items() if old.get(key) != value)
    if str(new).startswith("sha256:"):
        return {"data": "it looked at other data", "fingerprint": "it is of another checkpoint"}.get(
            name, f"other {name}"
        )
    return f"its {name} is {old}, not {new}"


def _without(name: str) -> str:
    return f"without {name}" if name else "of the full model"


class Scorer:
    """Scores plans by what they leave out, each once.

    Args:
        engine: runs the plans.
        sublayers: whether the units are sub-layers.
        measure: what is summed over the data.
        total: what the sum is divided by: number of tokens, or of sentences.
        log: where scores are kept.
        processes: who shares the work.
        name: of the metric, for the progress bar.
    """

    def __init__(
        self, engine: Engine, sublayers: bool, measure: Measure, total: float, log: ScoreLog, processes: Processes,
        name: str = "score",
    ):  # fmt: skip
        self.engine = engine
        self.units = engine.units(sublayers)
        self.measure = measure
        self.total = total
        self.log = log
        self.processes = processes
        self.name = name
        self._order = {unit: number for number, unit in enumerate(self.units)}
        self._bar = tqdm(unit=" plans", desc=name, disable=None) if processes.rank == 0 else None
        self._best = ""
        self._lowest = math.inf
        self._scored, self._told = 0, time.monotonic()

    def name_of(self, dropped: Sequence[Unit]) -> str:
        """The units that a plan leaves out, as the log has them."""
        return ",".join(unit_name(unit) for unit in sorted(dropped, key=self._order.__getitem__))

    def kept(self, dropped: Sequence[Unit]) -> tuple[Unit, ...]:
        """What is left without *dropped*, in running order."""
        dropped = set(dropped)
        return tuple(unit for unit in self.units if unit not in dropped)

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
            share = -(-len(missing) // self.processes.size)
            mine = missing[self.processes.rank * share :][:share]
            for name in mine:
                score = self.engine.score(self.kept(by_name[name]), self.measure, part)
                if not math.isfinite(score):
                    raise UserError(f"the {self.name} {_without(name)} is {score}; the model or the data is broken")
                self.log.add(name, part, score)
                self._show(name, part)
            for theirs in self.processes.gather({name: self.log.known[name, part] for name in mine}):
                self.log.known.update({(name, part): score for name, score in theirs.items()})
        return [self._total(name) for name in names]

    def _total(self, name: str) -> float:
        return math.fsum(self.log.known[name, part] for part in range(self.engine.parts)) / self.total

    def _show(self, name: str, part: int) -> None:
        """A bar on a terminal, and elsewhere a line now and then."""
        if self._bar is None:
            return
        self._scored += 1
        if part == self.engine.parts - 1:
            score = self._total(name)
            if score < self._lowest:
                self._lowest, self._best = score, f"best so far {score:.4f} {_without(name)}"
        self._bar.set_postfix_str(self._best, refresh=False)
        self._bar.update()
        if self._bar.disable and time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            print(f"{self._scored:,} plans scored, {self._best}", flush=True)
