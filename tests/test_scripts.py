"""The scripts of the documentation, small."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import NEEDS_FAIRSEQ_MAIN, ROOT, said, server


def environment(**env):
    """Variables for a script that is to run in this environment, without its setup."""
    return {
        **os.environ, "SETUP": "skip", "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **{k: str(v) for k, v in env.items()},
    }  # fmt: skip


def script(name, *arguments, check=True, **env):
    """Run a script in this environment, without its setup; fairseq's commands in it are forks of the server's."""
    env = environment(**env)
    env["PATH"] = f"{server().programs}:{env['PATH']}"
    done = subprocess.run(["bash", ROOT / "scripts" / name, *arguments], env=env, capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def test_quickstart_runs_twice(tmp_path):
    shown, models = {}, []
    for depths in ("6 2", "2"):
        done = script("quickstart.sh", OUT=tmp_path, UPDATES=2, PAIRS=2000, DEPTHS=depths)
        assert f"picture: {tmp_path}/result.png" in done.stdout
        models.append((tmp_path / "layerdrop" / "checkpoint_last.pt").read_bytes())
        rows = json.loads((tmp_path / "result.json").read_text())["rows"]
        shown[depths] = [(row["model"], row["kept"].split("decoder ")[1][0], row["parameters"]) for row in rows]
    assert models[0] == models[1]
    (*_, whole), (*_, pruned) = shown["6 2"][0], shown["6 2"][2]
    assert whole > pruned
    assert shown["6 2"] == [("layerdrop", "6", whole), ("plain", "6", whole), *shown["2"]]
    assert shown["2"] == [("layerdrop", "2", pruned), ("plain", "2", pruned)]
    assert (tmp_path / "result.png").stat().st_size > 10000


def test_quickstart_tells_what_failed(tmp_path):
    done = script("quickstart.sh", OUT=tmp_path, UPDATES=2, PAIRS=2000, DEPTHS="7", check=False)
    assert done.returncode and "keep 1 to 6" in done.stderr


def test_recipes_preprocess_with_the_plugin():
    """With NumPy 2, fairseq-preprocess --workers spoils large data without it; that of recipe.sh has both flags."""
    recipes = list((ROOT / "scripts").glob("*/prepare.sh"))
    assert len(recipes) == 8
    assert not [recipe for recipe in recipes if "fairseq-preprocess" in re.sub("#.*", "", recipe.read_text())]


@NEEDS_FAIRSEQ_MAIN
class TestMulti30k:
    def test_whole_recipe(self, tmp_path):
        raw, out = tmp_path / "raw", tmp_path / "out"
        raw.mkdir()
        for stem, count in {"train": 120, "val": 20, "test_2016_flickr": 20}.items():
            for lang in ("en", "de"):
                (raw / f"{stem}.{lang}").write_text(
                    "".join(f"sentence {i} of {stem} in {lang}\n" for i in range(count))
                )
        done = script("multi30k/prepare.sh", RAW=raw, OUT=out, VOCABULARY=60)
        assert not [
            line for line in said(done).splitlines() if not re.match("(multi30k|setup|train|valid|test): ", line)
        ]
        for epochs, ended in ((1, False), (2, False), (2, True)):
            done = script("multi30k/train.sh", "layerdrop", f"optimization.max_epoch={epochs}", OUT=out)
            told = [
                word in done.stdout for word in (": training layerdrop in", f": layerdrop in {out}/layerdrop has ended")
            ]
            assert told == [not ended, ended]
        done = script(
            "multi30k/evaluate.sh", "layerdrop", OUT=out, SPECS="decoder=keep:6@every_other keep:3@every_other"
        )
        assert f"table: {out}/result.md" in done.stdout
        rows = json.loads((out / "result.json").read_text())["rows"]
        kept = [re.findall(r"(\d) of 6", row["kept"]) for row in rows]
        assert kept == [["6", "6"], ["3", "3"]]

    def test_mistakes(self, tmp_path):
        assert "set RAW" in script("multi30k/prepare.sh", RAW=tmp_path / "no", check=False).stderr
        assert "the runs are baseline layerdrop" in script("multi30k/train.sh", "other", check=False).stderr
        assert "bash scripts/multi30k/prepare.sh" in script(
            "multi30k/train.sh", "baseline", OUT=tmp_path, check=False
        ).stderr  # fmt: skip
        assert "bash scripts/multi30k/train.sh" in script("multi30k/evaluate.sh", OUT=tmp_path, check=False).stderr


class TestWhatToDrop:
    """The comparison of what to drop while training, all of whose runs are done, so that none is trained here."""

    CONFIGS = ROOT / "configs/wikitext2"

    @pytest.fixture
    def bench(self):
        spec = importlib.util.spec_from_file_location("what_to_drop", ROOT / "scripts/bench/what_to_drop.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def written(self, bench, monkeypatch, folder, *flags):
        """What it writes to OUT.json and OUT.md."""
        arguments = ("data", "--work", folder, "--out", folder / "out", "--seeds", "1", "2", *flags)
        monkeypatch.setattr(sys, "argv", ["what_to_drop.py", *map(str, arguments)])
        bench.main()
        return [(folder / f"out.{ending}").read_text() for ending in ("json", "md")]

    def test_runs_of_other_lengths_are_other_runs(self, bench, monkeypatch, tmp_path):
        expected = [(self.CONFIGS / f"what_to_drop.{ending}").read_text() for ending in ("json", "md")]
        rows = json.loads(expected[0])
        short = [{**row, "updates": 500, "perplexity": 100.0} for row in rows]
        (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*short, *rows]))
        assert self.written(bench, monkeypatch, tmp_path) == expected
        told, table = self.written(bench, monkeypatch, tmp_path, "--updates", 500)
        assert json.loads(told) == short and table.count("100.0 ± 0.0") == 15

    def test_their_folders(self, bench):
        names = {bench.run_name(name, seed, n) for name in bench.VARIANTS for seed in (1, 2) for n in (3000, 500)}
        assert len(names) == 4 * len(bench.VARIANTS) and {"heads+layers-1", "heads+layers-1-500"} < names
