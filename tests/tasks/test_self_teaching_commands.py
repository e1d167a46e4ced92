"""``--layerdrop-teacher`` in fairseq-train."""

import re
from dataclasses import fields

import pytest
import torch
from fairseq.tasks import TASK_DATACLASS_REGISTRY

from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.tasks.self_teaching import TeachingConfig
from tests.commands import (
    EVALUATE,
    LAYERDROP_TRANSLATION,
    NEEDS_FAIRSEQ_MAIN,
    TRANSLATION,
    ends_in_one_line,
    layerdrop,
    run,
    said,
    train_on_two,
    train_translation,
)

NO_RATES = ("--encoder-layerdrop", "0", "--decoder-layerdrop", "0")
PLANS = ("--layerdrop-plans", "encoder=keep:3,6@every_other/decoder=keep:2-4@every_other")


def logged(done, key):
    """The values of *key* in the lines of the updates."""
    return [float(value) for value in re.findall(rf"\b{key}=([-\d.]+), .*num_updates", said(done))]


def equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first if not key.endswith("_float_tensor")
    )


@pytest.fixture(scope="module")
def taught(translation_data, tmp_path_factory):
    """A model of whose network two plans learn in each of four updates, and what the training printed."""
    out = tmp_path_factory.mktemp("taught")
    done = train_translation(translation_data, out, 4, *SANDWICH)
    return out / "checkpoint_last.pt", done


SANDWICH = (
    *NO_RATES, *PLANS, "--layerdrop-teacher", "self", "--layerdrop-sandwich", "--layerdrop-teacher-labels", "0.5",
    "--store-ema",
)  # fmt: skip


def test_a_restarted_run_ends_as_an_unbroken_one(taught, translation_data, tmp_path):
    """The same plans and dropout, and so the same parameters and averages, bit for bit."""
    train_translation(translation_data, tmp_path, 2, *SANDWICH)
    done = train_translation(translation_data, tmp_path, 4, *SANDWICH)
    assert logged(done, "student_kl") == logged(taught[1], "student_kl")[2:]
    whole, again = (load_checkpoint(path) for path in (taught[0], tmp_path / "checkpoint_last.pt"))
    assert equal(whole["model"], again["model"])
    assert equal(whole["extra_state"]["ema"], again["extra_state"]["ema"])


def test_logs_what_sub_networks_do(taught):
    kept = logged(taught[1], "student_kept")
    possible = {(3 + 2 + encoder + decoder) / 12 for encoder in (3, 6) for decoder in (2, 3, 4)}
    of_two = {round((first + second) / 2, 3) for first in possible for second in possible}
    assert len(kept) == 4 and set(kept) <= of_two and len(set(kept)) > 1
    for key in ("student_kl", "student_loss"):
        assert len(logged(taught[1], key)) == 4 and min(logged(taught[1], key)) > 0


def test_describe(taught, checkpoint):
    [line] = re.findall("^teacher .*$", layerdrop("describe", taught[0]).stdout, re.MULTILINE)
    assert line.endswith(f" self, of the plans {PLANS[1]}")
    assert "teacher" not in layerdrop("describe", checkpoint).stdout


def test_weight_0_is_the_plain_training(translation_data, tmp_path):
    train_translation(translation_data, tmp_path / "plain", 2, *NO_RATES)
    train_translation(
        translation_data, tmp_path / "taught", 2, "--layerdrop-teacher", "self", "--layerdrop-teacher-weight", "0"
    )
    states = [load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in ("plain", "taught")]
    assert equal(*states)


def test_on_two_processes(translation_data, tmp_path):
    first, second = train_on_two(
        translation_data, tmp_path, 2, "--layerdrop-teacher", "r_drop", "--ddp-backend", "legacy_ddp"
    )
    assert len(logged(first, "student_kl")) == 2 and second.returncode == 0


@NEEDS_FAIRSEQ_MAIN
def test_makes_a_plain_model_prunable(translation_data, stock_checkpoint, tmp_path):
    """A model of stock fairseq, trained without LayerDrop, whose half is better afterwards."""
    run(
        "fairseq-train", translation_data, *LAYERDROP_TRANSLATION, "--arch", "layerdrop_transformer_tiny", *TRANSLATION,
        "--layerdrop-teacher", "self", *PLANS, "--finetune-from-model", stock_checkpoint, "--max-update", 10,
        "--save-dir", tmp_path,
    )  # fmt: skip
    losses = []
    for checkpoint in (stock_checkpoint, tmp_path / "checkpoint_last.pt"):
        done = run(
            "fairseq-validate", translation_data, "--path", checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers",
            "decoder=keep:2@every_other", "--valid-subset", "valid", *EVALUATE,
        )  # fmt: skip
        losses.append(float(re.search(r"\| loss ([\d.]+)", said(done))[1]))
    assert losses[1] < losses[0] - 0.2


def test_every_task_has_the_settings():
    ours = {field.name for field in fields(TeachingConfig)}
    tasks = [name for name in TASK_DATACLASS_REGISTRY if name.startswith("layerdrop_")]
    assert len(tasks) == 6
    for name in tasks:
        assert ours <= {field.name for field in fields(TASK_DATACLASS_REGISTRY[name])}, name


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--layerdrop-sandwich",), "--layerdrop-sandwich is for --layerdrop-teacher; leave it out, or give that too"),
        (("--layerdrop-teacher", "self", *PLANS), "--layerdrop-plans and the rates of the encoder exclude each other"),
    ],
)
def test_mistakes(translation_data, tmp_path, flags, words):
    ends_in_one_line(train_translation(translation_data, tmp_path, 1, *flags, check=False), words)
