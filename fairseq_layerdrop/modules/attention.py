"""fairseq's attention with a faster way to decode step by step.

fairseq computes a decoding step with its own matrix products, holds the keys and values of each beam of the encoder's
states apart, and copies the cache twice a step: once to append to it and once to follow the beams. Here the three
projections are one product, a sentence's beams share the encoder's keys and values, the cache is copied once a step,
and PyTorch's fused attention computes the rest.
"""

from dataclasses import dataclass

import torch
from fairseq.modules import MultiheadAttention
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

_KEY = "step_cache"
_FIRST_CAPACITY = 16


@dataclass
class StepCache:
    """The keys and values that a decoding has computed so far.

    Attributes:
        kv: keys and values beside each other, S x B x 2I, for inner width I = heads x width of a head. Of a
            self-attention, S is room for what is to come; of an encoder-decoder attention, B counts sentences.
        length: how much of S is filled.
        weight: projections from which they come, one under the other.
        bias: their biases; None if they have none.
        beam: number of rows of a query that share each of the B.
        mask: which of S are padding, B x 1 x 1 x S, True where attention may look; None where there is no padding.
    """

    kv: torch.Tensor
    length: int
    weight: torch.Tensor
    bias: torch.Tensor | None
    beam: int = 1
    mask: torch.Tensor | None = None


def _joined(projections) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Several linear modules as one; their biases are all there or none is."""
    weight = torch.cat([projection.weight for projection in projections])
    bias = None if projections[0].bias is None else torch.cat([projection.bias for projection in projections])
    return weight, bias


def _shared_rows(states: torch.Tensor, beam: int) -> bool:
    """Whether the B of *states*, of shape S x B x C, come in groups of *beam* equal ones; one channel tells."""
    if beam == 1 or states.size(1) % beam:
        return beam == 1
    channel = states[:, :, 0].view(states.size(0), -1, beam)
    return bool((channel == channel[:, :, :1]).all())


class StepAttention(MultiheadAttention):
    """fairseq's :class:`~fairseq.modules.MultiheadAttention`, with a faster step of incremental decoding.

    Everything else is computed as it is there, and so are steps of which this knows nothing: with gradients, while
    dropout is on, with a mask, with more than one query position, with biases of keys. Results equal fairseq's within
    rounding.
    """

    @classmethod
    def take_over(cls, attention: nn.Module) -> None:
        """Make one of fairseq's attentions this, in place; one of another class stays what it is."""
        if type(attention) is MultiheadAttention:
            attention.__class__ = cls

    def _knows(self, query, key_padding_mask, attn_mask, before_softmax, need_head_weights) -> bool:
        plain = self.bias_k is None and not self.add_zero_attn and not self.use_xformers and not self.onnx_trace
        drops = self.training or self.dropout_module.apply_during_inference
        return (
            plain
            and not drops
            and not torch.is_grad_enabled()
            and query.size(0) == 1
            and attn_mask is None
            and not before_softmax
            and not need_head_weights
            and (self.encoder_decoder_attention or key_padding_mask is None)
            and self.self_attention != self.encoder_decoder_attention
        )

    def forward(
        self,
        query,
        key,
        value,
        key_padding_mask=None,
        incremental_state=None,
        need_weights=True,
        static_kv=False,
        attn_mask=None,
        before_softmax=False,
        need_head_weights=False,
    ):
        if incremental_state is not None and "prev_key" not in self._get_input_buffer(incremental_state):
            cache = self.get_incremental_state(incremental_state, _KEY)
            if self._knows(query, key_padding_mask, attn_mask, before_softmax, need_head_weights):
                if self.self_attention and not need_weights:
                    return self._step(query, cache, incremental_state), None
                if self.encoder_decoder_attention and static_kv:
                    return self._look(query, key, key_padding_mask, cache, incremental_state, need_weights)
            if cache is not None:
                self._hand_over(cache, incremental_state)
        return super().forward(
            query, key, value, key_padding_mask, incremental_state, need_weights, static_kv, attn_mask, before_softmax,
            need_head_weights,
        )  # fmt: skip

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """S x B x I as B x heads x S x width."""
        return states.view(*states.shape[:2], self.num_heads, self.head_dim).permute(1, 2, 0, 3)

    def _step(self, query, cache: StepCache | None, incremental_state):
        """Self-attention of one more position, 1 x B x C."""
        inner, rows = self.num_heads * self.head_dim, query.size(1)
        if cache is None:
            weight, bias = _joined((self.q_proj, self.k_proj, self.v_proj))
            cache = StepCache(query.new_empty(_FIRST_CAPACITY, rows, 2 * inner), 0, weight, bias)
            self.set_incremental_state(incremental_state, _KEY, cache)
        elif cache.length == cache.kv.size(0):
            cache.kv = torch.cat([cache.kv, torch.empty_like(cache.kv)])
        projected = linear(query[0], cache.weight, cache.bias)
        cache.kv[cache.length] = projected[:, inner:]
        cache.length += 1
        past = cache.kv[: cache.length]
        attended = scaled_dot_product_attention(
            projected[:, :inner].view(rows, self.num_heads, 1, self.head_dim),
            self._heads(past[:, :, :inner]),
            self._heads(past[:, :, inner:]),
        )
        return self.out_proj(attended.reshape(1, rows, inner))

    def _look(self, query, key, key_padding_mask, cache: StepCache | None, incremental_state, need_weights):
        """Attention of one position, 1 x B x C, to the encoder's states."""
        inner, rows = self.num_heads * self.head_dim, query.size(1)
        if cache is None:
            beam = self.beam_size if _shared_rows(key, self.beam_size) else 1
            weight, bias = _joined((self.k_proj, self.v_proj))
            mask = None
            if key_padding_mask is not None:
                mask = ~key_padding_mask[::beam, None, None].bool()
            cache = StepCache(linear(key[:, ::beam], weight, bias), key.size(0), weight, bias, beam, mask)
            self.set_incremental_state(incremental_state, _KEY, cache)
        sentences = rows // cache.beam
        queries = self.q_proj(query[0]).view(sentences, cache.beam, self.num_heads, self.head_dim).transpose(1, 2)
        keys, values = self._heads(cache.kv[:, :, :inner]), self._heads(cache.kv[:, :, inner:])
        weights = queries * self.scaling @ keys.transpose(2, 3)
        if cache.mask is not None:
            weights = weights.masked_fill(~cache.mask, float("-inf"))
        weights = torch.softmax(weights, dim=-1)
        attended = (weights @ values).transpose(1, 2).reshape(1, rows, inner)
        averaged = weights.mean(1).view(rows, 1, -1) if need_weights else None
        return self.out_proj(attended), averaged

    def reorder_incremental_state(self, incremental_state, new_order):
        """Follow the beams: row i of what is cached becomes row new_order[i]."""
        cache = self.get_incremental_state(incremental_state, _KEY)
        if cache is None:
            return super().reorder_incremental_state(incremental_state, new_order)
        order = new_order
        if self.encoder_decoder_attention:
            order = new_order.view(-1, cache.beam)[:, 0] // cache.beam
            if order.numel() == cache.kv.size(1):  # beams change places within their sentences only
                return incremental_state
            cache.kv = cache.kv.index_select(1, order)
            cache.mask = None if cache.mask is None else cache.mask.index_select(0, order)
            return incremental_state
        moved = cache.kv.new_empty(cache.kv.size(0), order.numel(), cache.kv.size(2))
        torch.index_select(cache.kv[: cache.length], 1, order, out=moved[: cache.length])
        cache.kv = moved
        return incremental_state

    def _hand_over(self, cache: StepCache, incremental_state) -> None:
        """Let fairseq's own code go on with what is cached."""
        kv = cache.kv[: cache.length].repeat_interleave(cache.beam, 1)
        keys, values = map(self._heads, kv.chunk(2, dim=-1))
        mask = None if cache.mask is None else ~cache.mask[:, 0, 0].repeat_interleave(cache.beam, 0)
        state = {"prev_key": keys.contiguous(), "prev_value": values.contiguous(), "prev_key_padding_mask": mask}
        self._set_input_buffer(incremental_state, state)
        self.set_incremental_state(incremental_state, _KEY, None)
