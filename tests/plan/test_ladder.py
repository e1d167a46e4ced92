"""Ladders: every size is a look-up; files are checked; the grammar names them."""

import json

import pytest

from fairseq_layerdrop.plan import (
    Ladder,
    PlanError,
    parse,
    plan_without,
    read_ladder,
    transformer_structure,
    units_of,
    write_ladder,
    write_plan,
)
from fairseq_layerdrop.plan.plan import Plan

FULL = transformer_structure({"encoder": 3, "decoder": 4})
LAYERS = (("decoder", 1, None), ("encoder", 0, None), ("decoder", 3, None))
SUB_LAYERS = (("decoder", 3, "ffn"), ("decoder", 0, "encoder_attn"), ("decoder", 3, "self_attn"))


@pytest.fixture
def path(tmp_path):
    write_ladder(Ladder(FULL, LAYERS, (1.0, 2.5, None), {"method": "sleb"}), tmp_path / "order.json")
    return tmp_path / "order.json"


def kept(text):
    plan = parse(text).resolve(FULL)
    return {stack: part.layers for stack, part in plan.stacks.items()}


def test_comes_back_as_it_was(path):
    assert read_ladder(path) == Ladder(FULL, LAYERS, (1.0, 2.5, None))
    assert read_ladder(path).origin == {"method": "sleb"}


def test_every_size_is_a_look_up(path):
    whole = {"encoder": (0, 1, 2), "decoder": (0, 1, 2, 3)}
    assert kept(f"decoder=keep:3@{path}") == {**whole, "decoder": (0, 2, 3)}
    assert kept(f"decoder=keep:4@{path}") == whole
    assert kept(f"decoder=drop:2@{path}") == {**whole, "decoder": (0, 2)}
    assert kept(f"encoder=keep:2@{path}") == {**whole, "encoder": (1, 2)}
    assert kept(f"keep:5@{path}") == {"encoder": (1, 2), "decoder": (0, 2, 3)}
    assert kept(f"drop:3@{path}") == {"encoder": (1, 2), "decoder": (0, 2)}
    assert kept(f"encoder=drop:1@{path}/decoder=keep:2@every_other") == {"encoder": (1, 2), "decoder": (0, 2)}


def test_of_sublayers(tmp_path):
    write_ladder(Ladder(FULL, SUB_LAYERS, (1, 2, 3)), tmp_path / "order.json")
    plan = parse(f"decoder=keep:9@{tmp_path}/order.json").resolve(FULL)
    assert plan == plan_without(FULL, SUB_LAYERS)
    assert plan.stacks["decoder"].keep[3].names == ("encoder_attn",)
    assert len(units_of(FULL, True)) == 3 * 2 + 4 * 3


@pytest.mark.parametrize(
    "text, words",
    [
        ("decoder=keep:1@{}", "can keep 2 to 4 layers of the decoder"),
        ("decoder=drop:3@{}", "can drop 1 to 2 layers of the decoder"),
        ("keep:3@{}", "can keep 4 to 7 layers"),
        ("decoder=keep:3@{}x.json", "no such ladder file"),
        ("{}", "is a ladder: name a size"),
        ("decoder=keep:3@order", "unknown rule 'order'"),
    ],
)
def test_refused(text, words, path):
    with pytest.raises(PlanError, match=words):
        kept(text.format(path))


def test_for_another_model(path):
    with pytest.raises(PlanError, match="is a plan for 4 decoder layers, and this model has 6"):
        parse(f"decoder=keep:3@{path}").resolve(transformer_structure({"encoder": 3, "decoder": 6}))


def test_a_stack_that_stays_whole(tmp_path):
    write_ladder(Ladder(FULL, LAYERS[:1], (1,)), tmp_path / "order.json")
    with pytest.raises(PlanError, match="removes nothing of the encoder"):
        kept(f"encoder=keep:2@{tmp_path}/order.json")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda content: content["removals"][0].update(drop="decoder.x"), r"removals\[0\] must be an object"),
        (lambda content: content["removals"][0].update(score="1"), r"removals\[0\] must be an object"),
        (lambda content: content["removals"][0].update(score=True), r"removals\[0\] must be an object"),
        (lambda content: content["removals"][1].update(why=""), r"removals\[1\] must be an object"),
        (lambda content: content["removals"][2].pop("score"), r"removals\[2\] must be an object"),
        (lambda content: content.update(removals={}), r"removals\[0\] must be an object"),
        (lambda content: content["removals"].append(content["removals"][0]), "at most once"),
        (lambda content: content["removals"][0].update(drop="decoder.7"), "at most once"),
        (lambda content: content["removals"].clear(), "must have removals"),
        (lambda content: content.update(format="fairseq-layerdrop plan"), "is not a ladder file"),
        (lambda content: content.update(extra=1), "unknown field 'extra'"),
    ],
)
def test_damaged(change, words, path):
    content = json.loads(path.read_text())
    change(content)
    from fairseq_layerdrop.plan.plan_file import _checksum

    path.write_text(json.dumps({**content, "checksum": _checksum(content)}))
    with pytest.raises(PlanError, match=words):
        read_ladder(path)


def test_changed_by_hand(path):
    path.write_text(path.read_text().replace("2.5", "2.4"))
    with pytest.raises(PlanError, match="checksum doesn't fit"):
        read_ladder(path)


@pytest.mark.parametrize(
    "removals, words",
    [
        ((("decoder", 0, None), ("decoder", 1, "ffn")), "at most once"),
        (tuple(("decoder", number, None) for number in range(4)), "at least one layer"),
        ((), "must have removals"),
    ],
)
def test_no_such_ladder(removals, words):
    with pytest.raises(PlanError, match=words):
        Ladder(FULL, removals, (0.0,) * len(removals))


def test_a_plan_is_no_ladder(tmp_path):
    write_plan(Plan.whole(FULL), tmp_path / "plan.json")
    with pytest.raises(PlanError, match="is not a ladder file"):
        parse(f"decoder=keep:3@{tmp_path}/plan.json")
