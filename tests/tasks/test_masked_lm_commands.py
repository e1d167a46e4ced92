"""fairseq's own commands with layerdrop_masked_lm."""

import json

import torch

from fairseq_layerdrop.surgery import load_checkpoint
from tests.commands import layerdrop, said, train_masked_lm


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
