"""StepAttention against fairseq's own steps."""

import copy

import hypothesis
import pytest
import torch
from fairseq.modules import MultiheadAttention
from hypothesis import strategies as st

from fairseq_layerdrop.modules import StepAttention, remove_heads

BATCH, BEAM, WIDTH, HEADS, SOURCE = 3, 4, 16, 4, 5


def attentions(kind, heads=None):
    """fairseq's attention, and ours with the same weights."""
    torch.manual_seed(0)
    stock = MultiheadAttention(WIDTH, HEADS, **{kind: True}).eval()
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if heads:
        remove_heads(stock, heads)
    ours = copy.deepcopy(stock)
    StepAttention.take_over(ours)
    assert type(ours) is StepAttention and type(stock) is MultiheadAttention
    return stock, ours


def orders(generator, steps, shrink=True):
    """What a beam search could choose: beams of the same sentence for each row, and at times a finished sentence."""
    sentences = BATCH
    for step in range(steps):
        kept = torch.arange(sentences)
        if shrink and step == steps // 2:
            kept = kept[1:]
        beams = torch.randint(0, BEAM, (len(kept), BEAM), generator=generator)
        sentences = len(kept)
        yield (kept[:, None] * BEAM + beams).flatten()


@pytest.mark.parametrize("heads", [None, [0, 2, 3]])
@torch.no_grad()
def test_self_attention(heads):
    generator = torch.Generator().manual_seed(1)
    both, states = attentions("self_attention", heads), ({}, {})
    rows = BATCH * BEAM
    for order in orders(generator, 40):  # more than the cache first has room for
        x = torch.randn(1, rows, WIDTH, generator=generator)
        outs = [
            attention(x, x, x, incremental_state=state, need_weights=False)[0] for attention, state in zip(both, states)
        ]
        torch.testing.assert_close(outs[1], outs[0])
        for attention, state in zip(both, states):
            attention.reorder_incremental_state(state, order)
        rows = len(order)


@pytest.mark.parametrize("beam", [1, BEAM, 2])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("weights", [False, True])
@torch.no_grad()
def test_attention_to_the_encoder(beam, padding, weights):
    """Also with a number of beams that isn't that of the search: one that divides it, and none."""
    generator = torch.Generator().manual_seed(1)
    both, states = attentions("encoder_decoder_attention"), ({}, {})
    both[1].set_beam_size(beam)
    encoded = torch.randn(SOURCE, BATCH, WIDTH, generator=generator).repeat_interleave(BEAM, 1)
    mask = torch.zeros(BATCH * BEAM, SOURCE, dtype=torch.bool)
    mask[:BEAM, -2:] = padding
    mask = mask if padding else None
    for order in orders(generator, 6):
        x = torch.randn(1, encoded.size(1), WIDTH, generator=generator)
        outs = [
            attention(x, encoded, encoded, mask, state, need_weights=weights, static_kv=True)
            for attention, state in zip(both, states)
        ]
        torch.testing.assert_close(outs[1][0], outs[0][0])
        if weights:
            torch.testing.assert_close(outs[1][1], outs[0][1])
        for attention, state in zip(both, states):
            attention.reorder_incremental_state(state, order)
        encoded = encoded[:, order]
        mask = None if mask is None else mask[order]


PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


class Doubling(torch.nn.Linear):
    """Stands for a quantized projection: it computes more than its weights tell."""

    def forward(self, x):
        return super().forward(x) * 2


def double(both, part, how):
    """Let the projection *part* of each attention double what it computes."""
    for attention in both:
        if how == "hook":
            getattr(attention, part).register_forward_hook(lambda module, given, out: out * 2)
        else:
            getattr(attention, part).__class__ = Doubling


@pytest.mark.parametrize("how", ["hook", "class"])
@pytest.mark.parametrize("part", PROJECTIONS)
@pytest.mark.parametrize("kind", ["self_attention", "encoder_decoder_attention"])
@torch.no_grad()
def test_projections_that_do_more(kind, part, how):
    """Hooks, and modules that aren't linear: fairseq's own code calls them."""
    both, states = attentions(kind), ({}, {})
    both[1].set_beam_size(BEAM)
    double(both, part, how)
    encoded = torch.randn(SOURCE, BATCH, WIDTH).repeat_interleave(BEAM, 1)
    static = kind == "encoder_decoder_attention"
    for _ in range(3):
        x = torch.randn(1, BATCH * BEAM, WIDTH)
        key = encoded if static else x
        outs = [
            attention(x, key, key, None, state, need_weights=False, static_kv=static)[0]
            for attention, state in zip(both, states)
        ]
        assert torch.equal(*outs)


@hypothesis.given(data=st.data())
@torch.no_grad()
def test_any_order(data):
    """Any rows may follow any, also with as many beams as an earlier search had, and with equal sentences in a batch.

    Each step is compared with fairseq's first one: its own cache stays as it is while there are as many rows.
    """
    (stock, ours), state = attentions("encoder_decoder_attention"), {}
    ours.set_beam_size(data.draw(st.integers(1, 4)))
    sentences = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=4)))
    rows = sentences.repeat_interleave(data.draw(st.integers(1, 4)))
    generator = torch.Generator().manual_seed(1)
    encoded = torch.randn(SOURCE, 2, WIDTH, generator=generator)
    mask = torch.tensor([[False] * SOURCE, [False] * (SOURCE - 2) + [True] * 2])
    for _ in range(4):
        asked = torch.randn(1, len(rows), WIDTH, generator=generator), encoded[:, rows], encoded[:, rows], mask[rows]
        found, expected = (attention(*asked, of, static_kv=True) for attention, of in ((ours, state), (stock, {})))
        torch.testing.assert_close(found, expected)
        order = torch.tensor(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=12)))
        ours.reorder_incremental_state(state, order)
        rows = rows[order]


@torch.no_grad()
def test_sentences_are_no_beams():
    """A number of beams left from an earlier search: sentences that differ don't share what they look at."""
    stock, ours = attentions("encoder_decoder_attention")
    ours.set_beam_size(BEAM)
    x, encoded = torch.randn(1, 2 * BEAM, WIDTH), torch.randn(SOURCE, 2 * BEAM, WIDTH)
    outs = [a(x, encoded, encoded, incremental_state={}, need_weights=False, static_kv=True)[0] for a in (stock, ours)]
    torch.testing.assert_close(outs[1], outs[0])
    x, encoded = torch.randn(3, 5, WIDTH), torch.randn(SOURCE, 5, WIDTH)  # as in a validation after a search
    outs = [attention(x, encoded, encoded, need_weights=False, static_kv=True)[0] for attention in (stock, ours)]
    torch.testing.assert_close(outs[1], outs[0])


@pytest.mark.parametrize("kind", ["self_attention", "encoder_decoder_attention"])
@torch.no_grad()
def test_fairseq_goes_on_with_what_is_cached(kind):
    """Where a step asks for what this doesn't know: each head's weights."""
    both, states = attentions(kind), ({}, {})
    both[1].set_beam_size(BEAM)
    encoded = torch.randn(SOURCE, BATCH, WIDTH).repeat_interleave(BEAM, 1)
    static = kind == "encoder_decoder_attention"
    for step in range(4):
        x = torch.randn(1, BATCH * BEAM, WIDTH)
        key = encoded if static else x
        outs = [
            attention(x, key, key, None, state, need_weights=False, static_kv=static, need_head_weights=step > 1)
            for attention, state in zip(both, states)
        ]
        torch.testing.assert_close(outs[1], outs[0])


def test_everything_else_is_computed_by_fairseq():
    stock, ours = attentions("self_attention")
    x = torch.randn(6, BATCH, WIDTH)
    mask = torch.triu(torch.full((6, 6), float("-inf")), 1)
    for given in ({}, {"attn_mask": mask}):
        torch.testing.assert_close(ours(x, x, x, **given), stock(x, x, x, **given))
    ours(x[:1], x[:1], x[:1], incremental_state={})[0].sum().backward()
    assert ours.q_proj.weight.grad is not None


class TestLookingBack:
    """Without the mask, as on a GPU; here the CPU is told to do so too."""

    @pytest.fixture
    def both(self, monkeypatch, request):
        monkeypatch.setattr(StepAttention, "causal_on", ("cpu",))
        stock, ours = attentions("self_attention", getattr(request, "param", None))
        ours.looks_back = True
        return stock.train(), ours.train()

    @staticmethod
    def outs(both, **given):
        x = torch.randn(6, BATCH, WIDTH, generator=torch.Generator().manual_seed(3))
        mask = torch.triu(torch.full((6, 6), float("-inf")), 1)
        return [attention(x, x, x, attn_mask=mask, need_weights=False, **given)[0] for attention in both]

    @pytest.mark.parametrize("both", [None, [0, 2, 3]], indirect=True)
    def test_equals_fairseq(self, both):
        outs = self.outs(both)
        torch.testing.assert_close(outs[1], outs[0])
        for out in outs:
            out.square().sum().backward()
        for (name, stock), ours in zip(both[0].named_parameters(), both[1].parameters(), strict=True):
            if name != "k_proj.bias":  # whose gradient is 0 but for rounding
                error = (ours.grad - stock.grad).abs().max()
                assert error <= 1e-6 * stock.grad.abs().max() + 1e-6, name

    def test_needs_no_mask_to_look_back(self, both, monkeypatch):
        """The mask's values aren't read; with a key's padding, or asked for weights, fairseq's own code is."""
        monkeypatch.setattr(torch, "triu", lambda mask, _: torch.zeros_like(mask))
        stock, ours = self.outs(both)
        assert not torch.allclose(ours, stock)
        for given in ({"key_padding_mask": torch.zeros(BATCH, 6, dtype=torch.bool)}, {"need_head_weights": True}):
            stock, ours = self.outs(both, **given)
            torch.testing.assert_close(ours, stock)

    @pytest.mark.parametrize("how", ["hook", "class"])
    @pytest.mark.parametrize("part", PROJECTIONS)
    def test_projections_that_do_more(self, both, part, how):
        """fairseq doesn't call them here: it takes their weights."""
        double(both, part, how)
        assert torch.equal(*self.outs(both))

    def test_drops_what_fairseq_drops(self, both):
        """With all attention dropped, the output's bias is left; none is in evaluation."""
        for attention in both:
            attention.dropout_module.p = 1.0
        stock, ours = self.outs(both)
        bias = both[0].out_proj.bias.expand_as(ours)
        assert torch.equal(ours, bias) and torch.equal(stock, bias)
        for attention in both:
            attention.eval()
        assert torch.equal(*self.outs(both))  # fairseq's own way, on every device


def test_a_cpu_computes_as_fairseq_does():
    """Bit by bit: the mask is left away on a GPU only."""
    stock, ours = attentions("self_attention")
    ours.looks_back = True
    first, second = TestLookingBack.outs((stock, ours))
    assert torch.equal(first, second)
