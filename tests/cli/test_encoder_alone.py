"""The verbs that look at data, for a masked language model and a classifier."""

import json
import re
import subprocess

import pytest
from fairseq_cli import validate

from fairseq_layerdrop.plan import read_ladder, read_plan
from fairseq_layerdrop.reports.points import read_sweep
from fairseq_layerdrop.running.loading import batches, load
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import EVALUATE, NEEDS_FAIRSEQ_MAIN, ROOT, USER_DIR, ends_in_one_line, layerdrop, said
from tests.test_scripts import environment

CRITERIA = {"masked_lm": "masked_lm", "classifier": "sentence_prediction"}


@pytest.fixture(params=CRITERIA)
def kind(request):
    return request.param


@pytest.fixture
def path(kind, request):
    return request.getfixturevalue(kind)


@pytest.fixture
def select(path, sentence_data, tmp_path):
    def ask(*arguments, out="plan.json", check=True):
        return layerdrop(
            "select", sentence_data, "--path", path, "--cpu", "-o", tmp_path / out, *arguments, check=check
        )

    return ask


@NEEDS_FAIRSEQ_MAIN
def test_the_loss_is_that_of_fairseq_validate(kind, select, logged, sentence_data, path, tmp_path):
    """Of a checkpoint of stock fairseq's architecture: the same masks, and the same pruned model."""
    stock = tmp_path / "stock.pt"
    layerdrop("export", path, "-o", stock)
    assert load_checkpoint(stock)["args"].arch == "roberta"
    select("--path", stock, "--method", "search", "--keep", "encoder=5")
    plan = read_plan(tmp_path / "plan.json")
    log = logged(
        validate.cli_main, sentence_data, "--path", stock, "--user-dir", USER_DIR, "--task",
        f"layerdrop_{CRITERIA[kind]}", "--criterion", CRITERIA[kind],
        "--prune-layers", tmp_path / "plan.json", "--valid-subset", "valid", *EVALUATE,
    )  # fmt: skip
    assert "pruned layers: kept encoder 5 of 6 layers" in log
    assert float(re.search(r"\| loss ([\d.]+)", log)[1]) == pytest.approx(plan.origin["score"], abs=6e-4)
    assert ("| accuracy " in log) == (kind == "classifier")
    loaded = load(stock, sentence_data, cpu=True)
    targets = [sample["target"] for sample in batches(loaded, "valid", 400, None)]
    assert plan.origin["tokens"] == sum(
        target.numel() if kind == "classifier" else int(target.ne(loaded.pad).sum()) for target in targets
    )


@pytest.mark.parametrize("method", ["contribution", "taylor", "similarity", "blockpruner"])
def test_ladders(select, method, tmp_path):
    protect = ("--protect-first", "1", "--protect-last", "1")
    done = select("--method", method, *protect, "--sentences", "6", out="ladder.json")
    ladder = read_ladder(tmp_path / "ladder.json")
    assert {unit[0] for unit in ladder.removals} == {"encoder"} and len(ladder.removals) >= 4
    assert f"use: --prune-layers encoder=keep:COUNT@{tmp_path}/ladder.json" in done.stdout


def test_finercut(kind, select):
    """Compares what is predicted of the masked symbols."""
    done = select("--method", "finercut", "--keep", "encoder=10", "--sentences", "6", check=False)
    if kind == "classifier":
        ends_in_one_line(done, "finercut compares the symbols that models predict, and this one predicts labels")
    else:
        assert done.returncode == 0 and "keep encoder" in done.stdout


def test_sensitivity(kind, path, sentence_data, tmp_path):
    done = layerdrop(
        "sensitivity", sentence_data, "--path", path, "--cpu", "--samples", "1", "--sentences", "6", "-o", tmp_path
    )
    assert f"bits per {'label' if kind == 'classifier' else 'token'}" in done.stdout
    assert len(json.loads((tmp_path / "sensitivity.json").read_text())["layers"]) == 6


@NEEDS_FAIRSEQ_MAIN
def test_sweep(kind, path, sentence_data, tmp_path):
    """The scores are those that the printed command, fairseq-validate, tells of the pruned model."""
    metric = ("--metric", "accuracy") if kind == "classifier" else ()
    quick = ("--cpu", "--timed-sentences", "4", "--repeats", "1", "--threads", "1", "--max-tokens", "400")
    layerdrop("sweep", sentence_data, "--path", path, "-o", tmp_path, "--encoder", "3", *quick, *metric)
    whole, half = read_sweep(tmp_path).points
    assert half.depths == {"encoder": [3, 6]} and half.multiply_adds < whole.multiply_adds
    assert list(half.quality) == (["accuracy", "loss"] if metric else ["loss", "perplexity"])
    assert half.item == ("sentence" if metric else "block of 32 tokens")
    told = json.loads(layerdrop("choose", tmp_path, "--least", "params", "--json").stdout)
    done = subprocess.run(
        ["bash", "-c", told["commands"]["use"]], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pruned layers: kept encoder 3 of 6 layers" in said(done)
    for name in ("accuracy", "loss") if metric else ("loss",):
        assert float(re.search(rf"\| {name} ([\d.]+)", said(done))[1]) == pytest.approx(half.quality[name], abs=6e-4)
    layerdrop("report", tmp_path)
    assert f"<td>{half.quality[half.metric]:.2f}</td>" in (tmp_path / "report.html").read_text()


def test_what_needs_a_decoder(select, path, sentence_data, tmp_path):
    done = select("--method", "search", "--keep", "encoder=5", "--metric", "bleu", check=False)
    ends_in_one_line(done, "--metric bleu is for models that translate")
    done = layerdrop("mixture", sentence_data, "--path", path, "--cpu", "-o", tmp_path / "mixture", check=False)
    ends_in_one_line(done, "no decoder")
    done = layerdrop("sweep", sentence_data, "--path", path, "-o", tmp_path, "--metric", "bleu", check=False)
    ends_in_one_line(done, "--metric bleu is for models that translate, and these")
    done = layerdrop("export", path, "--format", "ctranslate2", "-o", tmp_path / "ct2", check=False)
    ends_in_one_line(done, "--format ctranslate2 takes models of the kinds bart, transformer, transformer_lm")
