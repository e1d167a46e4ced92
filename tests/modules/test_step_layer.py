"""StepLayer against fairseq's own layer, step by step."""

import copy

import pytest
import torch
from fairseq.models.transformer import TransformerConfig
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from torch.nn.modules.module import register_module_forward_hook

from fairseq_layerdrop.modules import StepAttention, StepLayer, remove_sublayers
from tests.modules.test_attention import BATCH, BEAM, SOURCE, WIDTH, orders


def layers(no_encoder_attn=False, without=(), **settings):
    """fairseq's layer, and ours with the same weights; and how often ours took a step by itself."""
    torch.manual_seed(0)
    config = TransformerConfig()
    for stack in (config.encoder, config.decoder):
        stack.embed_dim, stack.ffn_embed_dim, stack.attention_heads = WIDTH, 2 * WIDTH, 4
    config.decoder.normalize_before = settings.pop("normalize_before", False)
    for name, value in settings.items():
        setattr(config, name, value)
    stock = TransformerDecoderLayerBase(config, no_encoder_attn=no_encoder_attn).eval()
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    remove_sublayers(stock, without)
    ours = copy.deepcopy(stock)
    StepLayer.take_over(ours)
    assert type(ours) is StepLayer
    for attention in (ours.self_attn, ours.encoder_attn):
        if attention is not None:
            StepAttention.take_over(attention)
            if hasattr(attention, "set_beam_size"):
                attention.set_beam_size(BEAM)
    steps = []
    step = ours._step
    ours._step = lambda *args: steps.append(1) or step(*args)
    return stock, ours, steps


def decode(both, encoder=True, positions=1, **asked):
    """Outputs and attention of both layers, step after step of a search."""
    generator, states = torch.Generator().manual_seed(1), ({}, {})
    encoded = torch.randn(SOURCE, BATCH, WIDTH, generator=generator).repeat_interleave(BEAM, 1) if encoder else None
    mask = None
    if encoder:
        mask = torch.zeros(BATCH * BEAM, SOURCE, dtype=torch.bool)
        mask[:BEAM, -2:] = True
    rows = BATCH * BEAM
    for order in orders(generator, 6):
        x = torch.randn(positions, rows, WIDTH, generator=generator)
        yield [layer(x, encoded, mask, state, **asked)[:2] for layer, state in zip(both, states)]
        for layer, state in zip(both, states):
            for attention in (layer.self_attn, layer.encoder_attn):
                if hasattr(attention, "reorder_incremental_state"):
                    attention.reorder_incremental_state(state, order)
        rows = len(order)
        encoded, mask = (None, None) if encoded is None else (encoded[:, order], mask[order])


@pytest.mark.parametrize("normalize_before", [False, True])
@pytest.mark.parametrize("activation_fn", ["relu", "gelu"])
@pytest.mark.parametrize("asked", [{}, {"need_attn": True}, {"need_head_weights": True}])
@torch.no_grad()
def test_equals_fairseq(normalize_before, activation_fn, asked):
    stock, ours, steps = layers(normalize_before=normalize_before, activation_fn=activation_fn)
    for layer in (stock, ours):
        layer.make_generation_fast_(need_attn=False)
    for (expected, attn), (found, own) in decode((stock, ours), **asked):
        torch.testing.assert_close(found, expected)
        assert (own is None) == (attn is None) == (not asked)
        if asked:
            torch.testing.assert_close(own, attn)
    assert len(steps) == 6


@torch.no_grad()
def test_of_a_language_model():
    stock, ours, steps = layers(no_encoder_attn=True, normalize_before=True)
    for (expected, _), (found, _) in decode((stock, ours), encoder=False):
        torch.testing.assert_close(found, expected)
    assert len(steps) == 6


@pytest.mark.parametrize(
    "settings",
    [{"without": [name]} for name in ("self_attn", "encoder_attn")]
    + [{"scale_heads": True}, {"scale_attn": True}, {"scale_fc": True}, {"scale_resids": True}],
)
@torch.no_grad()
def test_other_layers_are_computed_by_fairseq(settings):
    stock, ours, steps = layers(**settings)
    for (expected, _), (found, _) in decode((stock, ours)):
        torch.testing.assert_close(found, expected)
    assert not steps


@torch.no_grad()
def test_without_feed_forward():
    stock, ours, steps = layers(without=["ffn"])
    for (expected, _), (found, _) in decode((stock, ours)):
        torch.testing.assert_close(found, expected)
    assert len(steps) == 6


PARTS = [name for name, _ in layers()[0].named_modules() if name]


def doubled(out):
    return (out[0] * 2, *out[1:]) if isinstance(out, tuple) else out * 2


class TestWatched:
    """What watches a part of the layer sees the calls that fairseq makes, and can change them."""

    @pytest.mark.parametrize("part", PARTS)
    @pytest.mark.parametrize("how", ["hook", "pre-hook", "forward"])
    @torch.no_grad()
    def test_part(self, part, how):
        both, seen = layers()[:2], ([], [])
        for layer, calls in zip(both, seen):
            module = layer.get_submodule(part)

            def see(given, kwargs, calls=calls):
                calls.append([tensor.shape for tensor in (*given, *kwargs.values()) if torch.is_tensor(tensor)])

            if how == "hook":
                module.register_forward_hook(
                    lambda _, given, kwargs, out, see=see: see(given, kwargs) or doubled(out), with_kwargs=True
                )
            elif how == "pre-hook":
                module.register_forward_pre_hook(lambda _, given, kwargs, see=see: see(given, kwargs), with_kwargs=True)
            else:
                module.forward = lambda *given, own=module.forward, see=see, **kwargs: (
                    see(given, kwargs) or doubled(own(*given, **kwargs))
                )
        for (expected, _), (found, _) in decode(both):
            torch.testing.assert_close(found, expected)
        assert seen[0] == seen[1] and len(seen[0]) >= (1 if part.startswith("encoder_attn.") else 6)

    @torch.no_grad()
    def test_all_modules(self):
        """By hooks for every module that there is, as counters of operations set them."""
        seen = []
        both = layers()[:2]
        names = [{module: name for name, module in layer.named_modules()} for layer in both]
        with register_module_forward_hook(lambda module, given, out: seen.append(module)):
            for _ in decode(both):
                pass
        stock, ours = ([name[module] for module in seen if module in name] for name in names)
        assert stock == ours and set(PARTS) <= set(stock)

    @torch.no_grad()
    def test_in_the_middle(self):
        """A hook that comes during a search; fairseq goes on from what is cached."""
        stock, ours, steps = layers()
        for number, ((expected, _), (found, _)) in enumerate(decode((stock, ours))):
            torch.testing.assert_close(found, expected)
            if number == 2:
                for layer in (stock, ours):
                    layer.self_attn.q_proj.register_forward_hook(lambda module, given, out: out * 2)
        assert len(steps) == 3


def test_other_passes_are_computed_by_fairseq():
    """With gradients, while training, of a whole text, and after a step of fairseq's own."""
    stock, ours, steps = layers()
    x, encoded = torch.randn(3, BATCH, WIDTH), torch.randn(SOURCE, BATCH, WIDTH)
    for given in ((x, encoded), (x[:1], encoded, None, {})):
        out = ours(*given)[0]
        assert torch.equal(out, stock(*given)[0])
        out.sum().backward()
    with torch.no_grad():
        assert torch.equal(ours(x, encoded, None, {})[0], stock(x, encoded, None, {})[0])
        states = {}, {}
        mask = torch.zeros(BATCH, 1, dtype=torch.bool)
        for position in x.split(1):
            outs = [
                layer(position, encoded, None, state, self_attn_padding_mask=mask)[0]
                for layer, state in zip((stock, ours), states)
            ]
            torch.testing.assert_close(outs[1], outs[0])
        ours.train()
        ours(x[:1], encoded, None, {})
    assert not steps
