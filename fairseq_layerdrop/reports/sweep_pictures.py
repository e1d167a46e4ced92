"""Pictures of a sweep, as matplotlib's figures."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .choice import COSTS, pareto
from .depths import DepthScore, draw_depths, score_axis, score_label, styles
from .drawing import pyplot
from .points import Point, Sweep, better, is_lower_better

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


def _by_model(points: Sequence[Point]) -> Iterator[tuple[str, list[Point], str, str]]:
    """Each model's name with its points, a colour and a marker."""
    for name, colour, marker in styles([point.model for point in points]):
        yield name, [point for point in points if point.model == name], colour, marker


def _plain_numbers(axis: "Axis") -> None:
    """On a logarithmic axis 20 and 200 rather than 2 x 10^1 and 2 x 10^2."""
    plain = pyplot().matplotlib.ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(plain)


def _shown(sweep: Sweep) -> str:
    """What is drawn of a sweep's metric: perplexity stands for loss, where there is one."""
    scores = sweep.points[0].quality
    return "perplexity" if sweep.metric == "loss" and "perplexity" in scores else sweep.metric


def grids(sweep: Sweep) -> dict[str, dict[tuple[int, ...], Point]]:
    """For each model that was measured at several depths of both stacks, its best points by these depths."""
    metric = sweep.metric
    found: dict[str, dict[tuple[int, ...], Point]] = {}
    for name, points, *_ in _by_model(sweep.points):
        cells: dict[tuple[int, ...], Point] = {}
        for point in points:
            cell = tuple(point.depths[stack][0] for stack in ("encoder", "decoder") if stack in point.depths)
            known = cells.get(cell)
            if known is None or better(metric, point.quality[metric], known.quality[metric]):
                cells[cell] = point
        if all(len(cell) == 2 for cell in cells) and all(len(set(axis)) > 1 for axis in zip(*cells)):
            found[name] = cells
    return found


def draw_grid(sweep: Sweep) -> "Figure | None":
    """A heat map of the score over encoder and decoder layers, one a model; None where no model has both."""
    found, metric = grids(sweep), _shown(sweep)
    if not found:
        return None
    figure: Figure
    figure, (row,) = pyplot().subplots(
        1, len(found), figsize=(0.8 + 4.2 * len(found), 3.8), squeeze=False, layout="constrained"
    )
    values = [point.quality[metric] for cells in found.values() for point in cells.values()]
    logarithmic = metric == "perplexity"  # or one broken plan would leave all others one colour
    colors = pyplot().matplotlib.colors
    norm = (colors.LogNorm if logarithmic else colors.Normalize)(min(values), max(values))
    for axes, (name, cells) in zip(row, found.items()):
        encoders, decoders = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
        table = [[cells[e, d].quality[metric] if (e, d) in cells else float("nan") for d in decoders] for e in encoders]
        colours = "cividis_r" if is_lower_better(metric) else "cividis"
        image = axes.imshow(table, origin="lower", cmap=colours, norm=norm, aspect="auto")
        for i, j in itertools.product(range(len(encoders)), range(len(decoders))):
            if (encoders[i], decoders[j]) in cells:
                shade = sum(image.cmap(image.norm(table[i][j]))[:3]) / 3
                words = f"{table[i][j]:{'.3g' if logarithmic else '.1f'}}"
                axes.text(j, i, words, ha="center", va="center", color="k" if shade > 0.45 else "w")
        axes.set_xticks(range(len(decoders)), decoders)
        axes.set_yticks(range(len(encoders)), encoders)
        axes.set(xlabel="decoder layers kept", title=name)
    row[0].set_ylabel("encoder layers kept")
    bar = figure.colorbar(image, ax=row, label=score_label(metric))
    if logarithmic:
        _plain_numbers(bar.ax.yaxis)
    return figure


def draw_pareto(sweep: Sweep, cost: str = "latency") -> "Figure":
    """The score over a cost, all points, with each model's Pareto front as a line."""
    metric = _shown(sweep)
    figure: Figure
    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    for name, points, colour, marker in _by_model(sweep.points):
        front = pareto(points, cost)
        costs = [COSTS[cost].of(point) for point in points]
        axes.scatter(costs, [point.quality[metric] for point in points], 14, colour, marker, alpha=0.5)
        axes.step(
            [COSTS[cost].of(point) for point in front], [point.quality[metric] for point in front], where="post",
            color=colour, marker=marker, markersize=4, label=f"{name}: Pareto front",
        )  # fmt: skip
    axes.set_xlabel(f"{COSTS[cost].name} ({COSTS[cost].unit_of(sweep.points[0])})")
    costs = [COSTS[cost].of(point) for point in sweep.points]
    if max(costs) > 5 * min(costs):
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
    score_axis(axes, metric, [point.quality[metric] for point in sweep.points])
    axes.legend()
    return figure


def draw_all(sweep: Sweep) -> "dict[str, Figure]":
    """All figures by name: ``depths``, ``pareto``, and ``grid`` where there is one."""
    metric = _shown(sweep)
    points = [DepthScore(point.model, point.depths, point.quality[metric]) for point in sweep.points]
    figures = {"depths": draw_depths(points, metric), "pareto": draw_pareto(sweep), "grid": draw_grid(sweep)}
    return {name: figure for name, figure in figures.items() if figure is not None}
