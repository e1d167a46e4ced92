"""Pruned model configurations."""

from argparse import Namespace

import pytest
from omegaconf import OmegaConf

from fairseq_layerdrop.plan import parse, transformer_structure
from fairseq_layerdrop.surgery import ConfigError, model_structure, prune_config


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


def test_interpolations_still_resolve():
    cfg = dict_config(decoder_layers=4)
    assert prune_config(cfg, parse("keep:1").resolve(model_structure(cfg))).seed == 5


def test_only_stacks_that_there_are():
    assert model_structure(Namespace(decoder_layers=16)) == transformer_structure({"decoder": 16})


@pytest.mark.parametrize(
    "cfg, words",
    [
        (Namespace(hidden_size=5), "needs a Transformer"),
        (
            Namespace(decoder_layers=6, decoder_layers_to_keep="0,2"),
            "--decoder-layers-to-keep and --prune-layers exclude",
        ),
    ],
)
def test_refusals(cfg, words):
    with pytest.raises(ConfigError, match=words):
        model_structure(cfg)
