import json

import pytest

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.reports.points import NAME, SweepFile, read_sweep
from tests.reports.sweeps import RUN, TWO_MODELS


def written(folder, points=TWO_MODELS.points):
    file = SweepFile(folder, RUN)
    for one in points:
        if not file.known(*one.key, one.fingerprint, one.kept):
            file.add(one)
    return (folder / NAME).read_bytes()


def test_goes_on_wherever_it_was_killed(tmp_path):
    """A file that was cut at any byte, and then gone on with, is the file of a run without a break."""
    whole = written(tmp_path / "whole")
    assert [p.key for p in read_sweep(tmp_path / "whole").points] == [p.key for p in TWO_MODELS.points]
    for end in range(0, len(whole), 37):
        folder = tmp_path / str(end)
        folder.mkdir()
        (folder / NAME).write_bytes(whole[:end])
        assert written(folder) == whole


def test_no_point_is_measured_twice(tmp_path):
    before = written(tmp_path)
    file = SweepFile(tmp_path, RUN)
    assert all(file.known(*p.key, p.fingerprint, p.kept) for p in TWO_MODELS.points)
    assert not file.known("a", "decoder=keep:1@top", "sha256:a", "some")
    assert written(tmp_path) == before


def test_another_sweep_is_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(UserError, match="is of another run: its threads is 1, not 2; give another folder"):
        SweepFile(tmp_path, {**RUN, "threads": 2})
    with pytest.raises(UserError, match=r"'a' is another model in .*--path NAME=CKPT"):
        SweepFile(tmp_path, RUN).known("a", None, "sha256:other", "some")
    with pytest.raises(UserError, match=r"decoder=keep:2@top was another plan when .*sweep\.jsonl measured it"):
        SweepFile(tmp_path, RUN).known("a", "decoder=keep:2@top", "sha256:a", "others")


@pytest.mark.parametrize("text", ["{}\n", "nothing\n", '{"format": "fairseq-layerdrop sweep", "version": 9}\n'])
def test_another_file_is_refused(text, tmp_path):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(UserError, match="format 'fairseq-layerdrop sweep, version 1'; give another folder"):
        SweepFile(tmp_path, RUN)
    with pytest.raises(UserError, match="isn't a file of the format"):
        read_sweep(tmp_path)


def test_no_points(tmp_path):
    with pytest.raises(UserError, match=r"no sweep\.jsonl in .*fairseq-layerdrop sweep DATA"):
        read_sweep(tmp_path)
    (tmp_path / NAME).write_text(json.dumps({"format": "fairseq-layerdrop sweep", "version": 1, "run": RUN}) + "\n")
    with pytest.raises(UserError, match="has no points yet"):
        read_sweep(tmp_path)
