"""Layers, sub-layers and heads as values, and their texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_layerdrop.plan import SUB_LAYERS, Item, Layer, PlanError, SubLayer

WHOLE = SubLayer("self_attn")


@st.composite
def sub_layers(draw, names=SUB_LAYERS, most=40):
    """Any sub-layer, with all its heads or some of them."""
    name, total = draw(st.sampled_from(names)), draw(st.integers(2, most))
    some = st.sets(st.integers(0, total - 1), min_size=1, max_size=total - 1)
    heads = set() if name == "ffn" else draw(st.just(set()) | some)
    return SubLayer(name, tuple(sorted(heads)), total if heads else 0)


class TestSubLayer:
    @given(sub_layers())
    def test_text_and_back(self, sub_layer):
        assert SubLayer.parse(str(sub_layer)) == sub_layer

    @given(st.text(alphabet="selfatnco_d.h0123456789,-x ٣\n", max_size=30) | st.sampled_from(SUB_LAYERS), st.data())
    def test_each_has_one_text(self, text, data):
        if data.draw(st.booleans()):
            runs = st.tuples(st.integers(0, 12), st.sampled_from([",", "-"]))
            text += ".head" + "".join(f"{number}{mark}" for number, mark in data.draw(st.lists(runs)))[:-1]
            text += f"of{data.draw(st.integers(0, 12))}"
        try:
            assert str(SubLayer.parse(text)) == text
        except PlanError as error:
            assert len(str(error).splitlines()) == 1

    @pytest.mark.parametrize(
        "text, heads, total",
        [("self_attn.head0-1,3of4", (0, 1, 3), 4), ("encoder_attn.head9998of9999", (9998,), 9999)],
    )
    def test_text(self, text, heads, total):
        sub_layer = SubLayer.parse(text)
        assert (sub_layer.name, sub_layer.heads, sub_layer.total) == (text.partition(".")[0], heads, total)

    @pytest.mark.parametrize(
        "given",
        [
            ("fc1",),
            ("ffn", (0,), 4),
            ("self_attn", (0,)),
            ("self_attn", (), 4),
            ("self_attn", (0, 1, 2, 3), 4),
            ("self_attn", (1, 0), 4),
            ("self_attn", (1, 1), 4),
            ("self_attn", (4,), 4),
            ("self_attn", (-1,), 4),
        ],
    )
    def test_no_such(self, given):
        with pytest.raises(PlanError, match="no sub-layer"):
            SubLayer(*given)

    @given(st.integers(2, 12), st.data())
    def test_what_goes_and_what_stays_are_the_whole(self, total, data):
        some = st.sets(st.integers(0, total - 1), min_size=1)
        had = data.draw(some)
        full, keep = (WHOLE.with_heads(heads, total) for heads in (had, had & data.draw(some)))
        gone = full.without(keep)
        of_parts = [set(part.heads_of(total)) for part in (keep, gone) if part]
        assert set.union(*of_parts) == had and sum(map(len, of_parts)) == len(had)

    @pytest.mark.parametrize(
        "full, keep",
        [
            ("self_attn.head0of4", "self_attn"),
            ("self_attn.head0of4", "self_attn.head0-1of4"),
            ("self_attn.head0-1of4", "self_attn.head0of3"),
            ("self_attn", "encoder_attn.head0of4"),
            ("self_attn", "ffn"),
        ],
    )
    def test_no_part(self, full, keep):
        with pytest.raises(PlanError, match="no part of"):
            SubLayer.parse(full).without(SubLayer.parse(keep))


class TestLayer:
    def test_of_texts(self):
        layer = Layer.of("self_attn.head1of2", "ffn")
        assert layer.names == ("self_attn", "ffn") and layer.texts == ["self_attn.head1of2", "ffn"]
        assert str(layer) == "self_attn.head1of2, ffn"
        assert layer.find("ffn") == SubLayer("ffn") and layer.find("encoder_attn") is None

    @pytest.mark.parametrize("texts", [("ffn", "self_attn"), ("ffn", "ffn"), ("self_attn", "self_attn.head0of2")])
    def test_keeps_the_order(self, texts):
        with pytest.raises(PlanError, match="in the order self_attn, encoder_attn, ffn"):
            Layer.of(*texts)

    def test_what_goes(self):
        layer = Layer.of("self_attn", "encoder_attn", "ffn")
        keep = Layer.of("self_attn.head0of2", "ffn")
        assert layer.without(keep) == Layer.of("self_attn.head1of2", "encoder_attn")
        assert layer.without(layer) == Layer() and layer.without(Layer()) == layer
        for other in (Layer.of("encoder_attn"), Layer(reversed(keep))):
            with pytest.raises(PlanError, match="no part of"):
                keep.without(other)


def test_items_as_text():
    items = [Item(3), Item(3, "ffn"), Item(3, "self_attn", 0)]
    assert list(map(str, items)) == ["3", "3.ffn", "3.self_attn.head0"]
