"""Pictures of a sweep, as matplotlib's figures."""

import itertools
from collections.abc import Sequence

from .choice import COSTS, pareto
from .drawing import COLOURS, pyplot
from .points import LOWER_IS_BETTER, Point, Sweep, better

_MARKERS = "os^Dv<>"


def _by_model(points: Sequence[Point]):
    """Each model's name with its points, a colour and a marker."""
    names = dict.fromkeys(point.model for point in points)
    for name, colour, marker in zip(names, itertools.cycle(COLOURS), itertools.cycle(_MARKERS)):
        yield name, [point for point in points if point.model == name], colour, marker


def score_label(metric: str) -> str:
    """A score with its unit."""
    return {"loss": "loss (bits)", "perplexity": "perplexity by token"}.get(metric, metric)


def _score_axis(axes, points: Sequence[Point], metric: str) -> None:
    axes.set_ylabel(score_label(metric))
    if metric == "perplexity":
        axes.set_yscale("log")
    elif metric not in LOWER_IS_BETTER:
        axes.set_ylim(0, 1.05 * max(point.quality[metric] for point in points) + 1)
    axes.grid(alpha=0.3, which="both")


def _shown(sweep: Sweep) -> str:
    """What is drawn of a sweep's metric: perplexity stands for loss, where there is one."""
    scores = sweep.points[0].quality
    return "perplexity" if sweep.metric == "loss" and "perplexity" in scores else sweep.metric


def best_by_depth(points: Sequence[Point], metric: str) -> list[Point]:
    """For each number of kept layers the point with the best score, fewest layers first."""
    found: dict[int, Point] = {}
    for point in points:
        known = found.get(point.layers)
        if known is None or better(metric, point.quality[metric], known.quality[metric]):
            found[point.layers] = point
    return [found[layers] for layers in sorted(found)]


def draw_depths(sweep: Sweep):
    """Figure 2 of Fan, Grave & Joulin (2020): the score over the number of layers kept, one curve a model.

    Where a model was measured in several ways at one number of layers, the curve is of the best; all are shown.
    """
    metric = _shown(sweep)
    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    for name, points, colour, marker in _by_model(sweep.points):
        curve = best_by_depth(points, metric)
        xs, ys = [point.layers for point in curve], [point.quality[metric] for point in curve]
        axes.plot(xs, ys, marker=marker, color=colour, label=name)
        others = [point for point in points if point not in curve]
        axes.scatter([p.layers for p in others], [p.quality[metric] for p in others], 9, colour, marker, alpha=0.4)
    stacks = " and ".join(sweep.points[0].depths)
    axes.set_xlabel(f"{stacks} layers kept at inference")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.invert_xaxis()
    _score_axis(axes, sweep.points, metric)
    axes.legend()
    return figure


def grids(sweep: Sweep) -> dict[str, dict[tuple[int, int], Point]]:
    """For each model that was measured at several depths of both stacks, its best points by these depths."""
    metric, found = sweep.metric, {}
    for name, points, *_ in _by_model(sweep.points):
        cells: dict[tuple[int, int], Point] = {}
        for point in points:
            cell = tuple(point.depths[stack][0] for stack in ("encoder", "decoder") if stack in point.depths)
            known = cells.get(cell)
            if known is None or better(metric, point.quality[metric], known.quality[metric]):
                cells[cell] = point
        if all(len(cell) == 2 for cell in cells) and all(len(set(axis)) > 1 for axis in zip(*cells)):
            found[name] = cells
    return found


def draw_grid(sweep: Sweep):
    """A heat map of the score over encoder and decoder layers, one a model; None where no model has both."""
    found, metric = grids(sweep), _shown(sweep)
    if not found:
        return None
    figure, (row,) = pyplot().subplots(
        1, len(found), figsize=(0.8 + 4.2 * len(found), 3.8), squeeze=False, layout="constrained", sharey=True
    )
    values = [point.quality[metric] for cells in found.values() for point in cells.values()]
    for axes, (name, cells) in zip(row, found.items()):
        encoders, decoders = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
        table = [[cells[e, d].quality[metric] if (e, d) in cells else float("nan") for d in decoders] for e in encoders]
        colours = "cividis_r" if metric in LOWER_IS_BETTER else "cividis"
        image = axes.imshow(table, origin="lower", cmap=colours, vmin=min(values), vmax=max(values), aspect="auto")
        for i, j in itertools.product(range(len(encoders)), range(len(decoders))):
            if (encoders[i], decoders[j]) in cells:
                shade = sum(image.cmap(image.norm(table[i][j]))[:3]) / 3
                axes.text(j, i, f"{table[i][j]:.1f}", ha="center", va="center", color="k" if shade > 0.45 else "w")
        axes.set_xticks(range(len(decoders)), decoders)
        axes.set_yticks(range(len(encoders)), encoders)
        axes.set(xlabel="decoder layers kept", title=name)
    row[0].set_ylabel("encoder layers kept")
    figure.colorbar(image, ax=row, label=score_label(metric))
    return figure


def draw_pareto(sweep: Sweep, cost: str = "latency"):
    """The score over a cost, all points, with each model's Pareto front as a line."""
    metric = _shown(sweep)
    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    for name, points, colour, marker in _by_model(sweep.points):
        front = pareto(points, cost)
        costs = [COSTS[cost].of(point) for point in points]
        axes.scatter(costs, [point.quality[metric] for point in points], 14, colour, marker, alpha=0.5)
        axes.step(
            [COSTS[cost].of(point) for point in front], [point.quality[metric] for point in front], where="post",
            color=colour, marker=marker, markersize=4, label=f"{name}: Pareto front",
        )  # fmt: skip
    axes.set_xlabel(f"{COSTS[cost].name} ({COSTS[cost].unit})")
    costs = [COSTS[cost].of(point) for point in sweep.points]
    if max(costs) > 5 * min(costs):
        axes.set_xscale("log")
        plain = pyplot().matplotlib.ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5))
        axes.xaxis.set_major_formatter(plain)  # 20 and 200 rather than 2 x 10^1 and 2 x 10^2
        axes.xaxis.set_minor_formatter(plain)
    _score_axis(axes, sweep.points, metric)
    axes.legend()
    return figure


def draw_all(sweep: Sweep) -> dict:
    """All figures by name: ``depths``, ``pareto``, and ``grid`` where there is one."""
    figures = {"depths": draw_depths(sweep), "pareto": draw_pareto(sweep), "grid": draw_grid(sweep)}
    return {name: figure for name, figure in figures.items() if figure is not None}
