"""The picture of what layers and sub-layers are worth."""

import re

from fairseq_layerdrop.reports.drawing import encoded
from fairseq_layerdrop.reports.sensitivity_picture import draw_sensitivity


def picture(content):
    figure = draw_sensitivity(content)
    return {kind: encoded(figure, kind) for kind in ("png", "svg")}


def told(depths, existing=2, errors=(0.1, 0.1, 0.1)):
    """What the command finds, for stacks with so many layers, of which nothing does anything."""
    units = [f"{stack}.{number}" for stack, depth in depths.items() for number in range(depth)]
    parts = [f"{unit}.{name}" for unit in units for name in ("self_attn", "ffn")]
    half = {"mean": 5.0, "existing": existing, "subnetworks": [{"loss": 5.0}]}
    return {
        "origin": {"checkpoint": "best.pt", "tokens": 1234, "subset": "valid"},
        "loss": 4.5,
        "layers": [{"unit": unit, "increase": 0.5} for unit in units],
        "sub_layers": [{"unit": unit, "increase": -0.25} for unit in parts],
        "half_depth": [
            {**half, "unit": unit, "standard_error": error}
            for unit, error in zip(units, errors)
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
        "mean loss ± standard error",
    ):  # fmt: skip
        assert text in shown
    assert "encoder layer" not in shown


def test_a_classifiers_loss_is_by_label():
    found = told({"encoder": 2})
    found["origin"]["target"] = "label"
    shown = texts(picture(found)["svg"])
    assert "best.pt, 1,234 labels of valid" in shown and shown.count("(bits per label)") == 2
    assert not any("token" in text for text in shown)


def test_all_sub_networks_have_no_error():
    shown = texts(picture(told({"decoder": 3}, existing=1, errors=(0.0, 0.0, 0.0)))["svg"])
    assert "all 1 sub-networks of 1 layers" in shown and "mean loss" in shown
    assert not any("standard error" in text for text in shown)


def test_a_stack_of_one_layer_has_no_sub_networks():
    shown = texts(picture(told({"encoder": 1, "decoder": 2}))["svg"])
    assert "the encoder has fewer than 2 layers" in shown and "encoder layer left out" not in shown
    assert "decoder layer left out" in shown


def test_the_same_again():
    assert picture(told({"decoder": 3})) == picture(told({"decoder": 3}))
