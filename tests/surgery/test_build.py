"""Pruned models equal full models whose dropped layers are skipped, bit for bit."""

import copy
import json

import pytest
import torch

from fairseq_layerdrop.modules import without
from fairseq_layerdrop.plan import parse, transformer_structure
from fairseq_layerdrop.surgery.build import build_pruned
from fairseq_layerdrop.surgery.config import model_facts, model_structure, prune_config
from fairseq_layerdrop.surgery.state import stacks_of, state_structure
from tests.commands import NEEDS_FAIRSEQ_MAIN
from tests.models.test_layerdrop_models import SAMPLE, build, settings

PLANS = [
    "keep:2@every_other",
    "encoder=keep:0,1,3",
    "decoder=keep:1-1",
    "encoder=keep:3-3/decoder=keep:0,3",
    "drop:1@middle",
]
SUB_LAYER_PLANS = [
    "encoder=drop:1.self_attn,3.ffn",
    "decoder=drop:0.self_attn,1.encoder_attn,2.ffn,3.self_attn,3.ffn",
    "encoder=drop:0,2.ffn/decoder=keep:1.encoder_attn,3",
    "drop:0-2.self_attn",
]
HEAD_PLANS = [
    "drop:1.self_attn.head0",
    "encoder=drop:0,2.self_attn.head1,2.ffn/decoder=drop:1-3.encoder_attn.head0,2.self_attn.head0-1",
    "decoder=keep:0,1.encoder_attn.head1,3",
]
WHOLE = transformer_structure({"encoder": 4, "decoder": 4})
ARCHITECTURES = ["layerdrop_transformer_tiny", pytest.param("transformer_tiny", marks=NEEDS_FAIRSEQ_MAIN)]


def cfg_of(arch, **given):
    return settings(arch, encoder_layers=4, decoder_layers=4, encoder_layerdrop=0.2, decoder_layerdrop=0.2, **given)


def output(model):
    return model.eval()(**SAMPLE)[0]


def skip(model, plan):
    """The full model with what the plan drops made to return its input."""
    norms = {"self_attn": "self_attn_layer_norm", "encoder_attn": "encoder_attn_layer_norm", "ffn": "final_layer_norm"}
    for stack, part in plan.stacks.items():
        for number, keep in enumerate(part.keep):
            layers = stacks_of(model)[stack].layers
            lost = {left.name: set(range(left.total)) - set(left.heads) for left in keep if left.heads}
            if lost:
                layers[number] = without(layers[number], heads=lost)
            layer = layers[number]
            if not keep:
                as_input = (lambda x, *_, **__: x) if stack == "encoder" else (lambda x, *_, **__: (x, None, None))
                layer.forward = as_input
            for name in set(part.full[number].names) - set(keep.names):
                adds = getattr(layer, "fc2" if name == "ffn" else name)
                adds.register_forward_hook(
                    lambda module, inputs, out: (out[0] * 0, None) if isinstance(out, tuple) else out * 0
                )
                getattr(layer, norms[name]).register_forward_hook(lambda module, inputs, out: inputs[0])
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("normalize_before", [False, True])
@pytest.mark.parametrize("text", PLANS + SUB_LAYER_PLANS + HEAD_PLANS)
def test_pruned_is_the_full_model_with_layers_skipped(arch, normalize_before, text):
    cfg = cfg_of(arch, encoder_normalize_before=normalize_before, decoder_normalize_before=normalize_before)
    full = build(cfg, arch)
    before = copy.deepcopy(vars(cfg))
    pruned = build_pruned(lambda small: build(small, arch), cfg, parse(text))
    pruned.load_state_dict(copy.copy(full.state_dict()), model_cfg=cfg)
    assert vars(cfg) == before
    plan = parse(text).resolve(model_structure(cfg), model_facts(cfg))
    assert torch.equal(output(pruned), output(skip(full, plan)))


@pytest.mark.parametrize("arch", ARCHITECTURES)
class TestSubLayers:
    def test_are_gone_from_the_model(self, arch):
        pruned = build_pruned(lambda small: build(small, arch), cfg_of(arch), parse("drop:1.self_attn,2.ffn"))
        keys = pruned.state_dict().keys()
        assert not [key for key in keys if ".layers.1.self_attn" in key or ".layers.2.f" in key]
        assert [key for key in keys if ".layers.1.encoder_attn" in key]
        assert [key for key in keys if ".layers.2.self_attn" in key]
        assert state_structure(pruned.state_dict()) == parse("drop:1.self_attn,2.ffn").resolve(WHOLE).pruned
        assert {name.split(".")[-1] for name, _ in pruned.named_parameters()} == {"weight", "bias"}

    def test_are_gone_from_the_incremental_state(self, arch):
        text = "decoder=drop:0.self_attn,1.encoder_attn"
        model = build_pruned(lambda small: build(small, arch), cfg_of(arch), parse(text)).eval()
        encoder_out = model.encoder(SAMPLE["src_tokens"], SAMPLE["src_lengths"])
        state = {}
        for length in (1, 2):
            model.decoder(SAMPLE["prev_output_tokens"][:, :length], encoder_out, incremental_state=state)
        assert len(state) == 3 + 3  # of four layers' two attentions
        model.decoder.reorder_incremental_state_scripting(state, torch.tensor([1, 0]))

    @pytest.mark.parametrize("text", SUB_LAYER_PLANS)
    def test_step_by_step_as_at_once(self, arch, text):
        """Incremental decoding computes the same as teacher forcing, within rounding."""
        model = build_pruned(lambda small: build(small, arch), cfg_of(arch), parse(text)).eval()
        encoder_out = model.encoder(SAMPLE["src_tokens"], SAMPLE["src_lengths"])
        tokens, state = SAMPLE["prev_output_tokens"], {}
        steps = [
            model.decoder(tokens[:, : i + 1], encoder_out, incremental_state=state)[0] for i in range(tokens.size(1))
        ]
        torch.testing.assert_close(torch.cat(steps, dim=1), model(**SAMPLE)[0], atol=1e-5, rtol=1e-5)

    def test_train(self, arch):
        """What is left learns, with LayerDrop and without."""
        model = build_pruned(lambda small: build(small, arch), cfg_of(arch), parse("drop:1.self_attn,2.ffn"))
        for _ in range(5):
            model.train()(**SAMPLE)[0].square().sum().backward()
        if arch.startswith("layerdrop"):  # stock LayerDrop gives skipped layers no gradient
            assert all(parameter.grad is not None for parameter in model.parameters())
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_model_without_sub_layers_by_its_settings():
    """Our architectures build themselves from what set_plan noted, and prune on from there."""
    cfg = cfg_of("layerdrop_transformer_tiny")
    first, second = parse("decoder=drop:0,1.ffn"), parse("decoder=drop:0.self_attn,2")
    once = build_pruned(build, cfg, first)
    small = prune_config(cfg, first.resolve(model_structure(cfg)))
    assert (small.decoder_layers, small.pruned_sublayers) == (3, "decoder=drop:0.ffn")
    alone = build(small)
    alone.load_state_dict(once.state_dict())
    assert torch.equal(output(alone), output(once))
    twice = build_pruned(build, small, second)
    twice.load_state_dict(once.state_dict())
    assert torch.equal(output(twice), output(skip(alone, second.resolve(model_structure(small)))))
    left = [layer.names for layer in state_structure(twice.state_dict())["decoder"]]
    assert left == [("encoder_attn",), ("self_attn", "encoder_attn", "ffn")]


def old_attention(state):
    """The state dict with the projections of each attention in one tensor, as old checkpoints have them."""
    old = {}
    for key, value in state.items():
        head, projection, kind = key.rpartition("_proj.")
        if not projection or head[-2:] not in (".q", ".k", ".v"):
            old[key] = value
        elif head.endswith(".q"):
            parts = [state[f"{head[:-1]}{which}_proj.{kind}"] for which in "qkv"]
            old[f"{head[:-1]}in_proj_{kind}"] = torch.cat(parts)
    return old


def test_old_checkpoint_with_a_gap_in_the_plan():
    """fairseq upgrades only the layers that the small model has, and so fails here (issue 3037)."""
    cfg = cfg_of("layerdrop_transformer_tiny")
    full = build(cfg)
    pruned = build_pruned(build, cfg, parse("keep:0,1,3"))
    old = old_attention(full.state_dict())
    assert not any("k_proj" in key for key in old)
    pruned.load_state_dict(old, model_cfg=cfg)
    new = build_pruned(build, cfg, parse("keep:0,1,3"))
    new.load_state_dict(full.state_dict())
    assert torch.equal(output(pruned), output(new))


def test_deep_copy_loads_into_itself():
    cfg = cfg_of("layerdrop_transformer_tiny")
    pruned = build_pruned(build, cfg, parse("keep:0,2"))
    twin = copy.deepcopy(pruned)
    before = output(pruned)
    twin.load_state_dict({key: torch.ones_like(value) for key, value in build(cfg).state_dict().items()})
    assert torch.equal(output(pruned), before)
    assert not torch.equal(output(twin), before)


def test_state_dict_of_the_pruned_depth_is_taken_as_it_is():
    cfg = cfg_of("layerdrop_transformer_tiny")
    pruned, other = (build_pruned(build, cfg, parse("keep:0,2")) for _ in range(2))
    other.encoder.layers[0].fc1.bias.data += 1
    pruned.load_state_dict(other.state_dict())
    assert torch.equal(output(pruned), output(other))


def test_state_dict_of_another_depth_is_refused():
    pruned = build_pruned(build, cfg_of("layerdrop_transformer_tiny"), parse("keep:0,2"))
    with pytest.raises(SystemExit, match="for 4 encoder layers, but the checkpoint has 2"):
        pruned.load_state_dict(build(settings("transformer_tiny", decoder_layers=5)).state_dict())


@pytest.mark.parametrize(
    "text", ["decoder=keep:0,2", "decoder=keep:0,2,3/encoder=drop:1.ffn", "drop:0-3.self_attn.head1"]
)
@pytest.mark.parametrize("chunks", [None, "2", "1,3"])
def test_log_line(caplog, text, chunks):
    """What layers share is counted once, also where it was saved from a GPU, which holds it apart."""
    cfg = cfg_of("layerdrop_transformer_tiny", decoder_share_layers=chunks)
    full = build(cfg)
    with caplog.at_level("INFO"):
        pruned = build_pruned(build, cfg, parse(text))
        pruned.load_state_dict({key: tensor.clone() for key, tensor in full.state_dict().items()})
    before, after = (sum(p.numel() for p in model.parameters()) for model in (full, pruned))
    line, as_json = [record.message for record in caplog.records if "pruned" in record.message]
    assert json.loads(as_json.removeprefix("pruned layers as JSON: "))["parameters"] == {
        "before": before,
        "after": after,
    }
    assert line == f"pruned layers: kept {pruned.prune_plan}; {before:,} parameters before, {after:,} after"
    if text == "decoder=keep:0,2":
        assert "kept encoder 4 of 4 layers (0-3), decoder 2 of 4 layers (0,2); " in line
