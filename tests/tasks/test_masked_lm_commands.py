"""fairseq's own commands with layerdrop_masked_lm, and what loads its checkpoints."""

import json

import torch

from fairseq_layerdrop import LayerDropMaskedLMTask
from fairseq_layerdrop.surgery.checkpoint import Checkpoint
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.export import pruned_settings
from tests.commands import NEEDS_FAIRSEQ_MAIN, layerdrop, said, train_masked_lm
from tests.models.test_layerdrop_roberta import old_keys
from tests.outputs import load, outputs


def test_restart_changes_nothing(lm_data, masked_lm, tmp_path):
    """Two updates and two more are four, bit for bit."""
    train_masked_lm(lm_data, tmp_path, 2, "--seed", "3")
    half = load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
    done = train_masked_lm(lm_data, tmp_path, 4, "--seed", "3")
    assert "Loaded checkpoint" in said(done) and "encoder_skipped" in said(done)
    saved, whole = (load_checkpoint(path)["model"] for path in (tmp_path / "checkpoint_last.pt", masked_lm))
    assert saved.keys() == whole.keys() and all(torch.equal(saved[key], whole[key]) for key in saved)
    assert not all(torch.equal(saved[key], half[key]) for key in saved)


def test_describe(masked_lm):
    told = json.loads(layerdrop("describe", masked_lm, "--json").stdout)
    assert told["architecture"] == "layerdrop_roberta_tiny" and told["task"] == "layerdrop_masked_lm"
    assert told["depths"] == {"encoder": 6} and told["layerdrop"] == {"encoder": 0.5}


@NEEDS_FAIRSEQ_MAIN
def test_a_checkpoint_as_the_published_ones(lm_data, masked_lm, tmp_path):
    """Its settings are a namespace, its task and architecture stock fairseq's, and its keys old; the plan has a gap."""
    state = load_checkpoint(masked_lm)
    settings = pruned_settings(Checkpoint(state), Checkpoint(state).plan(None))
    settings.criterion = "masked_lm"
    old = {**state, "args": settings, "cfg": None, "model": old_keys(state["model"])}
    torch.save(old, tmp_path / "old.pt")
    assert (settings.arch, settings.task) == ("roberta", "masked_lm")
    expected = outputs(*load(masked_lm, lm_data, prune_layers="keep:0,1,4"))
    model, task = load(tmp_path / "old.pt", lm_data, prune_layers="keep:0,1,4")
    assert type(task) is LayerDropMaskedLMTask and torch.equal(outputs(model, task), expected)
    stock = outputs(*load(tmp_path / "old.pt", lm_data, encoder_layers_to_keep="0,1,2"))
    assert torch.equal(stock, outputs(*load(tmp_path / "old.pt", lm_data, prune_layers="keep:0-2")))
