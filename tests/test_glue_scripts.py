"""RoBERTa's and GLUE's recipes, small, from raw data to the table of what to drop; after a kill; mistakes."""

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from fairseq.data import Dictionary, data_utils

from fairseq_layerdrop.reports.glue_table import FULL, RANDOM, Run, add_row, read_rows
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint, save_checkpoint
from tests.commands import NEEDS_FAIRSEQ_MAIN, ROOT, run
from tests.markdown import lines_of
from tests.test_scripts import environment, script

pytest.importorskip("sklearn")
pytestmark = NEEDS_FAIRSEQ_MAIN
TASK = "MRPC"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a masked language model of 6 layers, after 20 updates on made-up text."""
    out = tmp_path_factory.mktemp("roberta")
    script("roberta/prepare.sh", SMOKE=1, OUT=out)
    done = script("roberta/train.sh", "small_layerdrop", SMOKE=1, OUT=out, check=False)
    assert done.returncode == 1 and "bash scripts/roberta/train.sh small_layerdrop_short" in done.stderr
    done = script("roberta/train.sh", SMOKE=1, OUT=out)
    assert f"loading pretrained model from {out}/small_layerdrop_short/checkpoint_last.pt" in done.stdout + done.stderr
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


def test_short_blocks_first(pretrained):
    """Neither part is gone on with once it has ended, where fairseq would make another update."""
    names = ("small_layerdrop_short", "small_layerdrop")
    done = script("roberta/train.sh", SMOKE=1, OUT=pretrained).stdout
    assert f"{names[1]} in {pretrained / names[1]} has ended" in done
    done = script("roberta/train.sh", names[0], SMOKE=1, OUT=pretrained).stdout
    assert f"{names[0]} in {pretrained / names[0]} has ended" in done
    states = [load_checkpoint(pretrained / name / "checkpoint_last.pt") for name in names]
    assert [state["cfg"]["task"]["tokens_per_sample"] for state in states] == [16, 64]
    assert [state["optimizer_history"][-1]["num_updates"] for state in states] == [5, 20]


def test_masked_lm_loss_by_depth(pretrained):
    script("roberta/evaluate.sh", SMOKE=1, OUT=pretrained, DEPTHS=3)
    [row] = json.loads((pretrained / "result.json").read_text())["rows"]
    assert row["model"] == "small_layerdrop" and row["kept"] == "encoder 3 of 6 layers (0,2,4)"
    assert row["scores"]["perplexity"] == 2 ** row["scores"]["loss"] and row["scores"]["loss"] > 1


def test_inputs_are_what_the_model_sees(prepared, compare):
    """The sentences of dev that contribution looks at, as fairseq's sentence prediction joins them."""
    data = prepared / TASK / "data-bin"
    known = Dictionary.load(str(data / "inputs/dict.txt"))
    inputs, first, second = (
        data_utils.load_indexed_dataset(str(data / kind / "valid"), known) for kind in ("inputs", "input0", "input1")
    )
    assert len(inputs) == 24
    assert inputs[3].tolist() == [*first[3].tolist(), known.eos(), *second[3].tolist()]


def test_order_of_mnlis_two(pretrained, tmp_path):
    """valid is matched and valid1 is mismatched, in whatever order a locale sorts them."""
    raw = tmp_path / "raw/MNLI"
    raw.mkdir(parents=True)
    for name, count in {"train": 3, "dev_matched": 1, "dev_mismatched": 2}.items():
        (raw / f"{name}.tsv").write_text(
            "sentence1\tsentence2\tgold_label\n" + "the price\tthe price\tneutral\n" * count
        )
    pieces = {"PIECES": pretrained / "text/spm.model", "DICT": pretrained / "data-bin/dict.txt"}
    script("glue/prepare.sh", "MNLI", RAW=raw.parent, OUT=tmp_path, LC_ALL="en_US.UTF-8", **pieces)
    label = tmp_path / "MNLI/data-bin/label"
    known = Dictionary.load(str(label / "dict.txt"))
    assert [len(data_utils.load_indexed_dataset(str(label / split), known)) for split in ("valid", "valid1")] == [1, 2]


def test_prepared_anew_for_another_dictionary(pretrained, prepared, tmp_path):
    shutil.copytree(prepared / TASK, tmp_path / TASK)
    shutil.copytree(prepared / "raw", tmp_path / "raw")
    given = {"PIECES": pretrained / "text/spm.model", "DICT": tmp_path / "dict.txt", "RAW": tmp_path / "raw"}
    shutil.copy(pretrained / "data-bin/dict.txt", given["DICT"])
    with given["DICT"].open("a") as file:
        file.write("another 1\n")
    done = script("glue/prepare.sh", TASK, SMOKE=1, OUT=tmp_path, **given)
    assert f"{tmp_path / TASK}/text was made in another way" in done.stdout
    assert "another 1" in (tmp_path / TASK / "data-bin/input0/dict.txt").read_text()
    given["DICT"].write_text("another 1\n")
    done = script("glue/prepare.sh", TASK, SMOKE=1, OUT=tmp_path, check=False, **given)
    assert done.returncode == 1 and "both must be of the same pre-training" in done.stderr


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
    logs = [log.read_text() for log in (prepared / TASK / "logs").iterdir()]
    assert len(logs) == 4 and all(log.startswith(f"# fairseq-train {prepared / TASK}/data-bin ") for log in logs)
    table = lines_of((prepared / TASK / "result.md").read_text())
    assert table[0] == "GLUE, MRPC, dev, SMOKE"
    assert any(line.startswith("| small_layerdrop | top | 5 | ") for line in table)
    told = json.loads((prepared / TASK / "result.json").read_text())
    assert told["majority"] == {"accuracy": 50.0, "F1": 0.0} and len(told["means"]) == 4
    done = script("glue/compare.sh", checkpoint, TASK, check=False, **{**given, "LR": 0.002})
    assert done.returncode == 1 and "has runs with another learning rate; give" in done.stderr.splitlines()[-1]
    assert rows.read_text().count("\n") == 4


def test_data_of_another_dictionary(prepared, checkpoint, tmp_path):
    shutil.copytree(prepared / TASK, tmp_path / TASK)
    with (tmp_path / TASK / "data-bin/input0/dict.txt").open("a") as file:
        file.write("another 1\n")
    done = script("glue/compare.sh", checkpoint, TASK, SMOKE=1, OUT=tmp_path, check=False)
    assert done.returncode == 1 and "prepare the task with PIECES and DICT of its pre-training" in done.stderr


def test_binarised_before_the_text_was_made_anew(prepared, checkpoint, tmp_path):
    shutil.copytree(prepared / TASK, tmp_path / TASK)
    with (tmp_path / TASK / "text/.made").open("a") as file:
        file.write("--items 7\n")
    done = script("glue/compare.sh", checkpoint, TASK, SMOKE=1, OUT=tmp_path, check=False)
    assert done.returncode == 1 and "data-bin isn't made from" in done.stderr and "prepare.sh MRPC" in done.stderr


@pytest.fixture
def comparison(prepared, checkpoint, compare, tmp_path, monkeypatch):
    """A function that makes the comparison of given arguments, in a folder without rows."""
    shutil.copytree(prepared / TASK, tmp_path / TASK, ignore=shutil.ignore_patterns("rows.jsonl", "runs", "logs"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def made(*arguments):
        given = [str(checkpoint), TASK, str(tmp_path / TASK), "--cpu", "--learning-rate", "0.001", *arguments]
        return compare.Comparison(compare.parser().parse_args(given))

    return made


TOP = Run("small_layerdrop", "top", 1, 1)


def test_a_run_goes_on_where_it_was(comparison):
    """After one of two epochs; the time of both counts."""
    ours = comparison("--epochs", "2")
    folder = ours.folder / "runs" / ours.name_of(TOP)
    run("fairseq-train", *ours.flags(TOP, folder), "--max-epoch", "1")
    before = load_checkpoint(folder / "checkpoint_last.pt")["extra_state"]["previous_training_time"]
    ours.tune(TOP, wait=False)
    [log] = (ours.folder / "logs").glob("*.log")
    assert "(epoch 2 @ 5 updates)" in log.read_text() and "end of epoch 1 " not in log.read_text()
    assert ours.done()[TOP].tuning > before - ours.seconds_before > 0
    assert not folder.exists()


def test_two_at_a_time(comparison, compare):
    """What another process is at is left to it; a command that outlives us keeps the lock."""
    ours = comparison()
    path = ours.folder / "runs" / f"{ours.name_of(TOP)}.lock"
    with compare.locked(path, wait=False) as lock:
        with compare.locked(path, wait=False) as another:
            assert another is None
        ours.tune(TOP, wait=False)
        still = "import fcntl, sys; fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        compare.run_command(ours.folder / "logs/it.log", "python", "-c", still, lock, hold=[lock])
    assert not ours.done() and not (ours.folder / "rows.jsonl").exists()


def test_a_terminated_comparison_ends_its_training(comparison):
    ours = comparison()
    command = ["bash", ROOT / "scripts/glue/compare.sh", ours.args.checkpoint, TASK]
    process = subprocess.Popen(
        command, env=environment(SMOKE=1, OUT=ours.folder.parent, GPUS=0), stdout=subprocess.DEVNULL
    )
    try:
        # until fairseq-train says something, below its command
        while not any(log.read_text().count("\n") > 1 for log in (ours.folder / "logs").glob("*.log")):
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    [lock] = (ours.folder / "runs").glob("*.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which fairseq-train would hold


def test_rows_that_do_not_fit(comparison, compare):
    """Also those of runs that aren't asked for."""

    def row(run, ours):
        return compare.Row(run, (), 1, {"accuracy": 1.0}, 1.0, 1.0, ours.settings, ours.start(run), "")

    other = comparison("--epochs", "1")
    add_row(other.rows, row(Run("another", "top", 2, 7), other))
    assert len(other.done()) == 1
    for given, words in {
        ("--epochs", "2"): "with another epochs; give another OUT",
        ("--epochs", "1", "--batch-size", "3", "--learning-rate", "1"): "another learning rate and batch; give",
    }.items():
        with pytest.raises(SystemExit, match=words):
            comparison(*given).done()
    other.configuration = dict
    with pytest.raises(SystemExit, match="with another configuration; give another OUT"):
        other.done()
    del other.configuration
    other.fingerprint = "that of another"
    add_row(other.rows, row(TOP, other))
    with pytest.raises(SystemExit, match="has runs of another small_layerdrop; give another NAME"):
        comparison("--epochs", "1").done()
    assert len(comparison("--epochs", "1", "--name", "mine").done()) == 2
    other.shape = {}
    add_row(other.rows, row(Run(RANDOM, FULL, 0, 1), other))
    with pytest.raises(SystemExit, match="models of another shape; give another OUT"):
        comparison("--epochs", "1", "--name", "mine").done()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--learning-rate", "0"), "--learning-rate must be above 0, not 0.0"),
        (("--batch-size", "0"), "--batch-size must be at least 1"),
        (("--epochs", "0"), "--epochs must be at least 1"),
        (("--name", "a/b"), "NAME can't be 'a/b'"),
        (("--name", RANDOM), f"NAME can't be '{RANDOM}'"),
    ],
)
def test_numbers_that_make_no_sense(comparison, arguments, words):
    with pytest.raises(SystemExit, match=words):
        comparison(*arguments)


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
        ("roberta/train.sh small_layerdrop", "bash scripts/roberta/prepare.sh"),
        ("roberta/train.sh small_other", "no configs/roberta/small_other.yaml; the runs are base "),
    ],
)
def test_mistakes_end_in_one_line(command, words, tmp_path):
    done = script(*command.split(), OUT=tmp_path, check=False)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1
