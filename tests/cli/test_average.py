"""fairseq-layerdrop average."""

import os

import pytest
import torch

from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import ends_in_one_line, layerdrop
from tests.outputs import load, outputs


@pytest.fixture
def run_folder(checkpoint, tmp_path):
    """Epoch checkpoints 1, 2, 9 and 10 of a run, whose weights are k times those of the first."""
    state = load_checkpoint(checkpoint)
    for factor, epoch in enumerate((1, 2, 9, 10), start=1):
        model = {key: tensor * factor for key, tensor in state["model"].items()}
        torch.save({**state, "model": model, "extra_state": {"epoch": epoch}}, tmp_path / f"checkpoint{epoch}.pt")
    (tmp_path / "checkpoint_best.pt").write_bytes(b"")
    return tmp_path


def test_mean_of_the_last(run_folder, checkpoint):
    done = layerdrop("average", run_folder, "--last", "3", "-o", run_folder / "average.pt")
    assert "checkpoint2.pt, checkpoint9.pt, checkpoint10.pt" in done.stdout
    averaged, one = load_checkpoint(run_folder / "average.pt"), load_checkpoint(checkpoint)["model"]
    assert "last_optimizer_state" not in averaged and averaged["extra_state"] == {"epoch": 10}
    assert averaged["model"].keys() == one.keys()
    for key, tensor in averaged["model"].items():
        torch.testing.assert_close(tensor, 3 * one[key])


def test_of_one_is_itself(checkpoint, translation_data, tmp_path):
    layerdrop("average", checkpoint, "-o", tmp_path / "same.pt")
    assert torch.equal(*(outputs(*load(path, translation_data)) for path in (checkpoint, tmp_path / "same.pt")))
    model = load_checkpoint(tmp_path / "same.pt")["model"]
    assert model["encoder.embed_tokens.weight"].data_ptr() == model["decoder.output_projection.weight"].data_ptr()


def test_half_precision_is_summed_in_full(checkpoint, tmp_path):
    """2,049 isn't a number of 16 bits, and 2,048 + 1 + 1 in them would be 2,048."""
    state = load_checkpoint(checkpoint)
    for name, value in {"a": 2048.0, "b": 1.0, "c": 1.0}.items():
        torch.save(
            {**state, "model": {"x": torch.tensor([value]).half(), "n": torch.tensor(7)}}, tmp_path / f"{name}.pt"
        )
    layerdrop("average", *(tmp_path / f"{name}.pt" for name in "abc"), "-o", tmp_path / "out.pt")
    model = load_checkpoint(tmp_path / "out.pt")["model"]
    assert model["x"].dtype == torch.half and model["x"].item() == torch.tensor(2050 / 3).half().item()
    assert model["n"].item() == 7


def test_mistakes(run_folder, stock_checkpoint, checkpoint):
    out = ("-o", run_folder / "out.pt")
    first = run_folder / "checkpoint1.pt"
    state = load_checkpoint(checkpoint)
    state["model"].pop("encoder.layers.5.fc1.bias")
    torch.save(state, run_folder / "other.pt")
    for arguments, words in {
        (run_folder, "--last", "5", *out): "has 4 epoch checkpoints (checkpoint1.pt, …), not 5",
        (first, first, "--last", "5", *out): "--last wants",
        (first, "--last", "5", *out): "no such folder",
        (first, run_folder / "none.pt", *out): "no such checkpoint",
        (first, run_folder / "other.pt", *out): "is of another model than",
        (first, "-o", first, "--force"): "is one of the checkpoints to average",
        (first, "-o", run_folder / "checkpoint2.pt"): "exists; give another name, or --force",
    }.items():
        ends_in_one_line(layerdrop("average", *arguments, check=False), words)
    assert "out.pt" not in os.listdir(run_folder)
