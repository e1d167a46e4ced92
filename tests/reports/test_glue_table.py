import json
import math
from dataclasses import asdict

import pytest

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import RULES
from fairseq_layerdrop.reports.glue_table import (
    FULL,
    RANDOM,
    STRATEGIES,
    Row,
    Run,
    add_row,
    means_of,
    read_result,
    read_rows,
    runs_of,
    side_by_side,
    to_markdown,
)
from tests.markdown import lines_of


def row(model, strategy, dropped, seed, score, tuning=60.0, inference=2.0):
    layers = tuple(range(12 - dropped, 12))
    scores = {"accuracy": score, "F1": score / 2}
    return Row(
        Run(model, strategy, dropped, seed),
        layers,
        3000 - 100 * dropped,
        scores,
        tuning,
        inference,
        {"epochs": 3},
        "0123abcd",
        "a machine",
    )


ROWS = [
    row("a", "top", 4, 1, 80.0, 40.0, 1.0),
    row("a", FULL, 0, 1, 90.0, 50.0),
    row(RANDOM, FULL, 0, 1, 60.0),
    row("a", "top", 4, 2, 76.0, 20.0, 1.0),
    row("a", FULL, 0, 2, 86.0, 70.0),
    row("a", "bottom", 4, 1, 70.0),
    row("b", "top", 2, 1, 50.0),
]


class TestRuns:
    def test_seed_by_seed(self):
        assert runs_of("a", [0, 4], ["top", "bottom"], [1, 2]) == [
            Run(model, strategy, dropped, seed)
            for seed in (1, 2)
            for model, strategy, dropped in [("a", FULL, 0), (RANDOM, FULL, 0), ("a", "top", 4), ("a", "bottom", 4)]
        ]

    def test_without_the_full_model(self):
        assert runs_of("a", [4], ["top"], [1]) == [Run("a", "top", 4, 1)]

    def test_strategies_are_rules_but_for_the_one_that_looks_at_data(self):
        assert set(STRATEGIES) - set(RULES) == {"contribution"}


class TestRows:
    def test_written_and_read(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        assert read_rows(path) == {}
        for given in ROWS:
            add_row(path, given)
        assert list(read_rows(path).values()) == ROWS

    def test_after_a_kill(self, tmp_path):
        """The row that was being written doesn't count, and the next one is whole."""
        path = tmp_path / "rows.jsonl"
        add_row(path, ROWS[0])
        with path.open("a") as file:
            file.write(json.dumps(ROWS[1].record)[:-20])
        assert list(read_rows(path).values()) == ROWS[:1]
        add_row(path, ROWS[2])
        assert list(read_rows(path).values()) == [ROWS[0], ROWS[2]]


class TestMeans:
    def test_order(self):
        assert [(mean.model, mean.strategy, mean.dropped) for mean in means_of(ROWS)] == [
            (RANDOM, FULL, 0), ("a", FULL, 0), ("a", "top", 4), ("a", "bottom", 4), ("b", "top", 2),
        ]  # fmt: skip

    def test_by_hand(self):
        _, full, top, bottom, other = means_of(ROWS)
        assert full.scores == {"accuracy": 88.0, "F1": 44.0} and top.scores == {"accuracy": 78.0, "F1": 39.0}
        assert top.spread == pytest.approx({"accuracy": math.sqrt(8), "F1": math.sqrt(2)})  # (2² + 2²) / (2 - 1)
        assert top.share == pytest.approx(100 * 78 / 88)
        assert (top.tuning_speedup, top.inference_speedup) == (50 / 20, 2 / 1)
        assert (bottom.tuning_speedup, bottom.inference_speedup) == (top.tuning_speedup, top.inference_speedup)
        assert (top.seeds, bottom.seeds, bottom.spread) == (2, 1, {})
        assert (full.share, full.tuning_speedup, full.inference_speedup, other.share) == (None,) * 4
        assert (other.tuning_speedup, other.inference_speedup) == (50 / 60, 2 / 2)  # of a's and random full models
        assert means_of(ROWS[5:])[0].tuning_speedup is None

    def test_a_full_model_that_scores_nothing(self):
        _, top = means_of([row("a", FULL, 0, 1, 0.0), row("a", "top", 4, 1, 10.0)])
        assert top.share is None


def test_markdown():
    lines = lines_of(to_markdown("MRPC", {"accuracy": 68.38, "F1": 81.2}, means_of(ROWS[:6]), "By hand."))
    assert lines[0] == "MRPC" and len(lines) == 11
    assert lines[4] == "| majority class | | | 68.4 | 81.2 | | | | |"
    assert lines[5] == "| random weights | full | | 60.0 | 30.0 | | 3,000 | | |"
    assert lines[7] == "| a | top | 8, 9, 10, 11 | 78.0 ± 2.8 | 39.0 ± 1.4 | 88.6 | 2,600 | 2.50x | 2.00x |"
    assert {line.count("|") for line in lines[2:9]} == {10}
    assert "seeds (1-2 a row)" in lines[10] and lines[10].endswith(" By hand.")
    assert not any("majority" in line for line in to_markdown("", {}, means_of(ROWS), "").splitlines())


def test_mistakes_side_by_side(tmp_path):
    result = {"task": "MRPC", "majority": {}, "means": list(map(asdict, means_of(ROWS)))}
    with pytest.raises(UserError, match="two results are of MRPC and a; give one of them"):
        side_by_side([result, result])
    with pytest.raises(UserError, match="no such file"):
        read_result(tmp_path / "result.json")
    for text in ("{", "[]", '{"rows": []}'):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(UserError, match=r"is no result\.json of scripts/glue/compare\.sh"):
            read_result(tmp_path / "result.json")


def test_side_by_side():
    """One task has only one of the models, and no majority class."""
    one = {"task": "MRPC", "majority": {"accuracy": 68.38, "F1": 81.2}, "means": list(map(asdict, means_of(ROWS)))}
    other = {"task": "STS-B", "majority": {}, "means": list(map(asdict, means_of([ROWS[1], ROWS[5]])))}
    lines = lines_of(side_by_side(json.loads(json.dumps([one, other]))))
    assert lines[0] == "| layers dropped | strategy | MRPC, a: accuracy | MRPC, b: accuracy | STS-B, a: accuracy |"
    assert lines[2:] == [
        "| 0 | majority class | 68.4 | 68.4 | |",
        "| 0 | random weights | 60.0 | 60.0 | |",
        "| 0 | full | 88.0 ± 2.8 | | 90.0 |",
        "| 2 | top | | 50.0 | |",
        "| 4 | top | 78.0 ± 2.8 | | |",
        "| 4 | bottom | 70.0 | | 70.0 |",
    ]
