"""The picture of what layers and sub-layers are worth."""

import re

from fairseq_layerdrop.reports.drawing import encoded
from fairseq_layerdrop.reports.sensitivity_picture import draw_sensitivity


def picture(content):
    figure = draw_sensitivity(content)
    return {kind: encoded(figure, kind) for kind in ("png", "svg")}


def told(depths):
    """What the command finds, for stacks with so many layers, of which nothing does anything."""
    units = [f"{stack}.{number}" for stack, depth in depths.items() for number in range(depth)]
    parts = [f"{unit}.{name}" for unit in units for name in ("self_attn", "ffn")]
    half = {"mean": 5.0, "existing": 2, "subnetworks": [{"loss": 5.0}]}
    return {
        "origin": {"checkpoint": "best.pt", "tokens": 1234, "subset": "valid"},
        "loss": 4.5,
        "layers": [{"unit": unit, "increase": 0.5} for unit in units],
        "sub_layers": [{"unit": unit, "increase": -0.25} for unit in parts],
        "half_depth": [
            {**half, "unit": unit, "standard_error": error}
            for unit, error in zip(units, [None, 0.1, 0.1])
            if depths[unit.split(".")[0]] > 1
        ],
    }


def texts(svg):
    return re.findall(r"<!-- (.*?) -->", svg.decode())


def test_labels():
    files = picture(told({"decoder": 3}))
    assert files["png"].startswith(b"\x89PNG")
    shown = texts(files["svg"])
    for text in (
        "best.pt, 1,234 tokens of valid", "removed from the full model (loss 4.500)", "decoder layer",
        "whole layer", "self_attn", "ffn", "decoder layer left out", "1 random sub-networks of 1 layers",
    ):  # fmt: skip
        assert text in shown
    assert "encoder layer" not in shown


def test_a_classifiers_loss_is_by_label():
    found = told({"encoder": 2})
    found["origin"]["target"] = "label"
    shown = texts(picture(found)["svg"])
    assert "best.pt, 1,234 labels of valid" in shown and "(bits per label)" in shown


def test_a_stack_of_one_layer_has_no_sub_networks():
    shown = texts(picture(told({"encoder": 1, "decoder": 2}))["svg"])
    assert "the encoder has fewer than 2 layers" in shown and "encoder layer left out" not in shown
    assert "decoder layer left out" in shown


def test_the_same_again():
    assert picture(told({"decoder": 3})) == picture(told({"decoder": 3}))
