"""A small BART from stock fairseq, also with the keys of its published checkpoints (fairseq issue 3037)."""

import re

import pytest
import torch

from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import (
    LAYERDROP_TRANSLATION,
    NEEDS_FAIRSEQ_MAIN,
    TRAIN,
    ends_in_one_line,
    generate,
    layerdrop,
    run,
    said,
)
from tests.outputs import load, outputs
from tests.surgery.test_build import old_attention

pytestmark = NEEDS_FAIRSEQ_MAIN
GAPS = ("--prune-layers", "encoder=keep:0,1,2,3,5/decoder=keep:0,2,5")


@pytest.fixture(scope="module")
def bart(translation_data, tmp_path_factory):
    """A 6 + 6-layer BART with today's keys, and the same with old keys."""
    out = tmp_path_factory.mktemp("bart")
    size = [f"--{stack}-{name}" for stack in ("encoder", "decoder") for name in ("embed-dim", "ffn-embed-dim")]
    run(
        "fairseq-train", translation_data, "--task", "translation", "--arch", "bart_base", *TRAIN,
        *(word for flag in size for word in (flag, "32")), "--encoder-attention-heads", "2",
        "--decoder-attention-heads", "2", "--max-tokens", "200", "--max-update", "3", "--save-dir", out,
    )  # fmt: skip
    state = load_checkpoint(out / "checkpoint_last.pt")
    torch.save({**state, "model": old_attention(state["model"])}, out / "old.pt")
    return out


def sentences(done):
    return re.findall(r"^[HP]-\d+\t.*$", done.stdout, re.MULTILINE)


def test_old_keys_with_a_gap(translation_data, bart):
    new, old = (
        generate(translation_data, bart / name, *LAYERDROP_TRANSLATION, *GAPS)
        for name in ("checkpoint_last.pt", "old.pt")
    )
    assert "encoder 5 of 6 layers (0-3,5), decoder 3 of 6 layers (0,2,5)" in said(old)
    assert len(sentences(old)) == 2 * 16 and sentences(old) == sentences(new)


def test_exported(translation_data, bart, tmp_path):
    """Old keys stay in the export, and stock fairseq upgrades them."""
    layerdrop("export", bart / "old.pt", *GAPS, "-o", tmp_path / "small.pt")
    assert load_checkpoint(tmp_path / "small.pt")["args"].arch == "bart_base"
    stock = generate(translation_data, tmp_path / "small.pt")
    pruned = generate(translation_data, bart / "checkpoint_last.pt", *LAYERDROP_TRANSLATION, *GAPS)
    assert sentences(stock) == sentences(pruned)


def test_sub_layers(translation_data, bart, tmp_path):
    text = "decoder=drop:0.self_attn,3.encoder_attn,5.ffn"
    old, new = (
        outputs(*load(bart / name, translation_data, prune_layers=text)) for name in ("old.pt", "checkpoint_last.pt")
    )
    assert torch.equal(old, new)
    done = layerdrop("export", bart / "old.pt", "--prune-layers", text, "-o", tmp_path / "x.pt", check=False)
    ends_in_one_line(done, "sub-layers can be left out of models of the kinds", "and this one is bart_base")


def test_ctranslate2(translation_data, bart, tmp_path):
    pytest.importorskip("ctranslate2")
    layerdrop("export", bart / "old.pt", *GAPS, "-o", tmp_path / "ct2", "--format", "ctranslate2")
    assert (tmp_path / "ct2" / "model.bin").is_file()
