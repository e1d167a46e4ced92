"""The picture of a mixture over sub-networks: code lengths and regret over the text, and the weight of the ball."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .drawing import BLACK, BLUE, COLOURS, GREEN, ORANGE, PINK, RED, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {
    "full": ("full network", "-", BLACK),
    "best": ("best sub-network in hindsight", "-", GREEN),
    "static": ("static average", "--", ORANGE),
    "map": ("MAP sub-network", "-.", PINK),
    "mixture": ("Bayes mixture", "-", BLUE),
    "bound": ("bound on the mixture", ":", RED),
}


def draw_mixture(models: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw code lengths and regret of each model in a column of its own, and the weights W(epsilon) of all in the last.

    Args:
        models: the entries ``models`` of a ``mixture.json``.

    Returns:
        matplotlib's figure.
    """
    rows = [[*(f"{what} {number}" for number in range(len(models))), "ball"] for what in ("codes", "regret")]
    figure: Figure
    figure, panels = pyplot().subplot_mosaic(
        rows, figsize=(5 * len(rows[0]), 6), height_ratios=(2, 1), layout="constrained"
    )
    for number, model in enumerate(models):
        _draw_code_lengths(model, panels[f"codes {number}"])
        _draw_regret(model, panels[f"regret {number}"])
    _draw_weights(models, panels["ball"])
    return figure


def _draw_code_lengths(model: Mapping[str, Any], panel: "Axes") -> None:
    curves = model["curves"]
    for name, (label, style, colour) in CURVES.items():
        panel.plot(curves["tokens"], curves[name], style, color=colour, label=label)
    panel.set(
        xscale="log", xlabel="tokens of the text", ylabel="code length in bits per token", ylim=(0, None),
        title=model["name"],
    )  # fmt: skip
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")


def _draw_regret(model: Mapping[str, Any], panel: "Axes") -> None:
    curves = model["curves"]
    panel.plot(curves["tokens"], curves["regret_bits"], color=CURVES["mixture"][2], label="Bayes mixture - best")
    panel.plot(curves["tokens"], curves["regret_bound_bits"], ":", color=CURVES["bound"][2], label="-log w(best)")
    panel.set(xscale="log", xlabel="tokens of the text", ylabel="regret in bits, in all", ylim=(0, None))
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")


def _draw_weights(models: Sequence[Mapping[str, Any]], panel: "Axes") -> None:
    for number, model in enumerate(models):
        ball, colour = model["ball"], COLOURS[number % len(COLOURS)]
        panel.plot(ball["epsilon"], ball["weight"], color=colour, label=model["name"], drawstyle="steps-post")
        if ball["standard_error"] is not None:
            low, high = (
                [weight + sign * error for weight, error in zip(ball["weight"], ball["standard_error"])]
                for sign in (-1, 1)
            )
            panel.fill_between(ball["epsilon"], low, high, color=colour, alpha=0.2, step="post")
    panel.set(
        xscale="log", xlabel="ε: KL from the full network, bits per token",
        ylabel="prior weight of the sub-networks within ε", ylim=(0, 1.02), title="weight of the full network's ball",
    )  # fmt: skip
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
