"""Pictures of a sweep, as matplotlib's figures."""

import itertools
from collections.abc import Callable, Sequence

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


def _plain_numbers(axis) -> None:
    """On a logarithmic axis 20 and 200 rather than 2 x 10^1 and 2 x 10^2."""
    plain = pyplot().matplotlib.ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(plain)


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


def varying_stacks(points: Sequence[Point]) -> tuple[str, ...]:
    """The stacks of which any one model was measured at several depths; all of them where there are none."""
    depths: dict[str, dict[str, set[int]]] = {}
    for point in points:
        for stack, (kept, _) in point.depths.items():
            depths.setdefault(stack, {}).setdefault(point.model, set()).add(kept)
    varying = (stack for stack, models in depths.items() if any(len(kept) > 1 for kept in models.values()))
    return tuple(varying) or tuple(depths)


def best_by_depth(points: Sequence[Point], metric: str, depth: Callable[[Point], int]) -> list[Point]:
    """For each number of kept layers, as *depth* counts them, the point with the best score, fewest layers first."""
    found: dict[int, Point] = {}
    for point in points:
        known = found.get(depth(point))
        if known is None or better(metric, point.quality[metric], known.quality[metric]):
            found[depth(point)] = point
    return [found[layers] for layers in sorted(found)]


def draw_depths(sweep: Sweep):
    """Figure 2 of Fan, Grave & Joulin (2020): the score over the number of layers kept, one curve a model.

    Layers of the :func:`varying_stacks` count. Where a model was measured in several ways at one number of layers, the
    curve is of the best; all are shown.
    """
    metric, stacks = _shown(sweep), varying_stacks(sweep.points)

    def depth(point: Point) -> int:
        return sum(kept for stack, (kept, _) in point.depths.items() if stack in stacks)

    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    for name, points, colour, marker in _by_model(sweep.points):
        curve = best_by_depth(points, metric, depth)
        xs, ys = [depth(point) for point in curve], [point.quality[metric] for point in curve]
        axes.plot(xs, ys, marker=marker, color=colour, label=name)
        others = [point for point in points if point not in curve]
        axes.scatter([depth(p) for p in others], [p.quality[metric] for p in others], 9, colour, marker, alpha=0.4)
    axes.set_xlabel(f"{' and '.join(stacks)} layers kept")
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
        1, len(found), figsize=(0.8 + 4.2 * len(found), 3.8), squeeze=False, layout="constrained"
    )
    values = [point.quality[metric] for cells in found.values() for point in cells.values()]
    logarithmic = metric == "perplexity"  # or one broken plan would leave all others one colour
    colors = pyplot().matplotlib.colors
    norm = (colors.LogNorm if logarithmic else colors.Normalize)(min(values), max(values))
    for axes, (name, cells) in zip(row, found.items()):
        encoders, decoders = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
        table = [[cells[e, d].quality[metric] if (e, d) in cells else float("nan") for d in decoders] for e in encoders]
        colours = "cividis_r" if metric in LOWER_IS_BETTER else "cividis"
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
    axes.set_xlabel(f"{COSTS[cost].name} ({COSTS[cost].unit_of(sweep.points[0])})")
    costs = [COSTS[cost].of(point) for point in sweep.points]
    if max(costs) > 5 * min(costs):
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
    _score_axis(axes, sweep.points, metric)
    axes.legend()
    return figure


def draw_all(sweep: Sweep) -> dict:
    """All figures by name: ``depths``, ``pareto``, and ``grid`` where there is one."""
    figures = {"depths": draw_depths(sweep), "pareto": draw_pareto(sweep), "grid": draw_grid(sweep)}
    return {name: figure for name, figure in figures.items() if figure is not None}
