"""The picture of what layers and sub-layers are worth."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .drawing import BLACK, BLUE, GREEN, ORANGE, RED, pyplot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"layer": BLACK, "self_attn": BLUE, "encoder_attn": ORANGE, "ffn": GREEN}


def draw_sensitivity(found: Mapping[str, Any]) -> "Figure":
    """Draw what ``fairseq-layerdrop sensitivity`` found: a row of two charts a stack.

    On the left what is added to the loss where a layer, or one of its sub-layers, is removed from the full model. On
    the right, as in Figure 5 of Fan, Grave & Joulin (2020), the mean loss of half-depth sub-networks without a layer,
    with its standard error where they are a sample. All in bits per token, or per label of a classifier.

    Args:
        found: the content of a ``sensitivity.json``.

    Returns:
        matplotlib's figure.
    """
    stacks = list(dict.fromkeys(row["unit"].split(".")[0] for row in found["layers"]))
    figure: Figure
    figure, charts = pyplot().subplots(
        len(stacks), 2, figsize=(10, 3.6 * len(stacks)), width_ratios=(3, 2), layout="constrained", squeeze=False
    )
    for stack, (left, right) in zip(stacks, charts):
        _increases(left, found, stack)
        _half_depth(right, found, stack)
    origin = found["origin"]
    figure.suptitle(f"{origin['checkpoint']}, {origin['tokens']:,} {_target(found)}s of {origin['subset']}")
    return figure


def _target(found: Mapping[str, Any]) -> str:
    return str(found["origin"].get("target", "token"))


def _increases(chart: Any, found: Mapping[str, Any], stack: str) -> None:
    bars: dict[str, dict[int, float]] = {}
    for row in (*found["layers"], *found["sub_layers"]):
        where, number, *name = row["unit"].split(".")
        if where == stack:
            bars.setdefault(name[0] if name else "layer", {})[int(number)] = row["increase"]
    width = 0.8 / len(bars)
    for place, (name, increases) in enumerate(bars.items()):
        shift = (place - (len(bars) - 1) / 2) * width
        label = "whole layer" if name == "layer" else name
        chart.bar(
            [number + shift for number in increases], list(increases.values()), width, color=_COLOURS[name], label=label
        )
    chart.axhline(0, color="black", linewidth=0.8)
    chart.set(xlabel=f"{stack} layer", ylabel=f"increase of the loss\n(bits per {_target(found)})")
    chart.set_title(f"removed from the full model (loss {found['loss']:.3f})", fontsize="medium")
    chart.xaxis.get_major_locator().set_params(integer=True)
    chart.grid(alpha=0.3, axis="y")
    chart.legend()


def _half_depth(chart: Any, found: Mapping[str, Any], stack: str) -> None:
    rows = [row for row in found["half_depth"] if row["unit"].split(".")[0] == stack]
    if not rows:
        chart.axis("off")
        chart.text(0.5, 0.5, f"the {stack} has fewer than 2 layers", ha="center", va="center")
        return
    numbers = [int(row["unit"].split(".")[1]) for row in rows]
    errors = [row["standard_error"] for row in rows] if any(row["standard_error"] for row in rows) else None
    chart.errorbar(numbers, [row["mean"] for row in rows], errors, color=RED, fmt="o-", capsize=3)
    number, existing = len(rows[0]["subnetworks"]), rows[0]["existing"]  # the same for all layers of a stack
    drawn = f"all {number}" if number == existing else f"{number} random"
    mean = "mean loss ± standard error" if errors else "mean loss"
    chart.set(xlabel=f"{stack} layer left out", ylabel=f"{mean}\n(bits per {_target(found)})")
    chart.set_title(f"{drawn} sub-networks of {len(rows) // 2} layers", fontsize="medium")
    chart.xaxis.get_major_locator().set_params(integer=True)
    chart.grid(alpha=0.3)
