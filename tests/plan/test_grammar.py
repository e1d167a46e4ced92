"""The --prune-layers text: what it means, what is refused, and that it round-trips."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairseq_layerdrop.plan import (
    LEARNED,
    RULES,
    STACKS,
    SUB_LAYERS,
    Item,
    Layer,
    ModelFacts,
    PlanError,
    PruneSpec,
    drop_spec,
    parse,
    transformer_structure,
)
from fairseq_layerdrop.plan.choice import ListedChoice, RuleChoice

SIX = {"encoder": 6, "decoder": 6}


def resolve(text, depths=SIX):
    return parse(text).resolve(transformer_structure(depths))


def kept(text, depths=SIX):
    return {stack: list(part.layers) for stack, part in resolve(text, depths).stacks.items()}


def lost(text, depths=SIX):
    """The sub-layers that kept layers lose, as stack.layer.name."""
    parts = resolve(text, depths).stacks.items()
    return [f"{stack}.{item}" for stack, part in parts for item in part.dropped_sublayers]


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
            ("encoder=keep:3-3/decoder=drop:0-0", [3], [1, 2, 3, 4, 5]),
            ("keep:6@bottom", [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ],
    )
    def test_of(self, text, encoder, decoder):
        assert kept(text) == {"encoder": encoder, "decoder": decoder}

    def test_unnamed_stack_means_every_stack_of_the_model(self):
        assert kept("keep:2@every_other", {"decoder": 16}) == {"decoder": [0, 8]}
        assert kept("keep:2@every_other", {"encoder": 12, "decoder": 6}) == {"encoder": [0, 6], "decoder": [0, 3]}

    def test_one_layer_as_text(self):
        assert [str(parse(text)) for text in ("encoder=keep:3-3", "drop:0-0")] == ["encoder=keep:3-3", "drop:0-0"]
        assert str(parse("drop:3-3.ffn")) == "drop:3.ffn" and str(parse("drop:2,1")) == "drop:1-2"

    def test_plan_in_words(self):
        assert str(resolve("decoder=keep:0,1,2,5")) == "encoder 6 of 6 layers (0-5), decoder 4 of 6 layers (0-2,5)"
        words = str(resolve("encoder=keep:0,3/decoder=drop:0,2.ffn,4.self_attn"))
        assert words == "encoder 2 of 6 layers (0,3), decoder 5 of 6 layers (1-5 without 2.ffn,4.self_attn)"


class TestSubLayers:
    def test_dropped_alone(self):
        text = "decoder=drop:2.self_attn,4.ffn,4.encoder_attn"
        assert kept(text) == {"encoder": [0, 1, 2, 3, 4, 5], "decoder": [0, 1, 2, 3, 4, 5]}
        assert lost(text) == ["decoder.2.self_attn", "decoder.4.encoder_attn", "decoder.4.ffn"]

    def test_dropped_beside_layers_and_in_ranges(self):
        text = "encoder=drop:0,3-5.self_attn/decoder=drop:1.ffn"
        assert kept(text)["encoder"] == [1, 2, 3, 4, 5]
        assert lost(text) == ["encoder.3.self_attn", "encoder.4.self_attn", "encoder.5.self_attn", "decoder.1.ffn"]

    def test_kept_alone(self):
        plan = resolve("encoder=keep:0-1,4.ffn").stacks["encoder"]
        assert plan.pruned == (Layer.of("self_attn", "ffn"), Layer.of("self_attn", "ffn"), Layer.of("ffn"))
        assert plan.layers == (0, 1, 4)

    def test_of_every_stack(self):
        assert lost("drop:1.ffn") == ["encoder.1.ffn", "decoder.1.ffn"]

    def test_layer_that_loses_all_is_a_dropped_layer(self):
        assert resolve("encoder=drop:1.self_attn,1.ffn") == resolve("encoder=drop:1-1")
        assert resolve("decoder=drop:1.self_attn,1.ffn", {"decoder": 3}) == resolve("drop:1-1", {"decoder": 3})

    def test_of_a_model_that_lacks_some(self):
        structure = {"decoder": (Layer.of("self_attn"), Layer.of("self_attn", "ffn"))}
        dropped = parse("drop:1.self_attn").resolve(structure)
        assert dropped.pruned == {"decoder": (Layer.of("self_attn"), Layer.of("ffn"))}
        assert parse("keep:1@top").resolve(structure).pruned == {"decoder": (Layer.of("self_attn", "ffn"),)}
        with pytest.raises(PlanError, match="layer 0 of the decoder has no ffn, only self_attn"):
            parse("drop:0.ffn").resolve(structure)

    def test_what_a_model_lacks_as_text(self):
        whole = transformer_structure(SIX)
        for text in ["decoder=drop:1-2.ffn", "encoder=drop:0.self_attn,3.ffn/decoder=drop:5.encoder_attn"]:
            plan = parse(text).resolve(whole)
            assert str(drop_spec(whole, plan.pruned)) == text
        assert drop_spec(whole, whole) is None


class TestHeads:
    FOUR = ModelFacts({"encoder": 4, "decoder": 4})

    def resolve(self, text, structure=None):
        return parse(text).resolve(structure or transformer_structure(SIX), self.FOUR)

    def test_dropped(self):
        plan = self.resolve("decoder=drop:3.self_attn.head2,1-2.encoder_attn.head0-1").stacks["decoder"]
        assert plan.keep[3].texts == ["self_attn.head0-1,3of4", "encoder_attn", "ffn"]
        assert plan.keep[1] == plan.keep[2] == Layer.of("self_attn", "encoder_attn.head2-3of4", "ffn")
        assert str(plan).endswith(
            "(0-5 without 1.encoder_attn.head0,1.encoder_attn.head1,2.encoder_attn.head0,2.encoder_attn.head1,"
            "3.self_attn.head2)"
        )

    def test_kept(self):
        plan = self.resolve("encoder=keep:0,1.self_attn.head0,1.ffn").stacks["encoder"]
        assert plan.pruned == (Layer.of("self_attn", "ffn"), Layer.of("self_attn.head0of4", "ffn"))

    def test_all_of_them_are_the_sub_layer(self):
        assert self.resolve("drop:3.self_attn.head0-3") == self.resolve("drop:3.self_attn")

    def test_they_keep_their_numbers(self):
        first = self.resolve("decoder=drop:0.self_attn.head1").pruned
        again = self.resolve("decoder=drop:0.self_attn.head3", first)
        assert str(again.pruned["decoder"][0][0]) == "self_attn.head0,2of4"
        with pytest.raises(PlanError, match="has heads 0,2-3, not 1"):
            self.resolve("decoder=drop:0.self_attn.head1", first)
        gone = self.resolve("decoder=drop:0.self_attn.head0,0.self_attn.head2-3", first)
        assert gone == self.resolve("decoder=drop:0.self_attn", first)
        assert gone.stacks["decoder"].dropped_sublayers == (Item(0, "self_attn"),)

    def test_a_pruned_attention_tells_of_how_many(self):
        first = self.resolve("decoder=drop:0.self_attn.head1").pruned
        text = "decoder=drop:0.self_attn.head3"
        assert parse(text).resolve(first) == self.resolve(text, first)

    def test_what_a_model_lacks_as_text(self):
        whole = transformer_structure(SIX)
        text = "encoder=drop:2.self_attn.head1,4.ffn/decoder=drop:0-1.self_attn.head3"
        assert str(drop_spec(whole, self.resolve(text).pruned)) == text

    @pytest.mark.parametrize(
        "text, words",
        [
            ("drop:0.self_attn.head4", "has heads 0-3, not 4"),
            ("drop:0.ffn.head1", "unknown sub-layer 'ffn.head1'"),
            ("drop:0.self_attn.head", "a head is written self_attn.head2"),
            ("drop:0.self_attn.head1,0.self_attn", "names layer 0 more than once"),
            ("drop:0.self_attn.head1,0", "names layer 0 more than once"),
            ("drop:0.self_attn.head3-1", "runs backwards"),
            ("encoder=drop:0.encoder_attn.head1", "has no encoder_attn"),
        ],
    )
    def test_refused(self, text, words):
        with pytest.raises(PlanError) as refused:
            self.resolve(text)
        assert words in str(refused.value) and "\n" not in str(refused.value)


class TestLearned:
    LEARNED = ModelFacts(importance={"decoder": (0.1, 0.3, 0.1, 0.2, 0.2, 0.1)})

    @pytest.mark.parametrize(
        "text, layers", [("keep:1", [1]), ("keep:2", [1, 3]), ("keep:4", [0, 1, 3, 4]), ("drop:1", [0, 1, 2, 3, 4])]
    )
    def test_highest_importances_stay(self, text, layers):
        plan = parse(f"decoder={text}@learned").resolve(transformer_structure(SIX), self.LEARNED)
        assert list(plan.stacks["decoder"].layers) == layers

    def test_needs_importances(self):
        with pytest.raises(PlanError, match="no learned importances of its encoder layers"):
            parse("keep:2@learned").resolve(transformer_structure(SIX), self.LEARNED)


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
            ("decoder=keep:1,2/decoder=keep:2,3", "name each stack once"),
            ("keep:1,2/decoder=keep:2", "name each stack once"),
            ("decoder=keep:1/keep:2", "not a layer number"),
            ("decoder=keep:0\nimport os", "not a layer number"),
            ("drop:3.fnn", "unknown sub-layer 'fnn'; the sub-layers are self_attn, encoder_attn, ffn"),
            ("drop:3.", "unknown sub-layer ''"),
            ("drop:.ffn", "not a layer number"),
            ("drop:3.ffn,3.ffn", "layer 3 more than once"),
            ("drop:3,3.ffn", "layer 3 more than once"),
            ("drop:0-5,3.ffn", "layer 3 more than once"),
            ("keep:3", "3 could be a layer's number or how many layers; write keep:3-3 or keep:3@every_other"),
            ("decoder=drop:0/encoder=keep:3-3", "write decoder=drop:0-0 or decoder=drop:1@every_other"),
            ("encoder=drop:1,2/decoder=drop:1", "write decoder=drop:1-1 or decoder=drop:1@every_other"),
            ("decoder=keep:0", "write decoder=keep:0-0 or decoder=keep:1@every_other"),
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
            ("keep:6-6", SIX, "the encoder has layers 0-5, not 6"),
            ("decoder=drop:0-5", SIX, "leaves no layer of the decoder"),
            ("keep:7@top", SIX, "keep 1 to 6"),
            ("drop:6@top", SIX, "drop 1 to 5"),
            ("drop:4@odd_alternate", SIX, "at most 3 layers"),
            ("encoder=keep:1-1", {"decoder": 6}, "this model has no encoder, only decoder"),
            ("encoder=drop:6.ffn", SIX, "the encoder has layers 0-5, not 6"),
            ("encoder=drop:1.encoder_attn", SIX, "layer 1 of the encoder has no encoder_attn, only self_attn and ffn"),
            ("drop:1.encoder_attn", {"decoder": 6}, "layer 1 of the decoder has no encoder_attn"),
            ("decoder=drop:0-5.ffn,0-5.self_attn,0-5.encoder_attn", SIX, "leaves no layer of the decoder"),
        ],
    )
    def test_for_a_model(self, text, depths, words):
        with pytest.raises(PlanError) as caught:
            resolve(text, depths)
        assert words in str(caught.value)

    def test_ends_a_program_in_one_line(self):
        with pytest.raises(SystemExit) as caught:
            parse("keep")
        assert caught.value.code == (
            "fairseq-layerdrop: error: 'keep' must start with keep: or drop:, as in decoder=keep:0,2,4, "
            "or be a plan file, FILE.json"
        )


@st.composite
def choices(draw):
    verb = draw(st.sampled_from(["keep", "drop"]))
    if draw(st.booleans()):
        return RuleChoice(verb, draw(st.integers(1, 9999)), draw(st.sampled_from([*RULES, LEARNED])))
    items = []
    for layer in sorted(draw(st.sets(st.integers(0, 30), min_size=1, max_size=8))):
        names = draw(st.sets(st.sampled_from(SUB_LAYERS)))
        for name in filter(names.__contains__, SUB_LAYERS):
            heads = {None} if name == "ffn" else draw(st.just({None}) | st.sets(st.integers(0, 12), min_size=1))
            items += [Item(layer, name, head) for head in sorted(heads)]
        items += [] if names else [Item(layer)]
    return ListedChoice(verb, tuple(items))


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
            facts = ModelFacts({"encoder": 4, "decoder": 13})
            plan = spec.resolve(transformer_structure({"encoder": encoder, "decoder": decoder}), facts)
        except PlanError:
            return
        assert plan.full == transformer_structure({"encoder": encoder, "decoder": decoder})
        for part in plan.stacks.values():
            assert part.layers and list(part.layers) == sorted(part.layers)
            assert [part.keep[number] for number in part.layers] == list(part.pruned)

    @given(st.sets(st.integers(0, 11), min_size=1, max_size=11), st.sampled_from(["", ".self_attn", ".ffn"]))
    def test_keep_and_drop_are_complements(self, layers, name):
        text = ",".join(f"{layer}-{layer}{name}" for layer in layers)
        keep, drop = (resolve(f"{verb}:{text}", {"decoder": 12}).stacks["decoder"] for verb in ("keep", "drop"))
        for full, kept_part, other in zip(keep.full, keep.keep, drop.keep):
            assert set(kept_part) ^ set(other) == set(full)

    @given(st.text(alphabet="keepdropncr:=,-@/0123456789_.vyfnslat ", max_size=30) | st.text(max_size=20))
    def test_any_other_text_is_refused_in_one_line(self, text):
        try:
            spec = parse(text)
        except PlanError as error:
            assert len(str(error).splitlines()) == 1
            return
        assume(text)
        assert parse(str(spec)) == spec
