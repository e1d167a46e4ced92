"""Pruned model configurations."""

from argparse import Namespace

import pytest
from omegaconf import OmegaConf

from fairseq_layerdrop.plan import parse, transformer_structure
from fairseq_layerdrop.surgery.config import ConfigError, model_structure, prune_config


def dict_config(**settings):
    root = OmegaConf.create({"common": {"seed": 5}, "model": {**settings, "seed": "${common.seed}"}})
    OmegaConf.set_struct(root, True)
    return root.model


@pytest.mark.parametrize("make", [Namespace, dict_config])
def test_copy_says_the_new_depth_and_the_original_the_old(make):
    cfg = make(encoder_layers=6, decoder_layers=4, encoder_layerdrop=0.2)
    pruned = prune_config(cfg, parse("keep:2@every_other").resolve(model_structure(cfg)))
    assert (pruned.encoder_layers, pruned.decoder_layers, pruned.encoder_layerdrop) == (2, 2, 0.2)
    assert (cfg.encoder_layers, cfg.decoder_layers) == (6, 4)


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"layerdrop_rates": "0,.1,.2,.3,.4,.5"}, {"layerdrop_rates": "0,.2,.5"}),
        ({"sublayerdrop_rates": "0,.1,.2,.3,.4,.5"}, {"sublayerdrop_rates": "0,.2,.5"}),
        ({"headdrop_rates": "0,.1,.2,.3,.4,.5", "headdrop": None}, {"headdrop_rates": "0,.2,.5", "headdrop": None}),
        ({"share_layers": "2"}, {"share_layers": None}),
        ({"share_layers": "3"}, {"share_layers": "2,1"}),
        ({"share_layers": "1,2,3"}, {"share_layers": None}),
        ({"layerdrop_target_depth": 3}, {"layerdrop_target_depth": None}),
        ({"layerdrop_target_depth": 2}, {"layerdrop_target_depth": 2}),
        ({"layerdrop_learned": True}, {"layerdrop_learned": False}),
    ],
)
def test_what_layers_are_told_goes_with_them(given, expected):
    cfg = Namespace(decoder_layers=6, **{f"decoder_{name}": value for name, value in given.items()})
    pruned = vars(prune_config(cfg, parse("keep:0,2,5").resolve(model_structure(cfg))))
    assert pruned == {"decoder_layers": 3, **{f"decoder_{name}": value for name, value in expected.items()}}
    whole = vars(prune_config(cfg, parse("keep:0-5").resolve(model_structure(cfg))))
    assert whole == vars(cfg)


def test_interpolations_still_resolve():
    cfg = dict_config(decoder_layers=4)
    assert prune_config(cfg, parse("keep:1-1").resolve(model_structure(cfg))).seed == 5


def test_only_stacks_that_there_are():
    assert model_structure(Namespace(decoder_layers=16)) == transformer_structure({"decoder": 16})


@pytest.mark.parametrize(
    "cfg, words",
    [
        (Namespace(hidden_size=5), "needs a Transformer"),
        (Namespace(arch="lstm", decoder_layers=1, decoder_hidden_size=5), "lstm isn't a Transformer"),
        (Namespace(arch="lightconv", encoder_layers=6, encoder_conv_type="dynamic"), "lightconv isn't a Transformer"),
        (Namespace(_name="fconv_lm", decoder_layers="[(64, 3)] * 2"), "fconv_lm isn't a Transformer"),
        (
            Namespace(decoder_layers=6, decoder_layers_to_keep="0,2"),
            "--decoder-layers-to-keep and --prune-layers exclude",
        ),
    ],
)
def test_refusals(cfg, words):
    with pytest.raises(ConfigError, match=words):
        model_structure(cfg)
