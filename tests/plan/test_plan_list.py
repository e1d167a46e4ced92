"""``--layerdrop-plans``: several plans in a text."""

import pytest

from fairseq_layerdrop.plan import Ladder, PlanError, parse_plans, transformer_structure, write_ladder

MODEL = transformer_structure({"encoder": 6, "decoder": 6})


def plans(text):
    return [(str(spec), weight) for spec, weight in parse_plans(text)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("decoder=keep:3@every_other", [("decoder=keep:3@every_other", 1.0)]),
        ("keep:2,4@every_other", [("keep:2@every_other", 1.0), ("keep:4@every_other", 1.0)]),
        ("decoder=drop:1-3@top*0.5", [(f"decoder=drop:{i}@top", 0.5) for i in (1, 2, 3)]),
        ("decoder=keep:0,2-4", [("decoder=keep:0,2-4", 1.0)]),
        (" drop:5-5*2\n decoder=drop:0.ffn ", [("drop:5-5", 2.0), ("decoder=drop:0.ffn", 1.0)]),
        (
            "encoder=keep:3,6@every_other/decoder=keep:2-3@top",
            [(f"encoder=keep:{e}@every_other/decoder=keep:{d}@top", 1.0) for e in (3, 6) for d in (2, 3)],
        ),
    ],
)
def test_of_rules(text, expected):
    assert plans(text) == expected


def test_of_a_ladder(tmp_path):
    removals = tuple(("decoder", layer, None) for layer in (4, 1, 3))
    write_ladder(Ladder(MODEL, removals, (0.0,) * 3), tmp_path / "order.json")
    found = [spec.resolve(MODEL).stacks["decoder"].layers for spec, _ in parse_plans(f"keep:3-5@{tmp_path}/order.json")]
    assert found == [(0, 2, 5), (0, 2, 3, 5), (0, 1, 2, 3, 5)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "there are no plans"),
        ("keep:3@every_other*0", r"the weight after \* must be a number above 0, not '0'"),
        ("keep:3@every_other*much", "the weight"),
        ("keep:3@every_other*nan", "the weight"),
        ("keep:4-2@every_other", "'4-2' are no counts of layers; write for instance 2,3,4 or 2-4"),
        ("keep:2,,3@every_other", "no counts"),
        ("keep:0-2@every_other", "the count must be at least 1"),
        ("keep:3@each", "unknown rule 'each'"),
        ("keep:3@every_other, keep:2@every_other", "unknown rule"),
        ("plan.json", "plan.json"),
    ],
)
def test_mistakes(text, words):
    with pytest.raises(PlanError, match=words):
        parse_plans(text)
