"""Slicing state dicts by the names of their keys."""

import pytest

from fairseq_layerdrop.plan import Plan, StackPlan, parse
from fairseq_layerdrop.surgery import DepthError, slice_state_dict, state_depths


def state(*keys):
    """A state dict whose values are the keys, so that a test sees what came from where."""
    return {key: key for key in keys}


def layers(prefix, depth, tail="fc1.weight"):
    return [f"{prefix}.layers.{i}.{tail}" for i in range(depth)]


TRANSFORMER = state(
    "encoder.embed_tokens.weight",
    *layers("encoder", 4),
    "encoder.layer_norm.weight",
    "decoder.embed_tokens.weight",
    *layers("decoder", 4),
    "decoder.output_projection.weight",
)


def plan(text, **depths):
    return parse(text).resolve(depths or {"encoder": 4, "decoder": 4})


class TestSlice:
    def test_kept_layers_are_renumbered_and_dropped_ones_gone(self):
        sliced = slice_state_dict(TRANSFORMER, plan("encoder=keep:1,3/decoder=keep:0,3"))
        changed = {key: value for key, value in sliced.items() if ".layers." in key}
        assert changed == {
            "encoder.layers.0.fc1.weight": "encoder.layers.1.fc1.weight",
            "encoder.layers.1.fc1.weight": "encoder.layers.3.fc1.weight",
            "decoder.layers.0.fc1.weight": "decoder.layers.0.fc1.weight",
            "decoder.layers.1.fc1.weight": "decoder.layers.3.fc1.weight",
        }
        assert {key for key in sliced if ".layers." not in key} == {key for key in TRANSFORMER if ".layers." not in key}

    def test_one_sided_plan_leaves_the_other_side_whole(self):
        """fairseq's own pruning drops the whole other side (issue 1257)."""
        sliced = slice_state_dict(TRANSFORMER, plan("decoder=keep:1"))
        assert state_depths(sliced) == {"encoder": 4, "decoder": 1}

    def test_input_stays_as_it_is(self):
        before = dict(TRANSFORMER)
        slice_state_dict(TRANSFORMER, plan("drop:2@top"))
        assert before == TRANSFORMER

    def test_keys_of_any_age(self):
        old = state(*layers("decoder", 4, "self_attn.in_proj_weight"))
        sliced = slice_state_dict(old, plan("keep:0,1,3", decoder=4))
        assert sliced["decoder.layers.2.self_attn.in_proj_weight"] == "decoder.layers.3.self_attn.in_proj_weight"

    @pytest.mark.parametrize(
        "prefix", ["encoder.sentence_encoder", "decoder.sentence_encoder", "models.de-en.encoder", "encoder"]
    )
    def test_other_models_encoders(self, prefix):
        sliced = slice_state_dict(state(*layers(prefix, 4), "encoder.lm_head.bias"), plan("keep:0,3", encoder=4))
        assert sliced == {
            f"{prefix}.layers.0.fc1.weight": f"{prefix}.layers.0.fc1.weight",
            f"{prefix}.layers.1.fc1.weight": f"{prefix}.layers.3.fc1.weight",
            "encoder.lm_head.bias": "encoder.lm_head.bias",
        }

    def test_other_lists_called_layers_are_left_alone(self):
        highway = "decoder.embed_tokens.highway.layers.1.weight"
        assert highway in slice_state_dict(state(highway, *layers("decoder", 4)), plan("keep:0", decoder=4))

    def test_layer_ten_is_not_layer_one(self):
        sliced = slice_state_dict(state(*layers("decoder", 12)), plan("keep:1,10", decoder=12))
        assert sliced["decoder.layers.1.fc1.weight"] == "decoder.layers.10.fc1.weight" and len(sliced) == 2

    @pytest.mark.parametrize("depth", [3, 5])
    def test_plan_for_another_depth_is_refused(self, depth):
        with pytest.raises(DepthError, match=f"for {depth} decoder layers, but the checkpoint has 4"):
            slice_state_dict(TRANSFORMER, Plan({"decoder": StackPlan(depth, (0,))}))
