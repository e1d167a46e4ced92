"""The log of scores: nothing is scored twice, and what isn't a log of this run is refused."""

import json

import pytest

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.running.engine import Engine
from fairseq_layerdrop.running.measures import loss
from fairseq_layerdrop.running.scorer import Processes, ScoreLog, Scorer
from tests.running.models import criterion, language_model, samples

RUN = {"metric": "loss", "checkpoint": "sha256:1", "tokens": 27}


@pytest.fixture
def scorer(tmp_path):
    model, structure = language_model(4)

    def make(**run):
        engine = Engine(model, structure, samples(False))
        log = ScoreLog(tmp_path / "scores", {**RUN, **run}, Processes())
        return Scorer(engine, False, loss(model, criterion()), 27, log)

    return make


CANDIDATES = [[("decoder", number, None)] for number in range(4)]


def test_a_second_run_computes_nothing(scorer, tmp_path):
    first = scorer()
    scores = first.scores(CANDIDATES)
    again = scorer()
    assert again.scores(CANDIDATES) == scores and again.engine.evaluations == 0 < first.engine.evaluations
    lines = [json.loads(line) for line in (tmp_path / "scores").read_text().splitlines()]
    assert lines[0]["run"] == RUN and len(lines) == 5
    assert {line["without"] for line in lines[1:]} == {f"decoder.{number}" for number in range(4)}


def test_scores_are_there_at_once(scorer, tmp_path):
    scorer().scores(CANDIDATES[:1])
    assert len((tmp_path / "scores").read_text().splitlines()) == 2


@pytest.mark.parametrize("left", [3, 40, 100])
def test_a_cut_log_is_gone_on_with(scorer, tmp_path, left):
    scores = scorer().scores(CANDIDATES)
    path = tmp_path / "scores"
    head = path.read_bytes().index(b"\n") + 1
    path.write_bytes(path.read_bytes()[: head + left])
    assert scorer().scores(CANDIDATES) == scores
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert len(path.read_text().splitlines()) == 5


def test_scores_of_other_processes_are_read(scorer, tmp_path):
    scores = scorer().scores(CANDIDATES)
    lines = (tmp_path / "scores").read_text().splitlines(keepends=True)
    (tmp_path / "scores").write_text("".join(lines[:3]))
    (tmp_path / "scores.1").write_text("".join([lines[0], *lines[3:]]))
    again = scorer()
    assert again.scores(CANDIDATES) == scores and again.engine.evaluations == 0


def test_another_run_is_refused(scorer):
    scorer().scores(CANDIDATES)
    with pytest.raises(UserError, match="is of another run: its tokens is 27, not 28; give another with --log"):
        scorer(tokens=28)


@pytest.mark.parametrize("text", ["{}\n", "text\n", '{"format": "other", "run": {}}\n', "[1]\n"])
def test_not_a_log(scorer, tmp_path, text):
    (tmp_path / "scores").write_text(text)
    with pytest.raises(
        UserError, match="isn't a file of the format 'fairseq-layerdrop scores'; give another with --log, or"
    ):
        scorer()
