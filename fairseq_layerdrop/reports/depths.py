"""Scores over the number of layers that are kept: Figure 2 of Fan, Grave & Joulin (2020)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .drawing import COLOURS, pyplot
from .points import better, is_lower_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "os^Dv<>"


@dataclass(frozen=True)
class DepthScore:
    """The score of a model at one depth.

    Attributes:
        model: its name.
        depths: for each stack how many layers are kept, and of how many.
        score: of whatever is compared.
    """

    model: str
    depths: Mapping[str, tuple[int, int]]
    score: float

    def layers(self, stacks: Sequence[str]) -> int:
        """Number of layers kept of *stacks*."""
        return sum(self.depths[stack][0] for stack in stacks if stack in self.depths)


def score_label(metric: str) -> str:
    """A score with its unit."""
    return {"loss": "loss (bits)", "perplexity": "perplexity by token"}.get(metric, metric)


def styles(models: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each model's name once, with a colour and a marker."""
    return zip(dict.fromkeys(models), itertools.cycle(COLOURS), itertools.cycle(_MARKERS))


def score_axis(axes: "Axes", metric: str, scores: Sequence[float]) -> None:
    """Make the upright axis that of *scores*: of perplexity logarithmic, of what has a zero from there on."""
    axes.set_ylabel(score_label(metric))
    if metric.startswith("perplexity"):
        axes.set_yscale("log")
    elif not is_lower_better(metric):
        axes.set_ylim(0, 1.05 * max(scores) + 1)
    axes.grid(alpha=0.3, which="both")


def varying_stacks(points: Sequence[DepthScore]) -> tuple[str, ...]:
    """The stacks of which any one model was measured at several depths; all of them where there are none."""
    depths: dict[str, dict[str, set[int]]] = {}
    for point in points:
        for stack, (kept, _) in point.depths.items():
            depths.setdefault(stack, {}).setdefault(point.model, set()).add(kept)
    varying = (stack for stack, models in depths.items() if any(len(kept) > 1 for kept in models.values()))
    return tuple(varying) or tuple(depths)


def best_by_depth(points: Sequence[DepthScore], metric: str, stacks: Sequence[str]) -> list[DepthScore]:
    """For each number of layers kept of *stacks* the point with the best score, fewest layers first."""
    found: dict[int, DepthScore] = {}
    for point in points:
        known = found.get(point.layers(stacks))
        if known is None or better(metric, point.score, known.score):
            found[point.layers(stacks)] = point
    return [found[layers] for layers in sorted(found)]


def draw_depths(points: Sequence[DepthScore], metric: str, title: str = "") -> "Figure":
    """The score over the number of layers kept, one curve a model.

    Layers of the :func:`varying_stacks` count. Where a model was measured in several ways at one number of layers, the
    curve is of the best; all are shown.
    """
    stacks = varying_stacks(points)
    figure: Figure
    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    for model, colour, marker in styles([point.model for point in points]):
        of_model = [point for point in points if point.model == model]
        curve = best_by_depth(of_model, metric, stacks)
        xs = [point.layers(stacks) for point in curve]
        axes.plot(xs, [point.score for point in curve], marker=marker, color=colour, label=model)
        others = [point for point in of_model if point not in curve]
        xs = [point.layers(stacks) for point in others]
        axes.scatter(xs, [point.score for point in others], 9, colour, marker, alpha=0.4)
    axes.set(xlabel=f"{' and '.join(stacks)} layers kept", title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.invert_xaxis()
    score_axis(axes, metric, [point.score for point in points])
    axes.legend()
    return figure
