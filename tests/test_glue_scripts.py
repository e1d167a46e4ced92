"""RoBERTa's and GLUE's recipes, small, from raw data to the table of what to drop; after a kill; mistakes."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fairseq_layerdrop.evaluation.glue_table import FULL, RANDOM, Run, read_rows
from fairseq_layerdrop.surgery import load_checkpoint, save_checkpoint
from tests.commands import NEEDS_FAIRSEQ_MAIN, ROOT
from tests.test_scripts import environment, script

pytest.importorskip("sklearn")
pytestmark = NEEDS_FAIRSEQ_MAIN
TASK = "MRPC"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a masked language model of 6 layers, after 20 updates on made-up text."""
    out = tmp_path_factory.mktemp("roberta")
    script("roberta/prepare.sh", SMOKE=1, OUT=out)
    script("roberta/train.sh", SMOKE=1, OUT=out)
    return out


@pytest.fixture(scope="module")
def checkpoint(pretrained):
    return pretrained / "small_layerdrop" / "checkpoint_best.pt"


@pytest.fixture(scope="module")
def prepared(pretrained, tmp_path_factory):
    """A made-up task of GLUE in the pieces of the pre-training."""
    out = tmp_path_factory.mktemp("glue")
    pieces = {"PIECES": pretrained / "text/spm.model", "DICT": pretrained / "data-bin/dict.txt"}
    script("glue/prepare.sh", TASK, SMOKE=1, OUT=out, **pieces)
    return out


@pytest.fixture(scope="module")
def compare():
    """scripts/glue/compare.py."""
    spec = importlib.util.spec_from_file_location("glue_compare", ROOT / "scripts/glue/compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_masked_lm_loss_by_depth(pretrained):
    script("roberta/evaluate.sh", SMOKE=1, OUT=pretrained, DEPTHS=3)
    [row] = json.loads((pretrained / "result.json").read_text())["rows"]
    assert row["model"] == "small_layerdrop" and row["kept"] == "encoder 3 of 6 layers (0,2,4)"
    assert row["scores"]["perplexity"] == 2 ** row["scores"]["loss"] and row["scores"]["loss"] > 1


def test_inputs_are_what_the_model_sees(prepared, compare):
    """The sentences of dev that contribution looks at, as fairseq's sentence prediction joins them."""
    from fairseq.data import Dictionary, data_utils

    data = prepared / TASK / "data-bin"
    known = Dictionary.load(str(data / "inputs/dict.txt"))
    inputs, first, second = (
        data_utils.load_indexed_dataset(str(data / kind / "valid"), known) for kind in ("inputs", "input0", "input1")
    )
    assert len(inputs) == 24
    assert inputs[3].tolist() == [*first[3].tolist(), known.eos(), *second[3].tolist()]


def test_comparison_goes_on_after_a_kill(prepared, checkpoint):
    rows = prepared / TASK / "rows.jsonl"
    given = {"SMOKE": 1, "OUT": prepared, "STRATEGIES": "top contribution", "LR": 0.001, "GPUS": 0}
    process = subprocess.Popen(
        ["bash", str(ROOT / "scripts/glue/compare.sh"), str(checkpoint), TASK],
        env=environment(**given), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        while not (rows.exists() and rows.read_text().endswith("\n")):
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = rows.read_text()
    assert "4 runs, 1 of them are there" in script("glue/compare.sh", checkpoint, TASK, **given).stdout
    assert rows.read_text().startswith(before)
    found = read_rows(rows)
    model = "small_layerdrop"
    wanted = [(model, FULL, 0), (RANDOM, FULL, 0), (model, "top", 1), (model, "contribution", 1)]
    assert list(found) == [Run(*run, 1) for run in wanted]
    full, random, top, contribution = found.values()
    assert (full.layers, top.layers, len(contribution.layers)) == ((), (5,), 1)
    assert full.parameters == random.parameters > top.parameters == contribution.parameters
    assert all(row.tuning > 0 and row.inference > 0 and set(row.scores) == {"accuracy", "F1"} for row in found.values())
    assert not list((prepared / TASK / "runs").glob("*/"))
    table = (prepared / TASK / "result.md").read_text()
    assert table.startswith("GLUE, MRPC, dev, SMOKE\n") and "| small_layerdrop | top | 5 | " in table
    told = json.loads((prepared / TASK / "result.json").read_text())
    assert told["majority"] == {"accuracy": 50.0, "F1": 0.0} and len(told["means"]) == 4
    done = script("glue/compare.sh", checkpoint, TASK, check=False, **{**given, "LR": 0.002})
    assert done.returncode == 1 and "small_layerdrop with another learning rate" in done.stderr.splitlines()[-1]
    assert rows.read_text().count("\n") == 4


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--drop", "6"), "K must be in 0-5, of 6 layers, not 6"),
        (("--drop", "4", "--strategies", "odd_alternate"), "odd_alternate names at most 3 layers of this stack, not 4"),
    ],
)
def test_what_cannot_be_dropped(arguments, words, prepared, checkpoint, compare, monkeypatch):
    before = sorted(prepared.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["compare", str(checkpoint), TASK, str(prepared / TASK), *arguments])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match=words):
        compare.main()
    assert sorted(prepared.rglob("*")) == before


def test_other_models_are_refused(prepared, checkpoint, compare, tmp_path, monkeypatch):
    state = load_checkpoint(checkpoint)
    state["cfg"]["task"]["_name"] = "layerdrop_sentence_prediction"
    save_checkpoint(state, tmp_path / "other.pt")
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "other.pt"), TASK, str(prepared / TASK)])
    with pytest.raises(SystemExit, match="is no masked language model"):
        compare.main()


@pytest.mark.parametrize(
    "command, words",
    [
        ("glue/prepare.sh", "name the tasks: CoLA MNLI"),
        ("glue/prepare.sh WNLI", "GLUE has no task WNLI"),
        ("glue/prepare.sh MRPC", "set RAW to the folder of the tasks"),
        ("glue/compare.sh", "which checkpoint and task?"),
        ("glue/compare.sh some.pt WNLI", "GLUE has no task WNLI"),
        ("glue/compare.sh some.pt MRPC", "bash scripts/glue/prepare.sh MRPC"),
        ("roberta/prepare.sh", "set RAW to the folder with the text"),
        ("roberta/train.sh", "bash scripts/roberta/prepare.sh"),
    ],
)
def test_mistakes_end_in_one_line(command, words, tmp_path):
    done = script(*command.split(), OUT=tmp_path, check=False)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1
