"""Loading checkpoints: only data, or one line that says what is wrong."""

import argparse
import os
import pickle
import zipfile

import pytest
import torch
from fairseq.file_io import PathManager

from fairseq_layerdrop.surgery.checkpoint_file import CheckpointError, load_checkpoint

GOOD = {
    "args": None,
    "cfg": {"model": argparse.Namespace(arch="x"), "task": {"_name": "y"}},
    "model": {"decoder.version": torch.ones(1)},
}


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new_format", [True, False])
def test_good(tmp_path, new_format):
    torch.save(GOOD, tmp_path / "good.pt", _use_new_zipfile_serialization=new_format)
    loaded = load_checkpoint(tmp_path / "good.pt")
    assert loaded["cfg"]["model"].arch == "x" and torch.equal(loaded["model"]["decoder.version"], torch.ones(1))


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated(tmp_path, share, new_format):
    whole, part = tmp_path / "whole.pt", tmp_path / "part.pt"
    torch.save({**GOOD, "model": {"w": torch.randn(50, 50)}}, whole, _use_new_zipfile_serialization=new_format)
    part.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"part\.pt is damaged or not a checkpoint"):
        load_checkpoint(part)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_hostile(tmp_path, save):
    save({**GOOD, "extra_state": Hostile(tmp_path / "payload")}, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match=r"hostile\.pt"):
        load_checkpoint(tmp_path / "hostile.pt")
    assert not (tmp_path / "payload").exists()


def test_hostile_is_called_so(tmp_path):
    torch.save({**GOOD, "extra_state": Hostile(tmp_path / "payload")}, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match="could run code; refused"):
        load_checkpoint(tmp_path / "hostile.pt")


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"weights": {}},
        {"model": {}},
        {**GOOD, "model": [1]},
        {**GOOD, "model": {"w": "text"}},
        {**GOOD, "cfg": None},
        {**GOOD, "cfg": {"model": {}}},
    ],
)
def test_not_fairseqs(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a fairseq checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


def test_other_files_are_called_damaged(tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint at all\n" * 50)
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a", "b")
    for name in ("text.pt", "zip.pt"):
        with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
            load_checkpoint(tmp_path / name)


def test_fairseqs_copies_replace_the_old_file_whole(tmp_path):
    """What was open before the copy stays what it was, and a copy that fails leaves it in its place."""
    new, old = tmp_path / "new.pt", tmp_path / "checkpoint_last.pt"
    new.write_bytes(b"new")
    old.write_bytes(b"old")
    with old.open("rb") as before:
        assert PathManager.copy(str(new), str(old), overwrite=True)
        assert before.read() == b"old" and old.read_bytes() == b"new"
    with pytest.raises(OSError):
        PathManager.copy(str(tmp_path), str(old), overwrite=True)
    assert old.read_bytes() == b"new" and {path.name for path in tmp_path.iterdir()} == {"new.pt", "checkpoint_last.pt"}
