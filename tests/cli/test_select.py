"""``fairseq-layerdrop select``: plans and ladders from a trained model, on one process or two, with a kill between."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fairseq_cli import eval_lm, validate

from fairseq_layerdrop.evaluation import detokenised_bleu, read_generation_log
from fairseq_layerdrop.plan import parse, read_ladder, read_plan, transformer_structure, unit_name
from tests.commands import (
    LAYERDROP_TRANSLATION,
    ROOT,
    USER_DIR,
    ends_in_one_line,
    generate,
    layerdrop,
    run,
    said,
)
from tests.test_benchmarks import free_port

FULL = transformer_structure({"encoder": 6, "decoder": 6})


@pytest.fixture
def select(translation_data, checkpoint, tmp_path):
    def ask(*arguments, out="plan.json", check=True):
        return layerdrop(
            "select", translation_data, "--path", checkpoint, "--cpu", "-o", tmp_path / out, *arguments, check=check
        )

    return ask


def test_a_size_of_the_ladder_is_the_run_for_that_size(select, tmp_path):
    done = select("--method", "sleb", "--stacks", "decoder", "--user-dir", USER_DIR, out="ladder.json")
    ladder = read_ladder(tmp_path / "ladder.json")
    assert f"use: --prune-layers decoder=keep:COUNT@{tmp_path}/ladder.json" in done.stdout
    assert ladder.origin["method"] == "sleb" and ladder.origin["fingerprint"].startswith("sha256:")
    assert len(ladder.removals) == 4  # the first and the last layer are barriers
    for keep in (5, 3):
        select("--method", "sleb", "--keep", f"decoder={keep}", out=f"{keep}.json")
        told = read_plan(tmp_path / f"{keep}.json")
        assert parse(f"decoder=keep:{keep}@{tmp_path}/ladder.json").resolve(FULL) == told.plan
        assert told.origin["score"] == ladder.scores[5 - keep]
    shown = layerdrop("describe", tmp_path / "ladder.json").stdout
    assert all(unit_name(unit) in shown for unit in ladder.removals) and "sleb" in shown
    told = json.loads(layerdrop("describe", tmp_path / "ladder.json", "--json").stdout)
    assert [removal["score"] for removal in told["removals"]] == list(ladder.scores)


def test_the_loss_is_that_of_fairseq_validate(select, logged, translation_data, checkpoint, tmp_path):
    """Of each plan of an exhaustive search; fairseq-validate shows three digits."""
    select("--method", "search", "--keep", "decoder=5")
    lines = [json.loads(line) for line in (tmp_path / "plan.json.scores").read_text().splitlines()[1:]]
    tokens = read_plan(tmp_path / "plan.json").origin["tokens"]
    scores = sorted((line["score"] / tokens, line["without"]) for line in lines)
    assert len(scores) == 6
    for score, without in scores:
        number = without.removeprefix("decoder.")
        told = logged(
            validate.cli_main, translation_data, *LAYERDROP_TRANSLATION, "--path", checkpoint,
            "--cpu", "--max-tokens", "4000", "--required-batch-size-multiple", "1", "--valid-subset", "valid",
            "--prune-layers", f"decoder=drop:{number}-{number}",
        )  # fmt: skip
        assert float(re.findall(r"\bloss ([\d.]+)", told)[-1]) == pytest.approx(score, abs=1e-3)
    dropped = set(range(6)) - set(read_plan(tmp_path / "plan.json").plan.stacks["decoder"].layers)
    assert [f"decoder.{number}" for number in dropped] == [scores[0][1]]


def test_bleu_is_that_of_fairseq_generate(select, translation_data, checkpoint, tmp_path):
    settings = ("--beam", "2", "--max-len-b", "8")
    select("--method", "search", "--keep", "decoder=5", "--metric", "bleu", *settings)
    done = generate(
        translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--gen-subset", "valid",
        "--prune-layers", tmp_path / "plan.json", *settings,
    )  # fmt: skip
    (tmp_path / "log").write_text(said(done))
    log = read_generation_log(tmp_path / "log")
    score = detokenised_bleu(log.hypotheses, log.references).score
    assert read_plan(tmp_path / "plan.json").origin["score"] == pytest.approx(score, abs=1e-6)


def test_a_checkpoint_of_stock_fairseq(translation_data, stock_checkpoint, tmp_path):
    layerdrop(
        "select", translation_data, "--path", stock_checkpoint, "--cpu", "--method", "similarity", "--keep",
        "encoder=9,decoder=12", "-o", tmp_path / "plan.json",
    )  # fmt: skip
    plan = read_plan(tmp_path / "plan.json").plan
    assert [sum(map(len, part.keep)) for part in plan.stacks.values()] == [9, 12]


def test_a_language_model(lm_data, lm_checkpoint, logged, tmp_path):
    asked = ("select", lm_data, "--path", lm_checkpoint, "--cpu")
    layerdrop(*asked, "--method", "finercut", "--keep", "decoder=9", "-o", tmp_path / "plan.json")
    kept = read_plan(tmp_path / "plan.json").plan.stacks["decoder"]
    assert sum(map(len, kept.keep)) == 9

    def evaluate(spec):
        return logged(
            eval_lm.cli_main, lm_data, "--path", lm_checkpoint, "--user-dir",
            USER_DIR, "--task", "layerdrop_language_modeling", "--cpu", "--gen-subset", "valid", "--tokens-per-sample",
            "32", "--required-batch-size-multiple", "1", "--prune-layers", spec,
        )  # fmt: skip

    assert "pruned layers: kept decoder" in evaluate(tmp_path / "plan.json")
    # each plan of an exhaustive search scores as fairseq-eval-lm, which shows four digits, and the best is chosen
    layerdrop(*asked, "--method", "search", "--keep", "decoder=5", "-o", tmp_path / "best.json")
    lines = [json.loads(line) for line in (tmp_path / "best.json.scores").read_text().splitlines()[1:]]
    best = read_plan(tmp_path / "best.json")
    scores = {}
    for line in lines:
        drop = line["without"].replace("decoder.", "").replace(" ", "")
        scores[drop] = line["score"] / best.origin["tokens"]
        loss = re.findall(r"Loss \(base 2\): ([\d.]+)", evaluate(f"decoder=drop:{drop}-{drop}"))[-1]
        assert float(loss) == pytest.approx(scores[drop], abs=1e-4)
    assert len(scores) == 6
    kept = set(range(6)) - set(map(int, min(scores, key=scores.get).split(",")))
    assert set(best.plan.stacks["decoder"].layers) == kept
    layerdrop(*asked, "--method", "block-influence", "-o", tmp_path / "ladder.json", "--sentences", "3")
    assert len(read_ladder(tmp_path / "ladder.json").removals) == 5


SEARCH = ("--method", "search", "--keep", "encoder=3,decoder=3")  # 400 plans


def command(translation_data, checkpoint, out):
    return [
        "fairseq-layerdrop", "select", str(translation_data), "--path", str(checkpoint), "--cpu", *SEARCH,
        "-o", str(out),
    ]  # fmt: skip


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
BIN = Path(sys.executable).parent


def test_two_processes_and_a_kill_give_the_same_plan(select, translation_data, checkpoint, tmp_path):
    run(*command(translation_data, checkpoint, tmp_path / "one.json"))
    whole = (tmp_path / "one.json").read_bytes()
    torchrun = [
        str(BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", str(free_port()), "--no-python",
    ]  # fmt: skip
    two = subprocess.run(
        [*torchrun, *command(translation_data, checkpoint, tmp_path / "two.json")],
        env={**ENVIRONMENT, "PATH": f"{BIN}:{os.environ['PATH']}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr[-3000:]
    assert (tmp_path / "two.json").read_bytes() == whole
    shares = [len((tmp_path / name).read_text().splitlines()) - 1 for name in ("two.json.scores", "two.json.scores.1")]
    assert shares == [200, 200]

    out = tmp_path / "killed.json"
    log = tmp_path / "killed.json.scores"
    words = command(translation_data, checkpoint, out)
    process = subprocess.Popen(
        [str(BIN / words[0]), *words[1:]], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not log.exists() or len(log.read_text().splitlines()) < 5:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not out.exists()
    before = log.read_text().splitlines()[:-1]
    done = run(*words)
    after = [json.loads(line) for line in log.read_text().splitlines()]
    assert [json.dumps(line) for line in after[: len(before)]] == before
    assert len({line["without"] for line in after[1:]}) == len(after) - 1 == 400
    assert out.read_bytes() == whole and "layers run" in done.stdout


class TestMistakes:
    @pytest.mark.parametrize(
        "arguments, words",
        [
            (("--method", "sleb", "--gen-subset", "dev"), "no subset 'dev' in "),
            (("--method", "sleb", "--keep", "decoder=7"), "can keep 2 to 6 layers of the decoder"),
            (("--method", "sleb", "--keep-total", "1"), "can keep 4 to 12 layers in total, not 1"),
            (("--method", "search"), "search makes no ladder"),
            (("--method", "sleb", "--threshold", "0.9"), "--threshold is for contribution, not sleb"),
            (("--method", "sleb", "--metric", "bleu"), "sleb has no --metric bleu; it has its own"),
            (("--method", "finercut", "--metric", "bleu"), "its metrics are js, js-reversed, kl, angular, norm"),
            (("--method", "sleb", "--beam", "3"), "--beam is for search --metric bleu or rouge"),
            (("--method", "taylor", "--stacks", "decoder"), "there is nothing to remove"),
            (("--method", "sleb", "--keep", "decoder=3", "--keep-total", "8"), "--keep says which stacks"),
            (("--method", "contribution", "--threshold", "1.1"), "contribution would remove nothing"),
            (("--method", "contribution", "--threshold", "0.9", "--keep", "decoder=3"), "--threshold says how much"),
            (("--method", "taylor", "--log", "x"), "--log is for sleb, blockpruner, finercut, search"),
            (("--method", "sleb", "--max-tokens", "5"), "--max-tokens 5 is too few for a sentence of"),
            (("--method", "sleb", "--batch-size", "-1"), "--batch-size must be at least 1"),
            (("--method", "sleb", "--model-overrides", "{'prune_layers': 'drop:1@top'}"), "leave prune_layers out"),
            (("--method", "search", "--keep", "decoder=5", "--metric", "bleu", "--beam", "0"), "--beam must be at"),
            (
                ("--method", "search", "--keep", "decoder=5", "--metric", "bleu", "--temperature", "0"),
                "these settings: --temperature must be greater than 0",
            ),
            (
                ("--method", "search", "--keep", "decoder=5", "--metric", "bleu", "--remove-bpe", "no"),
                "unknown --remove-bpe no",
            ),
            (("--method", "sleb", "--model-overrides", "x y"), "--model-overrides must be a dict"),
            (("--method", "sleb", "--sentences", "0"), "must be at least 1"),
            (("--method", "sleb", "--user-dir", "/no/such/dir"), "can't import --user-dir /no/such/dir"),
        ],
    )
    def test_one_line(self, arguments, words, select, tmp_path):
        ends_in_one_line(select(*arguments, check=False), words)
        assert not (tmp_path / "plan.json").exists()

    def test_output(self, select, tmp_path):
        (tmp_path / "plan.json").write_text("mine")
        ends_in_one_line(select("--method", "sleb", check=False), "exists; give another name, or --force")
        ends_in_one_line(select("--method", "sleb", out="plan.txt", check=False), "must be named .json")
        ends_in_one_line(select("--method", "sleb", out="no/plan.json", check=False), "cannot write into")
        ends_in_one_line(select("--method", "sleb", "--keep", "", check=False), "is not like encoder=6,decoder=3")
        assert (tmp_path / "plan.json").read_text() == "mine"

    def test_an_empty_subset(self, translation_data, checkpoint, tmp_path):
        dictionaries = [str(translation_data / f"dict.{language}.txt") for language in "ab"]
        for language in "ab":
            (tmp_path / f"empty.{language}").touch()
        run(
            "fairseq-preprocess", "--source-lang", "a", "--target-lang", "b", "--validpref", tmp_path / "empty",
            "--destdir", tmp_path / "bin", "--srcdict", dictionaries[0], "--tgtdict", dictionaries[1],
        )  # fmt: skip
        done = layerdrop(
            "select", tmp_path / "bin", "--path", checkpoint, "--cpu", "--method", "sleb", "-o", tmp_path / "plan.json",
            check=False,
        )  # fmt: skip
        ends_in_one_line(done, "the subset 'valid' is empty")
        assert not list(tmp_path.glob("plan*"))

    def test_log_of_another_run(self, select):
        asked = ("--method", "sleb", "--keep", "decoder=5", "--force")
        select(*asked)
        ends_in_one_line(select(*asked, "--sentences", "5", check=False), "of another run: it looked at other data")
        overrides = ("--model-overrides", "{'no_scale_embedding': True}")
        ends_in_one_line(select(*asked, *overrides, check=False), "of another run: its overrides is {}")

    def test_other_data(self, select, tmp_path, checkpoint):
        done = layerdrop(
            "select", tmp_path, "--path", checkpoint, "--method", "sleb", "-o", tmp_path / "x.json", check=False
        )
        ends_in_one_line(done, "can't load ", "for the data in", "Could not infer language pair")
