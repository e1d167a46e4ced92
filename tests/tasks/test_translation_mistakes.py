"""What users do wrong in fairseq's own commands with layerdrop_translation."""

import os
import pickle

import pytest
import torch

from tests.commands import (
    EVALUATE,
    LAYERDROP_TRANSLATION,
    STOCK,
    ends_in_one_line,
    generate,
    run,
    train_translation,
)

TEXT = ("decoder=keep:3@every", "unknown rule 'every'")  # told while the command line is read
DEPTH = ("decoder=keep:0,6", "the decoder has layers 0-5, not 6")  # told when the model's depth is known
BOTH = pytest.mark.parametrize("spec, words", [TEXT, DEPTH])


class TestWrongSpec:
    @pytest.mark.parametrize(
        "spec, words",
        [TEXT, DEPTH, ("", "must start with keep: or drop:"), (r"keep:'\${x}$[\\", "not a layer number")],
    )
    def test_generate(self, translation_data, checkpoint, spec, words):
        done = generate(translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", spec, check=False)
        ends_in_one_line(done, words)

    @BOTH
    def test_interactive(self, translation_data, checkpoint, spec, words):
        done = run(
            "fairseq-interactive", translation_data, "--path", checkpoint, *LAYERDROP_TRANSLATION,
            "--prune-layers", spec, "--cpu", "--source-lang", "a", "--target-lang", "b", check=False,
        )  # fmt: skip
        ends_in_one_line(done, words)

    @BOTH
    @pytest.mark.parametrize("which", ["checkpoint", "stock_checkpoint"])
    def test_validate(self, translation_data, request, which, spec, words):
        done = run(
            "fairseq-validate", translation_data, "--path", request.getfixturevalue(which), *LAYERDROP_TRANSLATION,
            "--prune-layers", spec, *EVALUATE, check=False,
        )  # fmt: skip
        ends_in_one_line(done, words)

    @BOTH
    def test_train(self, translation_data, tmp_path, spec, words):
        done = train_translation(translation_data, tmp_path, 2, "--prune-layers", spec, check=False)
        ends_in_one_line(done, words)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["fairseq-generate", "fairseq-validate"])
def test_two_plans(translation_data, checkpoint, command):
    def done(flag, override):
        overrides = f"{{'prune_layers': '{override}'}}"
        return run(
            command, translation_data, "--path", checkpoint, *LAYERDROP_TRANSLATION, *EVALUATE, "--gen-subset", "valid",
            "--prune-layers", flag, "--model-overrides", overrides, check=False,
        )  # fmt: skip

    ends_in_one_line(done("keep:1@top", "keep:2@top"), "--prune-layers and prune_layers of --model-overrides differ")
    assert done("keep:1@top", "keep:1@top").returncode == 0


def test_layerdrop_rate_outside_of_0_to_1(translation_data, tmp_path):
    done = train_translation(translation_data, tmp_path, 2, "--encoder-layerdrop", "1.5", check=False)
    ends_in_one_line(done, "--encoder-layerdrop must be in [0, 1], not 1.5")


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestBadCheckpoint:
    def test_truncated_ends_with_an_error(self, translation_data, checkpoint, tmp_path):
        part = tmp_path / "part.pt"
        part.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
        assert generate(translation_data, part, *LAYERDROP_TRANSLATION, check=False).returncode

    @pytest.mark.parametrize(
        "save, words",
        [
            (torch.save, f"holds more than data, {os.name}.mkdir"),
            (lambda value, path: path.write_bytes(pickle.dumps(value)), "is damaged or not a checkpoint"),
        ],
    )
    def test_hostile_is_never_run(self, translation_data, checkpoint, tmp_path, save, words):
        hostile, payload = tmp_path / "hostile.pt", tmp_path / "payload"
        save({**torch.load(checkpoint), "extra_state": Payload(payload)}, hostile)
        done = generate(translation_data, hostile, *LAYERDROP_TRANSLATION, check=False)
        ends_in_one_line(done, f"{hostile} {words}")
        done = train_translation(translation_data, tmp_path / "save", 2, "--finetune-from-model", hostile, check=False)
        ends_in_one_line(done, f"{hostile} {words}")
        assert not payload.exists()

    def test_hostile_would_run_otherwise(self, translation_data, checkpoint, tmp_path):
        """The payload works where PyTorch's safety is switched off, so that the test above can fail."""
        hostile, payload = tmp_path / "hostile.pt", tmp_path / "payload"
        torch.save({**torch.load(checkpoint), "payload": Payload(payload)}, hostile)
        generate(translation_data, hostile, *LAYERDROP_TRANSLATION, check=False, **STOCK)
        assert payload.exists()
