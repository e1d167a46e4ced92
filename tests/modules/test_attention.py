"""StepAttention against fairseq's own steps."""

import copy

import pytest
import torch
from fairseq.modules import MultiheadAttention

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
