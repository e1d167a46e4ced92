"""The benchmarks' recipes, small, from raw data to the table; on several processes; after a kill; downloads."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fairseq_layerdrop.corpora.look_alikes import MAKERS
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import NEEDS_FAIRSEQ_MAIN, ROOT, layerdrop
from tests.test_scripts import environment, script

pytestmark = NEEDS_FAIRSEQ_MAIN
DATA = ROOT.parent / "shared" / "data"
REAL = {
    "wmt16_en_de": DATA / "multi30k",
    "wikitext103": DATA / "wikitext-2",
    "cnn_dm": DATA / "cnn_dm" / "cnn_dm_999.jsonl",
    "eli5": DATA / "eli5" / "public_examples" / "examples_qda_short.json",
}


def lay_out(benchmark, raw) -> Path:
    """Raw data of a benchmark: small real data in its layout, or a look-alike where that isn't here."""
    real = REAL[benchmark]
    if not real.exists():
        raw.mkdir()
        MAKERS[benchmark](raw)
        return raw
    if real.is_dir():
        return real
    raw.mkdir()
    if benchmark == "cnn_dm":
        lines = real.read_text().splitlines(keepends=True)
        for split, part in {"train": lines[:799], "valid": lines[799:899], "test": lines[899:]}.items():
            (raw / f"{split}.jsonl").write_text("".join(part))
    else:
        items = json.loads(real.read_text())
        for split, part in {"train": items[:6], "valid": items[6:8], "test": items[8:]}.items():
            (raw / f"{split}.json").write_text(json.dumps(part))
    return raw


@pytest.mark.parametrize("benchmark", REAL)
def test_whole_path(benchmark, tmp_path):
    raw = lay_out(benchmark, tmp_path / "raw")
    small = {"SMOKE": 1, "OUT": tmp_path / "out"}
    script(f"{benchmark}/prepare.sh", RAW=raw, **small)
    script(f"{benchmark}/train.sh", **small)
    done = script(f"{benchmark}/evaluate.sh", **small)
    assert done.stdout.count("is there") == 0
    assert f"table: {tmp_path}/out/result.md" in done.stdout
    told = json.loads((tmp_path / "out/result.json").read_text())
    full, pruned = told["rows"]
    stack = "layers (0,2,4)" if benchmark != "wikitext103" else "8 of 16 layers"
    assert stack in pruned["kept"] and full["parameters"] > pruned["parameters"]
    name = full["model"]
    published = told["paper"]["values"][name]
    assert set(published) <= set(full["scores"])
    for row, log in zip(told["rows"], sorted((tmp_path / "out/logs" / name).iterdir(), key=kept_units), strict=True):
        assert row["scores"] == scores(benchmark, log, tmp_path / "out/text")
    table = (tmp_path / "out/result.md").read_text().splitlines()
    assert f"{next(iter(published.values())):.1f}" in table[6] and told["paper"]["table"] in table[6]
    assert "SMOKE" in table[0] and "SMOKE" in told["title"]
    again = script(f"{benchmark}/prepare.sh", RAW=raw, **small).stdout
    again += script(f"{benchmark}/evaluate.sh", **small).stdout
    assert again.count("is there") == 4  # text, data-bin and two logs
    assert json.loads((tmp_path / "out/result.json").read_text()) == told
    if benchmark == "wmt16_en_de":
        assert (tmp_path / "out" / name / "checkpoint_average_2.pt").is_file()


def kept_units(log):
    """Deepest first."""
    return -int(re.search(r"keep-(\d+)", log.name)[1])


def scores(benchmark, log, text):
    """What fairseq-layerdrop score says of a log."""
    told = {
        "wmt16_en_de": ("--references", text / "reference.de"),
        "wikitext103": ("--metric", "perplexity"),
        "cnn_dm": ("--metric", "rouge", "--references", text / "reference.target"),
        "eli5": ("--metric", "rouge-eli5", "--references", text / "reference.target"),
    }
    printed = json.loads(layerdrop("score", log, *told[benchmark], "--json").stdout)
    return {name: value for name, value in printed.items() if name.startswith(("BLEU", "rouge", "perplexity"))}


def test_data_made_in_another_way_is_made_anew(tmp_path):
    small = {"SMOKE": 1, "OUT": tmp_path}
    script("wmt16_en_de/prepare.sh", **small)
    before = (tmp_path / "data-bin/dict.en.txt").read_text()
    done = script("wmt16_en_de/prepare.sh", VOCABULARY=300, **small)
    assert done.stdout.count("was made in another way; making it anew") == 2
    assert (tmp_path / "data-bin/dict.en.txt").read_text() != before


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Binarised look-alike of WMT16."""
    out = tmp_path_factory.mktemp("wmt16") / "out"
    script("wmt16_en_de/prepare.sh", SMOKE=1, OUT=out)
    return out


def share(prepared, out):
    """A folder of one's own with the data of *prepared*."""
    out.mkdir()
    for name in ("text", "data-bin"):
        (out / name).symlink_to(prepared / name)
    return out


def test_the_archive_is_scored_as_the_paper_does(tmp_path):
    """From wmt16_en_de.tar.gz on, with BPE in it: the metric is tokenised BLEU with compounds split."""
    MAKERS["wmt16_en_de_archive"](tmp_path)
    small = {"SMOKE": 1, "OUT": tmp_path / "out", "DEPTHS": "6", "AVERAGE": 1}
    script("wmt16_en_de/prepare.sh", RAW=tmp_path / "wmt16_en_de.tar.gz", **small)
    script("wmt16_en_de/train.sh", "baseline_6_6", "optimization.max_epoch=1", **small)
    script("wmt16_en_de/evaluate.sh", "baseline_6_6", **small)
    told = json.loads((tmp_path / "out/result.json").read_text())
    assert told["metric"] == "compound-bleu" and "tok:none" in told["signature"]
    assert [row["model"] for row in told["rows"]] == ["baseline_6_6"]
    log = next((tmp_path / "out/logs").glob("*/*.log")).read_text()
    references = [line.split("\t")[1] for line in log.splitlines() if line.startswith("T-")]
    assert len(references) == 24 and "@@" not in "".join(references)


def test_a_killed_training_goes_on(prepared, tmp_path):
    out = share(prepared, tmp_path / "out")
    command = ["bash", str(ROOT / "scripts/wmt16_en_de/train.sh"), "layerdrop_6_6", "optimization.max_epoch=40"]
    process = subprocess.Popen(
        command, env=environment(SMOKE=1, OUT=out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        while not (out / "layerdrop_6_6" / "checkpoint2.pt").exists():
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = script("wmt16_en_de/train.sh", "layerdrop_6_6", "optimization.max_epoch=8", SMOKE=1, OUT=out)
    said = done.stdout + done.stderr
    assert "Loaded checkpoint" in said and "begin training epoch 1\n" not in said
    assert (out / "layerdrop_6_6" / "checkpoint8.pt").is_file()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class TestSeveralProcesses:
    ARGUMENTS = (
        "baseline_6_6", "optimization.update_freq=[4]", "optimization.max_update=2", "model.dropout=0",
        "model.attention_dropout=0",
    )  # fmt: skip

    @pytest.fixture(scope="class")
    def alone(self, prepared, tmp_path_factory):
        """The same training in one process."""
        out = share(prepared, tmp_path_factory.mktemp("alone") / "out")
        script("wmt16_en_de/train.sh", *self.ARGUMENTS, SMOKE=1, OUT=out)
        return load_checkpoint(out / "baseline_6_6" / "checkpoint_last.pt")["model"]

    def check(self, out, alone):
        """Two processes make the updates of one; where a gradient is next to zero, Adam may turn its sign round."""
        checkpoint = load_checkpoint(out / "baseline_6_6" / "checkpoint_last.pt")
        settings = checkpoint["cfg"]
        assert settings["distributed_training"]["distributed_world_size"] == 2
        assert settings["optimization"]["update_freq"] == [2]
        different = sum(int(((tensor - alone[key]).abs() > 1e-5).sum()) for key, tensor in checkpoint["model"].items())
        assert different < 0.01 * sum(tensor.numel() for tensor in alone.values())

    def test_torchrun(self, prepared, alone, tmp_path):
        out = share(prepared, tmp_path / "out")
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "torchrun"), "--nproc-per-node", "2",
                "--master-port", str(free_port()), "--no-python",
                "bash", str(ROOT / "scripts/wmt16_en_de/train.sh"), *self.ARGUMENTS,
            ],
            env=environment(SMOKE=1, OUT=out), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        self.check(out, alone)

    def test_srun(self, prepared, alone, tmp_path):
        """The variables of a step's two tasks, as srun sets them."""
        out, port = share(prepared, tmp_path / "out"), free_port()
        tasks = [
            subprocess.Popen(
                ["bash", str(ROOT / "scripts/wmt16_en_de/train.sh"), *self.ARGUMENTS],
                env=environment(
                    SMOKE=1, OUT=out, SLURM_STEP_NUM_TASKS=2, SLURM_PROCID=rank, SLURM_LOCALID=rank,
                    MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
                ),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for rank in range(2)
        ]  # fmt: skip
        outputs = [task.communicate()[0] for task in tasks]
        assert [task.returncode for task in tasks] == [0, 0], outputs
        self.check(out, alone)


class TestMistakes:
    @pytest.mark.parametrize(
        "name, words",
        [
            ("wmt16_en_de/train.sh other", "the runs are baseline_12_6 baseline_6_6 layerdrop_12_6 layerdrop_6_6"),
            ("wmt16_en_de/train.sh layerdrop_6_6", "bash scripts/wmt16_en_de/prepare.sh"),
            ("wmt16_en_de/train.sh optimization.max_epoch=1", "the name of the run comes first"),
            ("wmt16_en_de/evaluate.sh", "bash scripts/wmt16_en_de/train.sh"),
            ("cnn_dm/evaluate.sh layerdrop_6_8", "bash scripts/cnn_dm/train.sh layerdrop_6_8"),
            ("wmt16_en_de/evaluate.sh other", "the runs are baseline_12_6 baseline_6_6"),
            ("eli5/prepare.sh", "github.com/facebookresearch/ELI5"),
            ("wikitext2/prepare.sh", "set RAW to the folder"),
        ],
    )
    def test_one_line(self, name, words, tmp_path):
        done = script(*name.split(), OUT=tmp_path, check=False)
        assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1

    @pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without GPUs")
    @pytest.mark.parametrize("gpus, words", [("3", "GPUS=3, but 0 are visible"), ("some", "GPUS must be a number")])
    def test_gpus(self, gpus, words, prepared, tmp_path):
        out = share(prepared, tmp_path / "out")
        done = script("wmt16_en_de/train.sh", "layerdrop_6_6", OUT=out, GPUS=gpus, check=False)
        assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1

    def test_a_failed_evaluation_keeps_what_is_there(self, prepared, tmp_path):
        small = {"SMOKE": 1, "OUT": share(prepared, tmp_path / "out"), "AVERAGE": 1}
        script("wmt16_en_de/train.sh", "layerdrop_6_6", "optimization.max_epoch=1", **small)
        script("wmt16_en_de/evaluate.sh", DEPTHS="3", **small)
        before = {path: path.read_bytes() for path in (tmp_path / "out/logs").rglob("*.log")}
        done = script("wmt16_en_de/evaluate.sh", DEPTHS="7", **small, check=False)
        assert done.returncode and "keep 1 to 6 of them" in done.stderr
        assert {path: path.read_bytes() for path in (tmp_path / "out/logs").rglob("*.log")} == before
        done = script("wmt16_en_de/evaluate.sh", "layerdrop_6_6", **{**small, "AVERAGE": 5}, check=False)
        assert done.returncode and "hasn't 5 epochs to average yet" in done.stderr

    def test_nothing_is_left_of_a_failed_step(self, tmp_path):
        (tmp_path / "raw").mkdir()
        done = script("cnn_dm/prepare.sh", RAW=tmp_path / "raw", OUT=tmp_path / "out", check=False)
        assert done.returncode and "all_train.txt" in done.stderr
        assert not (tmp_path / "out/text").exists() and not (tmp_path / "out/data-bin").exists()


class TestDownload:
    """The function behind every download, on a file: URL."""

    def download(self, tmp_path, url, *md5, check=True):
        (tmp_path / "cnn_dm").mkdir(exist_ok=True)
        caller = tmp_path / "cnn_dm" / "prepare.sh"
        caller.write_text(f'set -euo pipefail\nsource {ROOT}/scripts/recipe.sh\ndownload "$@"\n')
        done = subprocess.run(
            ["bash", str(caller), url, str(tmp_path / "got"), *md5], env=environment(OUT=tmp_path), capture_output=True,
            text=True,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    @pytest.fixture
    def source(self, tmp_path):
        source = tmp_path / "source"
        source.write_bytes(os.urandom(100_000))
        return source

    def test_goes_on_and_checks(self, tmp_path, source):
        (tmp_path / "got.part").write_bytes(source.read_bytes()[:30_000])
        md5 = hashlib.md5(source.read_bytes()).hexdigest()
        self.download(tmp_path, f"file://{source}", md5)
        assert (tmp_path / "got").read_bytes() == source.read_bytes()
        source.unlink()
        self.download(tmp_path, f"file://{source}", md5)  # it is there

    def test_another_file_is_refused(self, tmp_path, source):
        done = self.download(tmp_path, f"file://{source}", "0" * 32, check=False)
        assert done.returncode == 1 and "is not the file that it was" in done.stderr
        assert not (tmp_path / "got").exists() and not (tmp_path / "got.part").exists()

    def test_failure_tells_what_to_do(self, tmp_path):
        done = self.download(tmp_path, "file:///no/such/file", check=False)
        assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith("fetch it by other means and give RAW")
