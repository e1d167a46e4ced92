"""What fairseq's scores leave in checkpoints, and what older versions left, loads wherever a checkpoint is loaded."""

import numpy
import pytest
import torch

from fairseq_layerdrop import LayerDropTransformerModel
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import (
    EVALUATE,
    LAYERDROP_TRANSLATION,
    NEEDS_FAIRSEQ_MAIN,
    ROBERTA,
    TRAIN,
    ends_in_one_line,
    generate,
    layerdrop,
    run,
    said,
)
from tests.foreign import CORE, CORES, OLD_METERS, old_meters, save

VALIDATED = tuple(flag for flag in TRAIN if flag != "--disable-validation")


def train(data, out, updates, *flags, **kwargs):
    return run(
        "fairseq-train", data, *LAYERDROP_TRANSLATION, "--arch", "layerdrop_transformer_tiny", *VALIDATED,
        "--share-all-embeddings", "--max-tokens", "1000", "--max-update", updates, "--save-dir", out, *flags, **kwargs,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scored(translation_data, tmp_path_factory):
    """A checkpoint with the counts of BLEU."""
    out = tmp_path_factory.mktemp("scored")
    train(translation_data, out, 1, "--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 5}')
    return out / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def foreign(scored):
    """It, as another generation of numpy writes it."""
    path = scored.with_name("foreign.pt")
    save(torch.load(scored), path, {CORE: next(core for core in CORES if core != CORE)})
    return path


@pytest.fixture(scope="module")
def old(scored):
    """It, as fairseq 0.9 writes it, with its settings in a namespace and its meters as objects."""
    path, checkpoint = scored.with_name("old.pt"), torch.load(scored)
    extra_state = {"train_iterator": checkpoint["extra_state"]["train_iterator"], "val_loss": numpy.float64(6.5)}
    save(
        {
            "args": checkpoint["cfg"]["model"],
            **{name: checkpoint[name] for name in ("model", "optimizer_history", "last_optimizer_state")},
            "extra_state": {**extra_state, "train_meters": old_meters()},
        },
        path,
        OLD_METERS,
    )
    return path


@pytest.mark.parametrize("which", ["scored", "foreign", "old"])
def test_the_fairseq_layerdrop_command(request, tmp_path, which):
    path = request.getfixturevalue(which)
    assert "layerdrop_transformer_tiny" in layerdrop("describe", path).stdout
    layerdrop("export", path, "--prune-layers", "keep:1@top", "-o", tmp_path / "small.pt")
    layerdrop("average", path, path, "-o", tmp_path / "average.pt")  # keeps what the training noted
    assert load_checkpoint(tmp_path / "average.pt")["extra_state"].keys() == load_checkpoint(path)["extra_state"].keys()


@pytest.mark.parametrize("which", ["foreign", "old"])
def test_fairseqs_commands(request, translation_data, tmp_path, which):
    path = request.getfixturevalue(which)
    assert "H-0" in generate(translation_data, path, *LAYERDROP_TRANSLATION).stdout
    done = train(translation_data, tmp_path, 2, "--restore-file", path)
    assert f"Loaded checkpoint {path} (epoch 2 @ 1 updates)" in said(done)
    assert load_checkpoint(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 2


def test_other_loaders(translation_data, foreign):
    done = run("fairseq-validate", translation_data, "--path", foreign, *LAYERDROP_TRANSLATION, *EVALUATE)
    assert "| loss" in said(done)
    hub = LayerDropTransformerModel.from_pretrained(str(foreign.parent), foreign.name, str(translation_data))
    assert isinstance(hub.translate("w1 w2 w3"), str)


@NEEDS_FAIRSEQ_MAIN
def test_scores_of_classifiers(sentence_data, tmp_path):
    def train(updates):
        return run(
            "fairseq-train", sentence_data, "--task", "layerdrop_sentence_prediction", "--criterion",
            "sentence_prediction", "--num-classes", "2", "--classification-head-name", "length", "--init-token", "0",
            *ROBERTA, *VALIDATED, "--max-update", updates, "--save-dir", tmp_path, "--report-acc-and-f1",
            "--best-checkpoint-metric", "acc_and_f1", "--maximize-best-checkpoint-metric",
        )  # fmt: skip

    train(1)
    assert isinstance(load_checkpoint(tmp_path / "checkpoint_best.pt")["extra_state"]["best"], numpy.float64)
    assert "@ 1 updates)" in said(train(2))


def test_what_is_refused_is_named(translation_data, scored, tmp_path):
    """In one line, whoever reads the file."""
    refused = tmp_path / "refused.pt"
    save({**torch.load(scored), "task_state": {"words": numpy.array(["text"])}}, refused)
    words = f"{refused} holds more than data, numpy.dtype('U4'): loading it could run code; refused"
    ends_in_one_line(layerdrop("describe", refused, check=False), words)
    ends_in_one_line(generate(translation_data, refused, *LAYERDROP_TRANSLATION, check=False), words)
    for name, damaged in {"cut.pt": scored.read_bytes()[:50000], "other.pt": b"text"}.items():
        (tmp_path / name).write_bytes(damaged)
        done = generate(translation_data, tmp_path / name, *LAYERDROP_TRANSLATION, check=False)
        ends_in_one_line(done, f"{name} is damaged or not a checkpoint")
    torch.save(torch.load(scored), tmp_path / "protocol.pt", pickle_protocol=4)
    ends_in_one_line(layerdrop("describe", tmp_path / "protocol.pt", check=False), "another pickle_protocol")
    stock = ("--restore-file", refused, "--task", "translation", "--arch", "transformer_tiny")
    ends_in_one_line(train(translation_data, tmp_path, 2, *stock, check=False), words)
