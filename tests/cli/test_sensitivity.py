"""``fairseq-layerdrop sensitivity``: losses, sub-networks and a picture of a trained model, with a kill between."""

import json
import re

import pytest
from fairseq_cli import validate

from fairseq_layerdrop.plan import parse, transformer_structure
from tests.commands import LAYERDROP_TRANSLATION, ends_in_one_line, layerdrop

FULL = transformer_structure({"encoder": 6, "decoder": 6})


@pytest.fixture
def ask(translation_data, checkpoint, tmp_path):
    def ask(*arguments, out="found", check=True):
        return layerdrop(
            "sensitivity", translation_data, "--path", checkpoint, "--cpu", "-o", tmp_path / out, *arguments,
            check=check,
        )  # fmt: skip

    return ask


def read(folder):
    return json.loads((folder / "sensitivity.json").read_text())


def test_losses_are_those_of_fairseq_validate(ask, logged, translation_data, checkpoint, tmp_path):
    """fairseq-validate shows three digits."""
    done = ask()
    told = read(tmp_path / "found")
    origin = told["origin"]
    assert (told["format"], told["version"]) == ("fairseq-layerdrop sensitivity", 1)
    assert origin["checkpoint"] == "checkpoint_last.pt" and origin["fingerprint"].startswith("sha256:")
    assert (origin["subset"], origin["samples"], origin["seed"]) == ("valid", 20, 1)
    assert [len(told[name]) for name in ("layers", "sub_layers", "half_depth")] == [12, 6 * 2 + 6 * 3, 12]

    def loss_of(spec):
        log = logged(
            validate.cli_main, translation_data, *LAYERDROP_TRANSLATION, "--path", checkpoint, "--cpu",
            "--max-tokens", "4000", "--required-batch-size-multiple", "1", "--valid-subset", "valid",
            *(("--prune-layers", spec) if spec else ()),
        )  # fmt: skip
        return pytest.approx(float(re.findall(r"\bloss ([\d.]+)", log)[-1]), abs=1e-3)

    assert told["loss"] == loss_of(None)
    for row in (told["layers"][2], told["sub_layers"][-2]):
        stack, _, unit = row["unit"].partition(".")
        assert row["loss"] == loss_of(f"{stack}=drop:{unit if '.' in unit else f'{unit}-{unit}'}")
    network = told["half_depth"][6]["subnetworks"][4]
    assert network["loss"] == loss_of(network["prune_layers"])

    # What is shown and drawn is what the file says.
    assert f"loss of the full model: {told['loss']:.4f} bits per token" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    for number, layer in enumerate(told["layers"][6:]):
        parts = told["sub_layers"][12 + 3 * number :][:3]
        half = told["half_depth"][6 + number]
        shown = [f"{row['increase']:+.4f}" for row in (layer, *parts)]
        shown += [f"{half['mean']:.4f}", "(all", "10)"]
        assert half["standard_error"] == 0
        assert [str(number), *shown] in lines
    assert (tmp_path / "found/sensitivity.png").read_bytes().startswith(b"\x89PNG")
    picture = (tmp_path / "found/sensitivity.svg").read_text()
    assert "<!-- encoder layer -->" in picture and "<!-- decoder layer left out -->" in picture


def test_a_cut_log_is_gone_on_with(ask, tmp_path):
    few = ("--sentences", "5", "--stacks", "decoder")
    first = ask(*few)
    files = [tmp_path / "found" / f"sensitivity.{ending}" for ending in ("json", "svg", "png")]
    whole = [file.read_bytes() for file in files]
    log = tmp_path / "found/sensitivity.scores"
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 1 + 6 + 18 + 20  # there are C(6, 3) sub-networks
    assert "layers and sub-layers run" in first.stdout
    assert "layers and sub-layers run" not in ask(*few).stdout
    assert [file.read_bytes() for file in files] == whole and log.read_bytes() == b"".join(lines)

    for file in files:
        file.unlink()
    log.write_bytes(b"".join(lines[:30]) + lines[30][:20])
    assert "layers and sub-layers run" in ask(*few).stdout
    assert [file.read_bytes() for file in files] == whole
    after = log.read_bytes().splitlines(keepends=True)
    assert after[:30] == lines[:30] and sorted(after) == sorted(lines)


def test_one_stack_and_few_samples(ask, tmp_path):
    done = ask("--stacks", "encoder", "--samples", "3", "--seed", "5", "--sentences", "5", out="new/folder")
    told = read(tmp_path / "new/folder")
    units = [row["unit"] for name in ("layers", "sub_layers", "half_depth") for row in told[name]]
    assert len(units) == 6 + 12 + 6 and all(unit.startswith("encoder.") for unit in units)
    for number, row in enumerate(told["half_depth"]):
        plans = {network["prune_layers"]: network["loss"] for network in row["subnetworks"]}
        assert len(plans) == 3 and row["existing"] == 10
        for spec in plans:
            layers = parse(spec).resolve(FULL).stacks["encoder"].layers
            assert len(layers) == 3 and number not in layers
        assert f"{row['mean']:.4f} ± {row['standard_error']:.4f} (3)" in done.stdout
    assert told["origin"]["seed"] == 5 and told["origin"]["samples"] == 3
    assert "decoder" not in done.stdout


class TestMistakes:
    @pytest.mark.parametrize(
        "arguments, words",
        [
            (("--samples", "0"), "--samples must be at least 1"),
            (("--sentences", "0"), "--sentences must be at least 1"),
            (("--gen-subset", "dev"), "no subset 'dev' in "),
            (("--max-tokens", "5"), "--max-tokens 5 is too few for a sentence of"),
            (("--model-overrides", "{'prune_layers': 'drop:1@top'}"), "leave prune_layers out"),
            (("--user-dir", "/no/such/dir"), "can't import --user-dir /no/such/dir"),
        ],
    )
    def test_one_line(self, arguments, words, ask, tmp_path):
        ends_in_one_line(ask(*arguments, check=False), words)
        assert not (tmp_path / "found").exists()

    def test_output(self, ask, tmp_path):
        (tmp_path / "file").write_text("mine")
        ends_in_one_line(ask(out="file", check=False), "file is a file; give a folder's name")
        ends_in_one_line(ask(out="file/in", check=False), "cannot make the folder", "Not a directory")
        assert (tmp_path / "file").read_text() == "mine"
        (tmp_path / "other/sensitivity.scores").mkdir(parents=True)
        ends_in_one_line(ask(out="other", check=False), "cannot read", "Is a directory")

    def test_log_of_another_run(self, ask):
        few = ("--stacks", "encoder", "--samples", "1", "--sentences")
        ask(*few, "3")
        ends_in_one_line(ask(*few, "2", check=False), "it looked at other data; give another DIR, or remove it")

    def test_a_stack_that_isnt_there(self, lm_data, lm_checkpoint, tmp_path):
        asked = ("sensitivity", lm_data, "--path", lm_checkpoint, "--cpu", "-o", tmp_path / "found")
        ends_in_one_line(layerdrop(*asked, "--stacks", "encoder", check=False), "this model has no encoder, only dec")
        assert not (tmp_path / "found").exists()
        layerdrop(*asked, "--samples", "1", "--sentences", "2")
        told = read(tmp_path / "found")
        assert [row["unit"] for row in told["half_depth"]] == [f"decoder.{number}" for number in range(6)]
        assert all(row["standard_error"] is None for row in told["half_depth"])
