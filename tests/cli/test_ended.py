"""fairseq-layerdrop ended: by the training's own limits, and by others."""

import pytest

from fairseq_layerdrop.surgery.checkpoint import Checkpoint
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import layerdrop, train_translation


def test_own_limits(checkpoint, stock_checkpoint, translation_data, tmp_path):
    """Four updates; 20 of stock fairseq; one epoch of six; and a training that was left off in its second epoch."""
    assert layerdrop("ended", checkpoint).stdout == f"{checkpoint}: ended after 4 updates\n"
    assert "ended after 20 updates" in layerdrop("ended", stock_checkpoint).stdout
    train_translation(translation_data, tmp_path, 0, "--max-epoch", "1")
    assert layerdrop("ended", tmp_path / "checkpoint_last.pt").returncode == 0
    state = load_checkpoint(checkpoint)
    state["cfg"]["optimization"]["max_update"] = 5
    assert not Checkpoint(state).has_ended()
    assert Checkpoint(
        {**state, "args": state["cfg"]["model"], "cfg": None}
    ).has_ended()  # its settings are those of the command


@pytest.mark.parametrize(
    "limits, ended",
    [
        (("--max-update", "4"), True),
        (("--max-update", "5", "--max-epoch", "1"), False),
        (("--max-update", "0"), False),
        (("--max-update", "0", "--max-epoch", "0", "--stop-time-hours", "0"), False),
        (("--max-update", "3", "--max-epoch", "9"), True),
        (("--stop-time-hours", "0.0000001"), True),
        (("--stop-time-hours", "100"), False),
    ],
)
def test_other_limits(checkpoint, limits, ended):
    """In the first epoch still."""
    done = layerdrop("ended", checkpoint, *limits, check=False)
    assert done.returncode == (0 if ended else 1)
    assert done.stdout.endswith(f": {'ended' if ended else 'not ended'} after 4 updates\n")
