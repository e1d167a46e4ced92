"""``fairseq-layerdrop mixture``: its result against fairseq's own loss, and after a kill."""

import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

from fairseq_layerdrop.analysis.mixture import prior_of
from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import transformer_structure
from fairseq_layerdrop.running.loading import batches, load
from tests.commands import ROOT, USER_DIR, ends_in_one_line, layerdrop, train_lm

CURVES = ("full", "best", "static", "mixture", "map", "bound")


@pytest.fixture
def mixture(translation_data, checkpoint, tmp_path):
    def ask(*arguments, out="out", path=(checkpoint,), check=True):
        return layerdrop(
            "mixture", translation_data, "--path", *path, "--cpu", "-o", tmp_path / out, *arguments, check=check
        )

    return ask


def result(folder):
    return json.loads((folder / "mixture.json").read_text())["models"]


def holds(model):
    """Assert what holds of every result."""
    bits, tokens = model["bits_per_token"], model["tokens"]
    assert bits["best"] <= bits["mixture"] <= bits["bound"] + 1e-9
    assert model["regret_bits"] <= model["regret_bound_bits"] + 1e-6
    gap = model["kl_prior_posterior_bits_per_token"]
    assert model["expected_bits_per_token"] == pytest.approx(bits["mixture"] + gap, rel=1e-9)
    curves = model["curves"]
    assert curves["tokens"][0] == 1 and curves["tokens"][-1] == tokens
    for name in CURVES:
        assert curves[name][-1] == pytest.approx(bits[name]) and len(curves[name]) == len(curves["tokens"])
    assert all(a <= b + 1e-6 for a, b in zip(curves["regret_bits"], curves["regret_bound_bits"], strict=True))
    weights = model["ball"]["weight"]
    assert weights == sorted(weights) and weights[-1] == pytest.approx(1)


def test_translation(mixture, checkpoint, stock_checkpoint, tmp_path):
    """A model with LayerDrop and one without, beside each other."""
    done = mixture("--user-dir", USER_DIR, path=(checkpoint, stock_checkpoint))
    ours, stock = result(tmp_path / "out")
    for model in (ours, stock):
        holds(model)
        assert (
            model["sub_networks"] == 64 and model["draws"] is model["seed"] is model["ball"]["standard_error"] is None
        )
        assert f"{model['bits_per_token']['mixture']:.4f} bits per token" in done.stdout
        assert f"regret {model['regret_bits']:.2f} bits in all" in done.stdout
    assert ours["rates"] == {f"decoder.{number}": 0.5 for number in range(6)} and ours["prior"] == "of the training"
    assert set(stock["rates"].values()) == {0.2} and stock["prior"] == "default"
    assert len({ours["name"], stock["name"]}) == 2 and ours["regret_bound_bits"] == pytest.approx(6)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mixture.json", "mixture.png", "mixture.svg"}
    assert (tmp_path / "out/mixture.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "out/mixture.svg").read_text()


def test_a_sub_network_pays_what_select_says(mixture, checkpoint, translation_data, tmp_path):
    mixture("--keep-parts", "--batch-size", "7")
    parts = [numpy.load(path)["log_probs"] for path in sorted((tmp_path / "out/parts/0").glob("*.npz"))]
    bits = -numpy.concatenate(parts, axis=1).astype(float).sum(axis=1) / math.log(2)
    layerdrop(
        "select", translation_data, "--path", checkpoint, "--cpu", "--method", "search", "--keep", "decoder=4",
        "-o", tmp_path / "plan.json",
    )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "plan.json.scores").read_text().splitlines()[1:]]
    assert len(parts) > 1 and len(lines) == 15
    names = [f"decoder.{number}" for number in range(6)]
    masks = list(itertools.product([False, True], repeat=6))
    for line in lines:
        kept = tuple(name not in line["without"].split(",") for name in names)
        assert bits[masks.index(kept)] == pytest.approx(line["score"], rel=1e-5)


class TestPrior:
    def prior(self, rate=None, stacks="decoder", structure=None, importance=None, **settings):
        loaded = SimpleNamespace(
            structure=transformer_structure(structure or {"encoder": 2, "decoder": 4}), importance=importance or {},
            settings=SimpleNamespace(model=Namespace(**settings)),
        )  # fmt: skip
        rates, source = prior_of(loaded, stacks, rate)
        assert [stack for stack, _, _ in rates] == ["encoder"] * 2 + ["decoder"] * 4
        return tuple(rates.values()), source

    def test_of_the_training(self):
        trained = {"encoder_layerdrop": 0.1, "decoder_layerdrop_rates": "0,0.1,0.2,0.3"}
        assert self.prior(**trained) == ((0, 0, 0, 0.1, 0.2, 0.3), "of the training")
        assert self.prior(**trained, stacks="both") == ((0.1, 0.1, 0, 0.1, 0.2, 0.3), "of the training")
        assert self.prior(**trained, rate=0.5) == ((0, 0, 0.5, 0.5, 0.5, 0.5), "given")

    def test_default(self):
        assert self.prior() == ((0, 0, 0.2, 0.2, 0.2, 0.2), "default")
        mixed = self.prior(stacks="both", encoder_layerdrop=0.1)
        assert mixed == ((0.1, 0.1, 0.2, 0.2, 0.2, 0.2), "of the training and default")

    def test_learned(self):
        """Layers are kept with the probability min(1, c * score), 3 of 4 on average here."""
        rates, _ = self.prior(decoder_layerdrop=0.25, importance={"decoder": (0.5, 0.25, 0.15, 0.1)})
        assert rates == pytest.approx((0, 0, 0, 0, 0.4, 0.6))

    def test_an_encoder_alone(self):
        with pytest.raises(UserError, match="for language models and translation models; this one has no decoder"):
            self.prior(structure={"encoder": 2})


def test_a_language_model(lm_data, tmp_path):
    """Tokens come in the text's order, whatever the batches' order is."""
    train_lm(lm_data, tmp_path, 2)
    path = tmp_path / "checkpoint_last.pt"
    asked = ("mixture", lm_data, "--path", path, "--cpu", "--rate", "0.3", "--keep-parts")
    results = []
    for size in ("1", "3"):
        layerdrop(*asked, "--batch-size", size, "-o", tmp_path / size)
        (told,) = result(tmp_path / size)
        holds(told)
        assert told["prior"] == "given" and told["best"]["prior_bits"] >= -6 * math.log2(0.7) - 1e-9
        results.append(told)
    for name in CURVES:
        assert results[0]["curves"][name] == pytest.approx(results[1]["curves"][name], rel=1e-5)
    loaded = load(path, lm_data, cpu=True)
    (sample,) = batches(loaded, "valid", None, 10**6)
    order = numpy.argsort(sample["id"].numpy())
    assert (order != numpy.arange(len(order))).any()
    said = loaded.model(**sample["net_input"])[0].log_softmax(-1).gather(-1, sample["target"][..., None])[..., 0]
    wanted = sample["target"].ne(loaded.pad)
    nats = [-float(x) for row in order for x in said[row][wanted[row]]]
    curve = results[0]["curves"]
    expected = [math.fsum(nats[:count]) / count / math.log(2) for count in curve["tokens"]]
    assert curve["full"] == pytest.approx(expected, rel=1e-4)
    done = layerdrop(*asked, "--stacks", "encoder", "-o", tmp_path / "none", check=False)
    ends_in_one_line(done, "this model has no encoder, only decoder")


def test_sampled(mixture, tmp_path):
    done = mixture("--stacks", "both", "--sentences", "3", "--exact-up-to", "11", "--masks", "20", "--seed", "5")
    (model,) = result(tmp_path / "out")
    holds(model)
    assert (model["draws"], model["seed"], len(model["rates"])) == (20, 5, 12) and model["sub_networks"] <= 20
    assert model["regret_bound_bits"] <= math.log2(20) + 1e-9
    errors, weights = model["ball"]["standard_error"], model["ball"]["weight"]
    assert min(weights) >= 0.5**12 and min(errors) > 0 and len(errors) == len(weights)
    assert "sampled, 20 draws: estimates" in done.stdout


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def test_a_kill_changes_nothing(mixture, translation_data, checkpoint, tmp_path):
    asked = ("--batch-size", "1")
    mixture(*asked, out="whole")
    folder = tmp_path / "killed"
    words = ["mixture", translation_data, "--path", checkpoint, "--cpu", "-o", folder, *asked]
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "fairseq-layerdrop"), *map(str, words)],
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while len(list(folder.glob("parts/0/*.npz"))) < 3:
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "mixture.json").exists()
    assert 3 <= len(list(folder.glob("parts/0/*.npz"))) < 20
    shutil.copytree(folder, tmp_path / "other")
    mixture(*asked, out="killed")
    assert (folder / "mixture.json").read_bytes() == (tmp_path / "whole/mixture.json").read_bytes()
    assert (folder / "mixture.svg").read_bytes() == (tmp_path / "whole/mixture.svg").read_bytes()
    assert not (folder / "parts").exists()
    for more, words in (
        (("--sentences", "5"), "it looked at other data"),
        (("--rate", "0.3"), "its prior is of the training, not given"),
        (("--stacks", "encoder"), "its stacks is decoder, not encoder"),
    ):
        done = mixture(*asked, *more, out="other", check=False)
        ends_in_one_line(done, "is of another run", words, "give another DIR, or remove it")


class TestMistakes:
    @pytest.mark.parametrize(
        "arguments, words",
        [
            (("--rate", "0"), "--rate must be above 0 and below 1, not 0"),
            (("--rate", "1"), "--rate must be above 0 and below 1, not 1"),
            (("--rate", "nan"), "--rate must be above 0 and below 1, not nan"),
            (("--masks", "0"), "--masks must be at least 1"),
            (("--seed", "-1"), "--seed must be at least 0"),
            (("--sentences", "0"), "--sentences must be at least 1"),
            (("--gen-subset", "dev"), "no subset 'dev' in "),
            (("--memory", "10K"), "log-probabilities of 64 sub-networks for "),
            (("--memory", "10K", "--exact-up-to", "3", "--stacks", "both"), "look at fewer (--sentences, --exact"),
        ],
    )  # fmt: skip
    def test_one_line(self, arguments, words, mixture, tmp_path):
        ends_in_one_line(mixture(*arguments, check=False), words)
        assert not (tmp_path / "out").exists()

    def test_output(self, mixture, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mixture.json").write_text("mine")
        ends_in_one_line(mixture(check=False), "exists; give another folder, or --force to replace it")
        assert (tmp_path / "out/mixture.json").read_text() == "mine"
        mixture("--force", "--sentences", "2", "--keep-parts")
        assert len(result(tmp_path / "out")) == 1 and (tmp_path / "out/parts/0/run.json").exists()
        ends_in_one_line(mixture(out="out/mixture.json", check=False), "cannot write ")

    def test_twice_the_same(self, mixture, checkpoint):
        ends_in_one_line(mixture(path=(checkpoint, checkpoint), check=False), "two models are called")
