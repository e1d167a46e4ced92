"""Loading the state dict of another model."""

import copy

import pytest

from fairseq_layerdrop.plan import parse
from fairseq_layerdrop.surgery.build import build_pruned
from fairseq_layerdrop.surgery.misfit import misfit, tell_misfits
from tests.models.test_layerdrop_models import build, settings


def tiny(symbols=704, **given):
    return build(settings("layerdrop_transformer_tiny", share_all_embeddings=True, **given), symbols=symbols)


def pruned(spec):
    cfg = settings("layerdrop_transformer_tiny", share_all_embeddings=True)
    return build_pruned(lambda small: build(small, symbols=704), cfg, parse(spec))


OTHERS = pytest.mark.parametrize(
    "other, words",
    [
        ({"symbols": 1968}, "the dictionary has 704 entries here, 1,968 in the checkpoint"),
        ({"encoder_embed_dim": 32, "decoder_embed_dim": 32}, "embeddings are 64 wide here, 32 in the checkpoint"),
        (
            {"symbols": 1968, "encoder_embed_dim": 32, "decoder_embed_dim": 32},
            "the dictionary has 704 entries here, 1,968 in the checkpoint and embeddings are 64 wide here, 32 in the "
            "checkpoint",
        ),
        (
            {"encoder_ffn_embed_dim": 32},
            "encoder.layers.0.fc1.weight is 64 x 64 here, 32 x 64 in the checkpoint",
        ),
    ],
)


@OTHERS
def test_sizes(other, words):
    model = tiny()
    tell_misfits(model)
    with pytest.raises(SystemExit, match=rf"error: the checkpoint is of another model: {words}$"):
        model.load_state_dict(tiny(**other).state_dict())


@OTHERS
def test_of_a_pruned_model(caplog, other, words):
    """It isn't said to have been pruned."""
    with caplog.at_level("INFO"), pytest.raises(SystemExit, match=f"{words}$"):
        pruned("decoder=keep:0-0").load_state_dict(tiny(**other).state_dict())
    assert not any("pruned layers" in record.message for record in caplog.records)


def test_keys():
    model = tiny()
    tell_misfits(model)
    state = model.state_dict()
    del state["encoder.layers.0.fc1.weight"], state["encoder.layers.1.fc1.bias"]
    state["decoder.extra"] = state["encoder.layers.1.fc2.bias"]
    words = "it has no encoder.layers.0.fc1.weight (1 more) and this model has no decoder.extra"
    with pytest.raises(SystemExit, match=words.replace("(", r"\(").replace(")", r"\)")):
        model.load_state_dict(state)


def test_what_fits_is_loaded():
    model, other = tiny(), tiny()
    other.decoder.layers[0].fc1.weight.data += 1
    tell_misfits(model)
    copy.deepcopy(model).load_state_dict(other.state_dict())
    assert not model.decoder.layers[0].fc1.weight.equal(other.decoder.layers[0].fc1.weight)
    model.load_state_dict(other.state_dict())
    assert model.decoder.layers[0].fc1.weight.equal(other.decoder.layers[0].fc1.weight)


def test_other_errors_are_none():
    assert misfit(RuntimeError("CUDA out of memory")) is None and misfit(KeyError("size")) is None
