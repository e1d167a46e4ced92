"""Pruned models equal full models whose dropped layers are skipped, bit for bit."""

import copy

import pytest
import torch

from fairseq_layerdrop.plan import parse
from fairseq_layerdrop.surgery import build_pruned, model_depths
from tests.commands import NEEDS_FAIRSEQ_MAIN
from tests.models.test_layerdrop_models import SAMPLE, build, settings

PLANS = [
    "keep:2@every_other",
    "encoder=keep:0,1,3",
    "decoder=keep:1",
    "encoder=keep:3/decoder=keep:0,3",
    "drop:1@middle",
]
ARCHITECTURES = ["layerdrop_transformer_tiny", pytest.param("transformer_tiny", marks=NEEDS_FAIRSEQ_MAIN)]


def cfg_of(arch, **given):
    return settings(arch, encoder_layers=4, decoder_layers=4, encoder_layerdrop=0.2, decoder_layerdrop=0.2, **given)


def output(model):
    return model.eval()(**SAMPLE)[0]


def skip(model, plan):
    """The full model with its dropped layers made to return their input."""
    for stack, part in plan.stacks.items():
        for number in part.dropped:
            layer = getattr(model, stack).layers[number]
            as_input = (lambda x, *_, **__: x) if stack == "encoder" else (lambda x, *_, **__: (x, None, None))
            layer.forward = as_input
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("normalize_before", [False, True])
@pytest.mark.parametrize("text", PLANS)
def test_pruned_is_the_full_model_with_layers_skipped(arch, normalize_before, text):
    cfg = cfg_of(arch, encoder_normalize_before=normalize_before, decoder_normalize_before=normalize_before)
    full = build(cfg, arch)
    before = copy.deepcopy(vars(cfg))
    pruned = build_pruned(lambda small: build(small, arch), cfg, parse(text))
    pruned.load_state_dict(copy.copy(full.state_dict()), model_cfg=cfg)
    assert vars(cfg) == before
    assert torch.equal(output(pruned), output(skip(full, parse(text).resolve(model_depths(cfg)))))


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


def test_log_line(caplog):
    cfg = cfg_of("layerdrop_transformer_tiny")
    full = build(cfg)
    with caplog.at_level("INFO"):
        pruned = build_pruned(build, cfg, parse("decoder=keep:0,2"))
        pruned.load_state_dict(full.state_dict())
    before, after = (sum(p.numel() for p in model.parameters()) for model in (full, pruned))
    assert [record.message for record in caplog.records if "pruned" in record.message] == [
        "pruned layers: kept encoder 4 of 4 layers (0-3), decoder 2 of 4 layers (0,2); "
        f"{before:,} parameters before, {after:,} after"
    ]
