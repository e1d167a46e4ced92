"""Folders that appear whole or not at all."""

import os

import pytest

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.base.files import write_folder_atomically


def test_takes_the_place_of_what_was_there(tmp_path):
    out = tmp_path / "out"
    for text in ("before", "after"):
        with write_folder_atomically(out) as folder:
            (folder / text).touch()
            assert not out.exists() or os.listdir(out) == ["before"]
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out) == ["after"]


@pytest.mark.parametrize("error, told", [(OSError(28, "No space left"), UserError), (KeyboardInterrupt(), None)])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error, told):
    out = tmp_path / "out"
    out.mkdir()
    (out / "before").touch()
    with pytest.raises(told or type(error)), write_folder_atomically(out) as folder:
        (folder / "after").touch()
        raise error
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out) == ["before"]


def test_no_such_folder(tmp_path):
    for path in (tmp_path / "none" / "out", tmp_path / ("x" * 300), "."):
        with pytest.raises(UserError), write_folder_atomically(path):
            pass
