"""Slicing state dicts by the names of their keys."""

import pytest
import torch

from fairseq_layerdrop.plan import Layer, Plan, parse, transformer_structure
from fairseq_layerdrop.surgery.state import DepthError, is_transformer, slice_state_dict, state_structure


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
    return parse(text).resolve(transformer_structure(depths or {"encoder": 4, "decoder": 4}))


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
        sliced = slice_state_dict(TRANSFORMER, plan("decoder=keep:1-1"))
        assert {stack: len(layers) for stack, layers in state_structure(sliced).items()} == {"encoder": 4, "decoder": 1}

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
        assert highway in slice_state_dict(state(highway, *layers("decoder", 4)), plan("keep:0-0", decoder=4))

    def test_layer_ten_is_not_layer_one(self):
        sliced = slice_state_dict(state(*layers("decoder", 12)), plan("keep:1,10", decoder=12))
        assert sliced["decoder.layers.1.fc1.weight"] == "decoder.layers.10.fc1.weight" and len(sliced) == 2

    @pytest.mark.parametrize("depth", [3, 5])
    def test_plan_for_another_depth_is_refused(self, depth):
        with pytest.raises(DepthError, match=f"for {depth} decoder layers, but the checkpoint has 4"):
            slice_state_dict(TRANSFORMER, plan("keep:0-0", decoder=depth))


PARTS = {
    "encoder": ["self_attn.q_proj.bias", "self_attn_layer_norm.bias", "fc1.bias", "final_layer_norm.bias"],
    "decoder": [
        "self_attn.q_proj.bias", "self_attn_layer_norm.bias", "attn_ln.bias", "c_attn",
        "encoder_attn.out_proj.bias", "encoder_attn_layer_norm.bias",
        "fc1.bias", "ffn_layernorm.bias", "fc2.bias", "w_resid", "final_layer_norm.bias",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "parts, known",
    [
        (("self_attn.q_proj.weight", "fc1.weight"), True),
        (("linear1.weight", "conv.weight", "encoder_attn.q_proj.weight", "fc1.weight"), False),  # lightconv's
        (("weight_ih", "weight_hh"), False),  # lstm's
    ],
)
def test_what_a_transformer_is(parts, known):
    assert is_transformer(state(*(f"decoder.layers.0.{part}" for part in parts))) is known


class TestSubLayers:
    def model(self, **depths):
        return state(
            *(f"{stack}.layers.{i}.{part}" for stack, n in depths.items() for i in range(n) for part in PARTS[stack])
        )

    def test_structure(self):
        model = self.model(encoder=3, decoder=2)
        assert state_structure(model) == transformer_structure({"encoder": 3, "decoder": 2})
        text = "encoder=drop:0.ffn/decoder=drop:1.encoder_attn"
        pruned = slice_state_dict(model, plan(text, encoder=3, decoder=2))
        assert state_structure(pruned) == plan(text, encoder=3, decoder=2).pruned

    def test_heads_of_a_model_that_has_lost_some(self):
        """They have the numbers of the full model, and the places that are left."""
        full = {"encoder": (Layer.of("self_attn.head0,2-3of4", "ffn"),)}
        model = {"encoder.layers.0.self_attn.q_proj.bias": torch.arange(6), "encoder.layers.0.fc1.bias": torch.ones(1)}
        sliced = slice_state_dict(model, parse("drop:0.self_attn.head2").resolve(full))
        assert sliced["encoder.layers.0.self_attn.q_proj.bias"].tolist() == [0, 1, 4, 5]

    def test_refusal_names_the_layer_that_differs(self):
        """Not one that has lost heads, of which a state dict doesn't tell."""
        full = (Layer.of("self_attn.head0of2", "ffn"), Layer.of("self_attn"), Layer.of("ffn"))
        with pytest.raises(DepthError, match="number 1 has self_attn, but in the checkpoint it has self_attn, ffn"):
            slice_state_dict(self.model(encoder=3), Plan.whole({"encoder": full}))

    @pytest.mark.parametrize(
        "name, gone",
        [
            ("self_attn", {"self_attn.q_proj.bias", "self_attn_layer_norm.bias", "attn_ln.bias", "c_attn"}),
            ("encoder_attn", {"encoder_attn.out_proj.bias", "encoder_attn_layer_norm.bias"}),
            ("ffn", {"fc1.bias", "ffn_layernorm.bias", "fc2.bias", "w_resid", "final_layer_norm.bias"}),
        ],
    )
    def test_all_parts_of_one_are_gone_from_its_layer_alone(self, name, gone):
        model = self.model(encoder=2, decoder=2)
        sliced = slice_state_dict(model, plan(f"decoder=drop:1.{name}", encoder=2, decoder=2))
        assert model.keys() - sliced.keys() == {f"decoder.layers.1.{part}" for part in gone}

    def test_layers_are_renumbered(self):
        sliced = slice_state_dict(self.model(encoder=1, decoder=4), plan("decoder=keep:1.ffn,3", encoder=1, decoder=4))
        assert sliced["decoder.layers.0.fc1.bias"] == "decoder.layers.1.fc1.bias"
        assert sliced["decoder.layers.1.w_resid"] == "decoder.layers.3.w_resid"
        assert len(sliced) == 4 + 5 + 11

    def test_numbered_norms_of_old_checkpoints(self):
        old = state(
            *(f"{s}.layers.0.{p}.bias" for s in ("encoder", "decoder") for p in ("self_attn", "fc1", "layer_norms.0",
            "layer_norms.1")), "decoder.layers.0.encoder_attn.bias", "decoder.layers.0.layer_norms.2.bias",
        )  # fmt: skip
        assert state_structure(old) == transformer_structure({"encoder": 1, "decoder": 1})
        one = plan("encoder=drop:0.ffn/decoder=drop:0.encoder_attn", encoder=1, decoder=1)
        assert slice_state_dict(old, one).keys() == {
            "encoder.layers.0.self_attn.bias", "encoder.layers.0.layer_norms.0.bias", "decoder.layers.0.self_attn.bias",
            "decoder.layers.0.layer_norms.0.bias", "decoder.layers.0.fc1.bias", "decoder.layers.0.layer_norms.2.bias",
        }  # fmt: skip

    def test_plan_for_other_sub_layers_is_refused(self):
        text = "decoder=drop:1.encoder_attn"
        model = slice_state_dict(self.model(encoder=1, decoder=2), plan(text, encoder=1, decoder=2))
        with pytest.raises(
            DepthError, match="number 1 has self_attn, encoder_attn, ffn, but in the checkpoint it has self_attn, ffn"
        ):
            slice_state_dict(model, plan("decoder=drop:1.ffn", encoder=1, decoder=2))
