"""The --prune-layers text: what it means, what is refused, and that it round-trips."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairseq_layerdrop.plan import RULES, STACKS, Choice, PlanError, PruneSpec, StackPlan, parse

SIX = {"encoder": 6, "decoder": 6}


def kept(text, depths=SIX):
    return {stack: list(part.kept) for stack, part in parse(text).resolve(depths).stacks.items()}


class TestMeaning:
    @pytest.mark.parametrize(
        "text, encoder, decoder",
        [
            ("decoder=keep:0,2,4", [0, 1, 2, 3, 4, 5], [0, 2, 4]),
            ("encoder=keep:4@every_other/decoder=keep:3@every_other", [0, 1, 3, 4], [0, 2, 4]),
            ("decoder=keep:3@every_other/encoder=keep:4@every_other", [0, 1, 3, 4], [0, 2, 4]),
            ("drop:4@top", [0, 1], [0, 1]),
            ("drop:4@middle", [0, 5], [0, 5]),
            ("keep:2@top", [4, 5], [4, 5]),
            ("encoder=drop:0-3,5", [4], [0, 1, 2, 3, 4, 5]),
            ("keep:4,0-1", [0, 1, 4], [0, 1, 4]),
            ("keep:6@bottom", [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ],
    )
    def test_of(self, text, encoder, decoder):
        assert kept(text) == {"encoder": encoder, "decoder": decoder}

    def test_unnamed_stack_means_every_stack_of_the_model(self):
        assert kept("keep:2@every_other", {"decoder": 16}) == {"decoder": [0, 8]}
        assert kept("keep:2@every_other", {"encoder": 12, "decoder": 6}) == {"encoder": [0, 6], "decoder": [0, 3]}

    def test_plan_in_words(self):
        words = str(parse("decoder=keep:0,1,2,5").resolve(SIX))
        assert words == "encoder 6 of 6 layers (0-5), decoder 4 of 6 layers (0-2,5)"


class TestRefusal:
    @pytest.mark.parametrize(
        "text, words",
        [
            ("", "must start with keep: or drop:"),
            ("keep", "must start with keep: or drop:"),
            ("hold:3", "must start with keep: or drop:"),
            ("keep:", "not a layer number"),
            ("keep:one", "not a layer number"),
            ("keep:-1", "not a layer number"),
            ("keep:0,,2", "not a layer number"),
            ("keep:0 ,2", "not a layer number"),
            ("keep:99999999999", "not a layer number"),
            ("keep:٣", "not a layer number"),
            ("keep:4-2", "write 2-4"),
            ("keep:0,2,2", "layer 2 more than once"),
            ("keep:0-3,2", "layer 2 more than once"),
            ("keep:3@every", "unknown rule 'every'"),
            ("keep:3@", "unknown rule ''"),
            ("keep:0@top", "at least 1"),
            ("keep:x@top", "not a layer number or count"),
            ("middle=keep:1", "unknown stack 'middle'"),
            ("decoder=keep:1/decoder=keep:2", "name each stack once"),
            ("keep:1/decoder=keep:2", "name each stack once"),
            ("decoder=keep:1/keep:2", "not a layer number"),
            ("decoder=keep:0\nimport os", "not a layer number"),
        ],
    )
    def test_by_itself(self, text, words):
        with pytest.raises(PlanError) as caught:
            parse(text)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "text, depths, words",
        [
            ("keep:6", SIX, "the encoder has layers 0-5, not 6"),
            ("decoder=drop:0-5", SIX, "leaves no layer of the decoder"),
            ("keep:7@top", SIX, "keep 1 to 6"),
            ("drop:6@top", SIX, "drop 1 to 5"),
            ("drop:4@odd_alternate", SIX, "at most 3 layers"),
            ("encoder=keep:1", {"decoder": 6}, "this model has no encoder, only decoder"),
        ],
    )
    def test_for_a_model(self, text, depths, words):
        with pytest.raises(PlanError) as caught:
            parse(text).resolve(depths)
        assert words in str(caught.value)

    def test_ends_a_program_in_one_line(self):
        with pytest.raises(SystemExit) as caught:
            parse("keep")
        assert caught.value.code == (
            "fairseq-layerdrop: error: 'keep': 'keep' must start with keep: or drop:, as in decoder=keep:0,2,4"
        )

    @pytest.mark.parametrize("kept_layers", [(), (1, 0), (0, 0), (-1,), (3,)])
    def test_of_a_plan_that_is_none(self, kept_layers):
        with pytest.raises(PlanError):
            StackPlan(3, kept_layers)


@st.composite
def choices(draw):
    verb = draw(st.sampled_from(["keep", "drop"]))
    if draw(st.booleans()):
        return Choice(verb, count=draw(st.integers(1, 9999)), how=draw(st.sampled_from(sorted(RULES))))
    return Choice(verb, layers=tuple(sorted(draw(st.sets(st.integers(0, 60), min_size=1)))))


@st.composite
def specs(draw):
    if draw(st.booleans()):
        return PruneSpec(((None, draw(choices())),))
    stacks = draw(st.sets(st.sampled_from(STACKS), min_size=1))
    return PruneSpec(tuple((stack, draw(choices())) for stack in STACKS if stack in stacks))


class TestProperties:
    @given(specs())
    def test_round_trips(self, spec):
        assert parse(str(spec)) == spec

    @given(specs(), st.integers(1, 24), st.integers(1, 24))
    def test_resolves_to_a_sound_plan_or_is_refused(self, spec, encoder, decoder):
        try:
            plan = spec.resolve({"encoder": encoder, "decoder": decoder})
        except PlanError:
            return
        assert plan.full_depths == {"encoder": encoder, "decoder": decoder}
        for part in plan.stacks.values():
            assert sorted(part.kept + part.dropped) == list(range(part.depth))
            assert list(part.kept) == sorted(part.kept)

    @given(st.sets(st.integers(0, 11), min_size=1, max_size=11))
    def test_keep_and_drop_are_complements(self, layers):
        text = ",".join(map(str, layers))
        plan = parse(f"keep:{text}").resolve({"decoder": 12}).stacks["decoder"]
        assert set(plan.kept) == layers
        assert parse(f"drop:{text}").resolve({"decoder": 12}).stacks["decoder"].kept == plan.dropped

    @given(st.text(alphabet="keepdropncr:=,-@/0123456789_.vy ", max_size=30) | st.text(max_size=20))
    def test_any_other_text_is_refused_in_one_line(self, text):
        try:
            spec = parse(text)
        except PlanError as error:
            assert len(str(error).splitlines()) == 1
            return
        assume(text)
        assert parse(str(spec)) == spec
