"""The table of Sajjad et al. (2020, 2004.03844): a task's score by what was dropped before fine-tuning.

``python -m fairseq_layerdrop.reports.glue_table RESULT.json …`` puts the first scores of several tasks, as
``scripts/glue/compare.sh`` wrote them, side by side.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.journal import Record, append_lines
from ..base.tables import table

# Section 3 of the paper, with its "symmetric" called middle. The last one looks at data.
STRATEGIES = ("top", "bottom", "middle", "odd_alternate", "even_alternate", "contribution")
FULL = "full"
RANDOM = "random weights"
MAJORITY = "majority class"


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    Attributes:
        model: name of the pre-trained model, or :data:`RANDOM`.
        strategy: one of :data:`STRATEGIES`, or :data:`FULL`.
        dropped: number of layers dropped.
        seed: of the classification head, the order of examples, and dropout.
    """

    model: str
    strategy: str
    dropped: int
    seed: int


@dataclass(frozen=True)
class Row:
    """What a run gave.

    Attributes:
        run: which one.
        layers: the layers that were dropped, counted from 0.
        parameters: the model's number of parameters, with its head for masks, which a classifier keeps unused.
        scores: score by name, times 100, the one to compare by first.
        tuning: seconds of fine-tuning.
        inference: seconds for dev.
        settings: what else the scores depend on, the same for all runs of a table.
        start: digest of what training began with, a pre-trained model or a shape.
        machine: on which it ran.
    """

    run: Run
    layers: tuple[int, ...]
    parameters: int
    scores: Mapping[str, float]
    tuning: float
    inference: float
    settings: Mapping[str, Any]
    start: str
    machine: str

    @property
    def record(self) -> Record:
        """All of it, flat, as JSON takes it."""
        return {**vars(self.run), **{name: value for name, value in vars(self).items() if name != "run"}}

    @classmethod
    def of(cls, record: Record) -> "Row":
        """The row of a :attr:`record`."""
        rest = dict(record)
        run = Run(**{name: rest.pop(name) for name in Run.__dataclass_fields__})
        return cls(run, tuple(rest.pop("layers")), **rest)


@dataclass(frozen=True)
class Mean:
    """Runs that differ in their seed alone.

    Attributes:
        model: see :class:`Run`; so are *strategy* and *dropped*.
        seeds: number of runs.
        layers: see :class:`Row`; so are *parameters* and *scores*, which are means.
        spread: standard deviation of each score between seeds (n - 1); none of one run.
        share: the first score, in percent of the same model's without pruning.
        tuning_speedup: seconds to fine-tune a full model, over those with as many layers dropped, whichever. The
            fastest runs count, of all models, which have one shape: other work on the machine can only slow one down.
        inference_speedup: the same ratio of the seconds to predict dev.
    """

    model: str
    strategy: str
    dropped: int
    seeds: int
    layers: tuple[int, ...]
    parameters: int
    scores: dict[str, float]
    spread: dict[str, float]
    share: float | None
    tuning_speedup: float | None
    inference_speedup: float | None


def runs_of(model: str, counts: Sequence[int], strategies: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """The runs of a comparison, in order: seed by seed, so that there is a whole table early.

    Args:
        model: its name.
        counts: numbers of layers to drop; 0 stands for the full model, and for one with random weights.
        strategies: how to choose them.
        seeds: one run each.
    """
    runs = []
    for seed in seeds:
        if 0 in counts:
            runs += [Run(model, FULL, 0, seed), Run(RANDOM, FULL, 0, seed)]
        runs += [Run(model, strategy, count, seed) for count in counts if count for strategy in strategies]
    return runs


def read_rows(path: Path) -> dict[Run, Row]:
    """The rows of a file, one a line; a line that a kill has cut doesn't count, and a missing file has none."""
    rows: dict[Run, Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = Row.of(json.loads(line))
        except json.JSONDecodeError:
            continue
        rows.setdefault(row.run, row)
    return rows


def add_row(path: Path, row: Row) -> None:
    """Append a row, in place of a line that a kill has cut."""
    append_lines(path, [row.record])


def means_of(rows: Iterable[Row]) -> list[Mean]:
    """Means over seeds: random weights first, then the models as they come, each in full first."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    alike: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.run.model, row.run.strategy, row.run.dropped), []).append(row)
        alike.setdefault(row.run.dropped, []).append(row)
    models = list(dict.fromkeys(model for model, _, _ in groups))
    models.sort(key=lambda model: model != RANDOM)
    strategies = (FULL, *STRATEGIES)
    order = sorted(groups, key=lambda key: (models.index(key[0]), key[2], strategies.index(key[1])))
    return [_mean(groups[key], groups.get((key[0], FULL, 0)), alike) for key in order]


def _mean(rows: Sequence[Row], full: Sequence[Row] | None, alike: Mapping[int, Sequence[Row]]) -> Mean:
    def mean(of_rows: Sequence[Row], name: str) -> float:
        return statistics.fmean(row.scores[name] for row in of_rows)

    def ratio(above: float, below: float) -> float | None:
        return above / below if below else None

    def speedup(seconds: Callable[[Row], float]) -> float | None:
        return ratio(*(min(map(seconds, alike[dropped])) for dropped in (0, run.dropped))) if timed else None

    run, names = rows[0].run, list(rows[0].scores)
    timed = run.dropped > 0 and 0 in alike
    scores = {name: mean(rows, name) for name in names}
    return Mean(
        **{name: value for name, value in vars(run).items() if name != "seed"},
        seeds=len(rows),
        layers=rows[0].layers,
        parameters=rows[0].parameters,
        scores=scores,
        spread={name: statistics.stdev(row.scores[name] for row in rows) for name in names} if rows[1:] else {},
        share=ratio(100 * scores[names[0]], mean(full, names[0])) if run.dropped and full else None,
        tuning_speedup=speedup(lambda row: row.tuning),
        inference_speedup=speedup(lambda row: row.inference),
    )


def _with_spread(value: float, spread: float | None) -> str:
    return f"{value:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def to_markdown(title: str, majority: Mapping[str, float], means: Sequence[Mean], how: str) -> str:
    """The table under its title.

    Args:
        title: a line.
        majority: scores of the most frequent class; none for a task without classes.
        means: what was measured, at least one.
        how: a sentence on how, for under the table.
    """
    names = list(means[0].scores)

    def of(value: float | None, form: str, unit: str = "") -> str:
        return "" if value is None else f"{value:{form}}{unit}"

    headings = ["model", "strategy", "layers dropped", *names, "% of full", "parameters", "fine-tuning", "inference"]
    lines = []
    if majority:
        lines.append([MAJORITY, "", "", *(f"{majority[name]:.1f}" for name in names), "", "", "", ""])
    for mean in means:
        scores = [_with_spread(mean.scores[name], mean.spread.get(name)) for name in names]
        cells = [of(mean.share, ".1f"), f"{mean.parameters:,}"]
        cells += [of(speedup, ".2f", "x") for speedup in (mean.tuning_speedup, mean.inference_speedup)]
        lines.append([mean.model, mean.strategy, ", ".join(map(str, mean.layers)), *scores, *cells])
    counts = sorted({mean.seeds for mean in means})
    seeds = "-".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    return (
        f"{title}\n\n{table(headings, lines, left=3)}\n\n"
        f"Mean ± standard deviation over seeds ({seeds} a row); layers counted from 0; speed-ups over the full model, "
        f"by the fastest of all runs with as many layers dropped. {how}\n"
    )


def side_by_side(results: Sequence[Mapping[str, Any]]) -> str:
    """A table of the first score of several tasks, a row for what was dropped and a column for each task and model.

    Args:
        results: what ``scripts/glue/compare.sh`` wrote into each task's ``result.json``.

    Raises:
        UserError: two are of the same task and model.
    """
    columns: dict[str, dict[tuple[int, str], str]] = {}
    for result in results:
        means = result["means"]
        first = next(iter(means[0]["scores"]))
        cells: dict[str, dict[tuple[int, str], str]] = {}
        for mean in means:
            name = RANDOM if mean["model"] == RANDOM else mean["strategy"]
            score = _with_spread(mean["scores"][first], mean["spread"].get(first))
            cells.setdefault(mean["model"], {})[mean["dropped"], name] = score
        without = cells.pop(RANDOM, {})
        if result["majority"]:
            without[0, MAJORITY] = f"{result['majority'][first]:.1f}"
        for model, scores in cells.items():
            heading = f"{result['task']}, {model}: {first}"
            if heading in columns:
                raise UserError(f"two results are of {result['task']} and {model}; give one of them")
            columns[heading] = without | scores
    order = (MAJORITY, RANDOM, FULL, *STRATEGIES)
    rows = sorted({row for scores in columns.values() for row in scores}, key=lambda row: (row[0], order.index(row[1])))
    lines = [[str(row[0]), row[1], *(scores.get(row, "") for scores in columns.values())] for row in rows]
    return table(["layers dropped", "strategy", *columns], lines, left=2) + "\n"


def read_result(path: Path) -> dict[str, Any]:
    """A task's ``result.json``.

    Raises:
        UserError: it isn't there, or is none that ``scripts/glue/compare.sh`` wrote.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except ValueError:
        result = None
    if not isinstance(result, dict) or not {"task", "majority", "means"} <= result.keys():
        raise UserError(f"{path} is no result.json of scripts/glue/compare.sh")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json")
    args = parser.parse_args()
    print(side_by_side(list(map(read_result, args.results))), end="")


if __name__ == "__main__":
    main()
