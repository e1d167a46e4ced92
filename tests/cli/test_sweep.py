"""``fairseq-layerdrop sweep``, and what is made of its points, from trained models."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairseq_layerdrop.analysis.sweep import plans_for
from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import Ladder, parse, transformer_structure, write_ladder, write_plan
from fairseq_layerdrop.reports.points import read_sweep
from fairseq_layerdrop.surgery.checkpoint import Checkpoint
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import (
    NEEDS_FAIRSEQ_MAIN,
    ROOT,
    USER_DIR,
    ends_in_one_line,
    layerdrop,
    run,
    said,
    train_lm,
    train_translation,
    write_sentences,
)
from tests.test_scripts import environment

DEPTHS = {"encoder": 6, "decoder": 6}
HALF = "decoder=keep:3@every_other"
GENERATE = ("--gen-subset", "test", "--beam", "3", "--max-len-b", "12")
QUICK = ("--cpu", "--timed-sentences", "4", "--repeats", "1", "--threads", "1")


def run_printed(folder, *flags) -> str:
    """What the command says that `choose` prints for the smallest model."""
    chosen = json.loads(layerdrop("choose", folder, "--least", "params", "--json", *flags).stdout)
    done = subprocess.run(
        ["bash", "-c", chosen["commands"]["use"]], env=environment(), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, said(done)
    return said(done)


class TestPlans:
    def test_a_path_and_a_grid(self):
        assert list(plans_for(DEPTHS, {}, ["every_other"], [])) == [
            None, *(f"decoder=keep:{count}@every_other" for count in (5, 4, 3, 2, 1)),
        ]  # fmt: skip
        grid = list(plans_for(DEPTHS, {"encoder": (6, 4), "decoder": (6, 2)}, ["every_other", "top"], []))
        assert grid == [
            None,
            "decoder=keep:2@every_other",
            "encoder=keep:4@every_other",
            "encoder=keep:4@every_other/decoder=keep:2@every_other",
            "decoder=keep:2@top",
            "encoder=keep:4@top",
            "encoder=keep:4@top/decoder=keep:2@top",
        ]
        assert list(plans_for(DEPTHS, {}, None, [])) == list(plans_for(DEPTHS, {}, ["every_other"], []))
        for text in filter(None, grid):
            parse(text).resolve(transformer_structure(DEPTHS))

    def test_a_ladder(self, tmp_path):
        full = transformer_structure(DEPTHS)
        removals = [("decoder", 4, None), ("decoder", 1, None)]
        write_ladder(Ladder(full, tuple(removals), (1.0, 2.0)), tmp_path / "ladder.json")
        found = list(plans_for(DEPTHS, {}, None, [str(tmp_path / "ladder.json")]))
        assert found[0] is None and len(found) == 3
        both = list(plans_for(DEPTHS, {}, ["top"], [str(tmp_path / "ladder.json")]))
        assert both == [None, *(f"decoder=keep:{count}@top" for count in (5, 4, 3, 2, 1)), *found[1:]]
        for text, dropped in zip(found[1:], ({4}, {1, 4}), strict=True):
            kept = parse(text).resolve(full).stacks["decoder"].keep
            assert {number for number, names in enumerate(kept) if not names} == dropped

    @pytest.mark.parametrize(
        "wanted, words",
        [({"encoder": (9,)}, "--encoder: can keep 1 to 6 layers, not 9"), ({"decoder": (1,)}, None)],
    )
    def test_mistakes(self, wanted, words):
        if words:
            with pytest.raises(UserError, match=words):
                list(plans_for(DEPTHS, wanted, ["every_other"], []))
        else:
            with pytest.raises(UserError, match="this model has no decoder, only encoder"):
                list(plans_for({"encoder": 6}, wanted, ["every_other"], []))


@NEEDS_FAIRSEQ_MAIN
class TestTranslation:
    @pytest.fixture(scope="class")
    def folder(self, translation_data, checkpoint, tmp_path_factory):
        out = tmp_path_factory.mktemp("sweep")
        layerdrop(
            "sweep", translation_data, "--path", f"ours={checkpoint}", "-o", out, "--decoder", "6,3", *QUICK,
            "--metric", "sacrebleu", "--gen-subset", "test", "--beam", "3", "--max-len-b", "12",
        )  # fmt: skip
        return out

    def test_points_are_what_the_commands_give(self, folder, checkpoint):
        """The printed command of a point gives its score, and the printed export a model of its size."""
        sweep = read_sweep(folder)
        whole, half = sweep.points
        assert whole.prune_layers is None and half.prune_layers == HALF
        assert half.depths == {"encoder": [6, 6], "decoder": [3, 6]}
        chosen = json.loads(layerdrop("choose", folder, "--max-params", f"{half.parameters}", "--json").stdout)
        assert chosen["prune_layers"] == HALF
        log = folder / "generate.log"
        with log.open("w") as file:
            subprocess.run(
                ["bash", "-c", chosen["commands"]["use"]], env=environment(), cwd=ROOT, check=True, stdout=file,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        scored = json.loads(layerdrop("score", log, "--json").stdout)
        assert scored["BLEU"] == pytest.approx(half.quality["BLEU"], abs=1e-9) and half.quality["BLEU"] > 0
        layerdrop(*chosen["commands"]["export"].split()[1:-1], folder / "half.pt")
        tensors = load_checkpoint(folder / "half.pt")["model"]
        assert half.bytes == 4 * half.parameters
        layers = sum(t.numel() for key, t in tensors.items() if ".layers." in key)
        full = sum(t.numel() for key, t in load_checkpoint(checkpoint)["model"].items() if ".layers." in key)
        assert whole.parameters - half.parameters == full - layers
        assert half.multiply_adds < whole.multiply_adds
        for point in sweep.points:
            assert 0 < point.latency["low"] <= point.latency["median"] <= point.latency["high"]
            assert point.throughput["median"] > 0 and point.peak_memory > 10**8
            assert point.quality["perplexity"] == pytest.approx(2 ** point.quality["loss"])

    def test_goes_on_after_a_kill(self, folder, translation_data, checkpoint):
        """What was measured stays; what was cut off is measured again, and is the same but for its times."""
        path = folder / "sweep.jsonl"
        before = path.read_bytes()
        lines = before.split(b"\n")
        path.write_bytes(b"\n".join(lines[:2]) + b"\n" + lines[2][:50])
        again = layerdrop(
            "sweep", translation_data, "--path", f"ours={checkpoint}", "-o", folder, "--decoder", "6,3", *QUICK,
            "--metric", "sacrebleu", "--gen-subset", "test", "--beam", "3", "--max-len-b", "12",
        )  # fmt: skip
        assert "2 points" in again.stdout and "sweep: 1 of 2 points to do\n[2/2] ours decoder=" in again.stderr
        after = path.read_bytes().split(b"\n")
        assert after[:2] == lines[:2] and len(after) == len(lines)
        times = ("latency", "throughput", "peak_memory")
        old, new = ({k: v for k, v in json.loads(line[2]).items() if k not in times} for line in (lines, after))
        assert new == old

    def test_nothing_is_left_of_a_killed_one(self, translation_data, checkpoint, tmp_path):
        """The process that measures a point ends with the one that started it, or this test never does."""
        words = ["sweep", translation_data, "--path", checkpoint, "-o", tmp_path, *QUICK, "--repeats", "10000"]
        program = Path(sys.executable).with_name("fairseq-layerdrop")
        process = subprocess.Popen([program, *map(str, words)], env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)

        def children(pid):
            try:
                return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                return []

        def runs(pid):
            try:
                return bool(Path(f"/proc/{pid}/cmdline").read_text())  # empty when it has ended
            except (FileNotFoundError, ProcessLookupError):
                return False

        measuring = []
        while not measuring:  # a fork of the process that has imported fairseq
            assert process.poll() is None
            measuring = [pid for child in children(process.pid) for pid in children(child)]
            time.sleep(0.05)
        process.kill()
        process.wait()
        while any(map(runs, measuring)):
            time.sleep(0.05)

    def test_report_and_pictures(self, folder):
        layerdrop("report", folder)
        page = (folder / "report.html").read_text()
        for point in read_sweep(folder).points:
            assert f"<td>{point.quality['BLEU']:.2f}</td>" in page and f"<td>{point.parameters / 1e6:.4g}</td>" in page
        for name in ("depths", "pareto"):
            assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
            assert b"<svg" in (folder / f"{name}.svg").read_bytes()

    @pytest.mark.parametrize(
        "flags, words",
        [
            (("--max-latency", "1us"), "none of the 2 points fits: the least latency is"),
            ((), "say what the budget is"),
            (("--max-perplexity", "3", "--model", "other"), "there is no model other in this sweep"),
        ],
    )
    def test_choices_that_fail(self, folder, flags, words):
        ends_in_one_line(layerdrop("choose", folder, *flags, check=False), words)


@pytest.fixture(scope="module")
def two_way_data(tmp_path_factory):
    """Binarised text a-b, whose sides differ."""
    text = tmp_path_factory.mktemp("two_way")
    for seed, (split, count) in enumerate({"train": 80, "test": 16}.items()):
        for side, lang in enumerate("ab"):
            write_sentences(text / f"{split}.{lang}", count, 10 * seed + side)
    run(
        "fairseq-preprocess", "--source-lang", "a", "--target-lang", "b", "--joined-dictionary",
        "--destdir", text / "data-bin", "--trainpref", text / "train", "--testpref", text / "test",
    )  # fmt: skip
    return text / "data-bin"


@NEEDS_FAIRSEQ_MAIN
@pytest.mark.parametrize(
    "flags",
    [("--truncate-source", "--max-source-positions", "5"), ("-s", "b", "-t", "a", "--max-target-positions", "12")],
    ids=["truncated", "turned round"],
)
def test_what_a_training_was_given(flags, two_way_data, tmp_path):
    """The printed command tells fairseq-generate, which asks no checkpoint, of the task's settings."""
    train_translation(two_way_data, tmp_path, 20, "--seed", "3", *flags)
    overrides = ("--model-overrides", "{'adaptive_input': False}")
    layerdrop(
        "sweep", two_way_data, "--path", tmp_path / "checkpoint_last.pt", "-o", tmp_path / "sweep", "--decoder", "3",
        *QUICK, "--metric", "rouge", *GENERATE, *overrides,
    )  # fmt: skip
    point = read_sweep(tmp_path / "sweep").points[1]
    log = tmp_path / "generate.log"
    log.write_text(run_printed(tmp_path / "sweep"))
    scored = json.loads(layerdrop("score", log, "--metric", "rouge", "--json").stdout)
    assert scored["rouge1"] == pytest.approx(point.quality["rouge1"], abs=1e-9) and point.quality["rouge1"] > 0


@NEEDS_FAIRSEQ_MAIN
def test_a_language_model_of_other_settings(lm_data, tmp_path):
    train_lm(lm_data, tmp_path, 4, "--output-dictionary-size", "20", "--sample-break-mode", "eos")
    layerdrop(
        "sweep", lm_data, "--path", tmp_path / "checkpoint_last.pt", "-o", tmp_path / "sweep", "--decoder", "3", *QUICK,
        "--user-dir", USER_DIR,
    )  # fmt: skip
    assert f"--user-dir {USER_DIR}\n" in layerdrop("choose", tmp_path / "sweep", "--least", "params").stdout
    half = read_sweep(tmp_path / "sweep").points[1]
    assert f"Loss (base 2): {half.quality['loss']:.4f}" in run_printed(tmp_path / "sweep")


@NEEDS_FAIRSEQ_MAIN
def test_language_model(lm_data, tmp_path):
    """The loss is the one that the printed command, fairseq-eval-lm, tells."""
    train_lm(lm_data, tmp_path, 4)
    done = layerdrop(
        "sweep", lm_data, "--path", tmp_path / "checkpoint_last.pt", "-o", tmp_path / "sweep", "--decoder", "3", *QUICK
    )
    assert said(done).count("ms a block of 32 tokens in batches\n") == 2
    told = layerdrop("choose", tmp_path / "sweep", "--least", "params").stdout
    assert "ms a block of 32 tokens\n" in told and "ms a sentence" not in told
    whole, half = read_sweep(tmp_path / "sweep").points
    assert whole.model == tmp_path.name and half.depths == {"decoder": [3, 6]}
    assert f"Loss (base 2): {half.quality['loss']:.4f}" in run_printed(tmp_path / "sweep")


@NEEDS_FAIRSEQ_MAIN
def test_a_plan_that_was_rewritten(lm_data, tmp_path):
    """Plans are known by what they keep, and each must fit each model, before anything is measured."""
    train_lm(lm_data, tmp_path, 1)
    ask = (
        "sweep", lm_data, "--path", tmp_path / "checkpoint_last.pt", "-o", tmp_path / "sweep", *QUICK, "--plans",
        tmp_path / "plan.json",
    )  # fmt: skip

    def write(text, structure):
        write_plan(parse(text).resolve(structure), tmp_path / "plan.json")

    structure = Checkpoint.load(tmp_path / "checkpoint_last.pt").structure
    write("decoder=keep:0-3", {"decoder": structure["decoder"][:5]})
    ends_in_one_line(layerdrop(*ask, check=False), "plan.json")
    assert not (tmp_path / "sweep/sweep.jsonl").exists()
    write("decoder=keep:0-3", structure)
    layerdrop(*ask)
    assert [point.depths["decoder"] for point in read_sweep(tmp_path / "sweep").points] == [[6, 6], [4, 6]]
    write("decoder=keep:2-5", structure)
    ends_in_one_line(layerdrop(*ask, check=False), "plan.json was another plan when", "give it another name")
    ends_in_one_line(layerdrop(*ask, "--rules", "learned", check=False), "no learned importances")


@NEEDS_FAIRSEQ_MAIN
def test_learned_layers(translation_data, tmp_path):
    train_translation(translation_data, tmp_path, 2, "--decoder-layerdrop-learned")
    path = tmp_path / "checkpoint_last.pt"
    layerdrop(
        "sweep", translation_data, "--path", path, "-o", tmp_path / "sweep", "--decoder", "2", "--rules", "learned",
        *QUICK, "--sentences", "4",
    )  # fmt: skip
    point = read_sweep(tmp_path / "sweep").points[1]
    assert point.prune_layers == "decoder=keep:2@learned"
    assert point.kept == str(Checkpoint.load(path).plan(parse(point.prune_layers)))


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--decoder", "7"), ("--decoder: can keep 1 to 6 layers, not 7",)),
        (("--repeats", "0"), ("--repeats must be at least 1",)),
        (("--plans", "plan.txt"), (".json files, not plan.txt",)),
        (("--gen-subset", "other"), ("no subset 'other'",)),
        (("--metric", "sacrebleu", "--beam", "0"), ("--beam must be at least 1",)),
    ],
)
def test_mistakes(flags, words, translation_data, checkpoint, tmp_path):
    done = layerdrop(
        "sweep", translation_data, "--path", checkpoint, "-o", tmp_path / "out", "--cpu", *flags, check=False
    )
    ends_in_one_line(done, *words)
    assert not (tmp_path / "out/sweep.jsonl").exists(), said(done)


def test_two_models_of_one_name(translation_data, checkpoint, tmp_path):
    done = layerdrop("sweep", translation_data, "--path", checkpoint, checkpoint, "-o", tmp_path, check=False)
    ends_in_one_line(done, "--path NAME=CKPT")
