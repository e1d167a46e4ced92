"""``fairseq-layerdrop choose``, from points that are written down."""

import json
from dataclasses import replace

import pytest

from tests.commands import ends_in_one_line, layerdrop
from tests.reports.sweeps import RUN, point, write

SUMMARIES = {"rouge1": (40.0, 38.0), "rouge2": (20.0, 15.0), "rougeL": (30.0, 29.0), "rougeLsum": (35.0, 36.0)}
ANSWERS = ("rouge1", "rouge2", "rougeL")


def scored(folder, names):
    """A sweep of a whole model and a faster half of it, with scores."""
    points = [point(), point(plan="decoder=keep:3@top", layers=(6, 3), ms=20.0, million=40.0)]
    write(
        folder,
        [replace(p, quality={name: SUMMARIES[name][number] for name in names}) for number, p in enumerate(points)],
    )


@pytest.mark.parametrize(
    "names, flags, whole",
    [
        (SUMMARIES, ("--min-rouge-1", "39"), True),
        (SUMMARIES, ("--min-rouge-2", "15"), False),
        (SUMMARIES, ("--min-rouge-l", "35.5"), False),
        (ANSWERS, ("--min-rouge-l", "29.5"), True),
        (ANSWERS, ("--min-rouge-l", "29"), False),
    ],
)
def test_rouge(names, flags, whole, tmp_path):
    scored(tmp_path, names)
    chosen = json.loads(layerdrop("choose", tmp_path, *flags, "--json").stdout)
    assert (chosen["prune_layers"] is None) == whole


def test_a_score_that_is_not_there(tmp_path):
    scored(tmp_path, ANSWERS)
    ends_in_one_line(layerdrop("choose", tmp_path, "--min-bleu", "3", check=False), "this sweep has no BLEU")


def test_tells_what_it_ranks_by(tmp_path):
    scored(tmp_path, ANSWERS)
    assert "chosen by   the best rouge1\n" in layerdrop("choose", tmp_path, "--max-latency", "1s").stdout
    assert "the least latency, then the best rouge1" in layerdrop("choose", tmp_path, "--min-rouge-l", "1").stdout


def test_tells_that_a_part_was_measured(tmp_path):
    write(tmp_path / "all", [point()])
    assert "whole subset" not in layerdrop("choose", tmp_path / "all", "--least", "params").stdout
    write(tmp_path / "part", [point()], {**RUN, "sentences": 7})
    told = layerdrop("choose", tmp_path / "part", "--least", "params").stdout
    assert "it scores the whole subset; the scores above are of its first 7 alone\n" in told
