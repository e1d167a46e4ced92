import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.reports.choice import COSTS, Bounds, best, commands, nearest, pareto, parse_limit
from fairseq_layerdrop.reports.page import page
from tests.reports.sweeps import RUN, TWO_MODELS, point, sweep

POINTS = st.lists(
    st.builds(
        point,
        bleu=st.integers(0, 5).map(float),
        ms=st.integers(1, 5).map(float),
        million=st.integers(1, 5).map(float),
    ),
    min_size=1,
    max_size=9,
)


@pytest.mark.parametrize(
    "cost, text, value",
    [
        ("latency", "30ms", 30), ("latency", "0.03s", 30), ("params", "60M", 60), ("params", "60000000", 60),
        ("size", "1GB", 1000), ("memory", "2.5MB", 2.5), ("multiply-adds", "1G", 1000), ("time", "500us", 0.5),
    ],
)  # fmt: skip
def test_limits(cost, text, value):
    assert parse_limit(cost, text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "ms", "30", "30 m", "-3ms", "0ms", "30MB", "nanms", "infs"])
def test_wrong_limits(text):
    with pytest.raises(ValueError):
        parse_limit("latency", text)


@given(POINTS, st.integers(0, 6), st.integers(0, 6))
def test_best_is_what_a_search_finds(points, most, worst):
    bounds = Bounds({"latency": most}, {"BLEU": worst})
    allowed = [p for p in points if COSTS["latency"].of(p) <= most and p.quality["BLEU"] >= worst]
    found = best(points, bounds)
    if not allowed:
        assert found is None
        return
    assert found in allowed
    top = max(p.quality["BLEU"] for p in allowed)
    assert found.quality["BLEU"] == top
    assert found.parameters == min(p.parameters for p in allowed if p.quality["BLEU"] == top)
    cheapest = best(points, bounds, "params")
    assert cheapest.parameters == min(p.parameters for p in allowed)


@given(POINTS)
def test_front_is_what_nothing_dominates(points):
    def dominates(a, b):
        costs, scores = (COSTS["latency"].of(a), COSTS["latency"].of(b)), (a.quality["BLEU"], b.quality["BLEU"])
        return costs[0] <= costs[1] and scores[0] >= scores[1] and (costs[0] < costs[1] or scores[0] > scores[1])

    def places(found):
        return {(COSTS["latency"].of(p), p.quality["BLEU"]) for p in found}

    assert places(pareto(points, "latency")) == places(
        [p for p in points if not any(dominates(other, p) for other in points)]
    )


def test_bounds_by_model_and_score():
    def choose(least=None, models=(), scores=None, **costs):
        found = best(TWO_MODELS.points, Bounds(costs, scores or {}, models), least)
        return found and found.key

    assert choose() == ("b", None)
    assert choose(latency=30) == ("a", "decoder=keep:4@every_other")
    assert choose(latency=30, models=("b",)) == ("b", "decoder=keep:4@every_other")
    assert choose(scores={"BLEU": 28.0}, least="latency") == ("a", "decoder=keep:4@every_other")
    assert choose(scores={"loss": 25.0}, least="params") == ("a", "decoder=keep:4@every_other")
    assert choose(latency=10) is None


def test_why_nothing_fits():
    told = nearest(TWO_MODELS.points, Bounds({"latency": 10}, {"BLEU": 50, "loss": 1}))
    assert told == "the least latency is 20 ms a sentence, the best BLEU is 35, the best loss is 15"
    with pytest.raises(UserError, match="no model c in this sweep; its models are a, b"):
        nearest(TWO_MODELS.points, Bounds({}, {}, ("c",)))
    with pytest.raises(UserError, match="has no rougeLsum; its scores are BLEU, loss"):
        nearest(TWO_MODELS.points, Bounds({}, {"rougeLsum": 1}))


def test_commands():
    told = commands(TWO_MODELS, TWO_MODELS.points[1])
    words = shlex.split(told["use"])
    assert words[:4] == ["fairseq-generate", "data-bin", "--path", "a.pt"]
    assert words[-4:] == ["--prune-layers", "decoder=keep:4@every_other", "--user-dir", "$(fairseq-layerdrop user-dir)"]
    assert "--unnormalized" in words and "--match-source-len" not in words and "--cpu" in words
    assert words[words.index("--beam") + 1] == "4" and words[words.index("--max-tokens") + 1] == "4000"
    assert told["export"] == "fairseq-layerdrop export a.pt --prune-layers decoder=keep:4@every_other -o a-pruned.pt"
    whole = commands(sweep(point()), point())
    assert "--prune-layers" not in whole["use"] and whole["export"] == "fairseq-layerdrop export a.pt -o a-exported.pt"


def test_commands_with_what_the_sweep_was_given():
    words = shlex.split(commands(TWO_MODELS, TWO_MODELS.points[0])["use"])
    assert "--skip-invalid-size-inputs-valid-test" in words and "--model-overrides" not in words
    own = replace(TWO_MODELS, run={**RUN, "overrides": "{'dropout': 0.1}", "user_dir": "my plugins/a"})
    words = shlex.split(commands(own, own.points[0])["use"])
    assert words[words.index("--model-overrides") + 1] == "{'dropout': 0.1}"
    assert words[words.index("--user-dir") + 1] == "my plugins/a" and words.count("--user-dir") == 1


def test_units_of_blocks():
    flags = ["--sample-break-mode", "none", "--tokens-per-sample", "256"]
    blocks = replace(point(), task_flags=flags, depths={"decoder": (6, 6)})
    assert [cost.unit_of(blocks) for name, cost in COSTS.items() if name in ("latency", "time")] == [
        "ms a block of 256 tokens", "ms a block of 256 tokens",
    ]  # fmt: skip
    assert nearest([blocks], Bounds({"latency": 1}, {})) == "the least latency is 40 ms a block of 256 tokens"
    lines = replace(blocks, task_flags=["--sample-break-mode", "eos", *flags[2:]])
    assert COSTS["latency"].unit_of(lines) == COSTS["latency"].unit_of(point()) == "ms a sentence"
    told = page(sweep(blocks), "blocks")
    assert told.count("ms a block of 256 tokens") >= 4 and "ms a sentence" not in told
    assert "all blocks that fit the model" in told and "sentences" not in told
