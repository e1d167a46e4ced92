"""fairseq's attention with a faster way to decode step by step, and to look back on a GPU.

fairseq computes a decoding step with its own matrix products, holds the keys and values of each beam of the encoder's
states apart, and copies the cache twice a step: once to append to it and once to follow the beams. Here the three
projections are one product, a sentence's beams share the encoder's keys and values, the cache is copied once a step,
and PyTorch's fused attention computes the rest.

In a training, fairseq gives the fused attention a mask that hides the positions to come. On a GPU a mask rules out the
flash kernel; here it is told instead that the attention is causal.
"""

from dataclasses import dataclass

import torch
from fairseq.modules import MultiheadAttention
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from .hooks import is_watched
from .scripting import ScriptedAsFairseq
from .sub_layers import whole

_KEY = "step_cache"
_ROOM = 8


def _joined(projections) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Several linear modules as one; their biases are all there or none is."""
    weight = torch.cat([projection.weight for projection in projections])
    bias = None if projections[0].bias is None else torch.cat([projection.bias for projection in projections])
    return weight, bias


@dataclass
class SelfCache:
    """The keys and values of the positions that a decoding has seen, with the projections that make them.

    Attributes:
        weight: projections to queries, keys and values, one under the other.
        bias: their biases; None if they have none.
        kv: keys and values beside each other, S x B x 2I, for inner width I = heads x width of a head; with room for
            positions to come.
        length: how much of S is filled.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    kv: torch.Tensor
    length: int = 0

    @classmethod
    def empty(cls, rows: int, projections) -> "SelfCache":
        """A cache of no position yet, for *rows* rows and the given linear modules, those of queries first."""
        weight, bias = _joined(projections)
        return cls(weight, bias, weight.new_empty(_ROOM, rows, weight.size(0) - projections[0].weight.size(0)))

    @property
    def past(self) -> torch.Tensor:
        """What is filled of *kv*."""
        return self.kv[: self.length]

    def append(self, kv: torch.Tensor) -> None:
        """Add the keys and values of one more position, B x 2I."""
        if self.length == self.kv.size(0):
            self.kv = torch.cat([self.kv, torch.empty_like(self.kv)])
        self.kv[self.length] = kv
        self.length += 1

    def reorder(self, new_order: torch.Tensor) -> None:
        """Let row i become row new_order[i]; then there is room for one position more.

        PyTorch copies whole rows of a matrix in parallel, but not rows along a later dimension. The room is a copy of
        the last position.
        """
        _, rows, width = self.kv.shape
        positions = torch.arange(self.length + 1, device=new_order.device).clamp_(max=self.length - 1)
        chosen = (positions[:, None] * rows + new_order).flatten()
        self.kv = self.kv.view(-1, width).index_select(0, chosen).view(self.length + 1, -1, width)


@dataclass
class EncoderCache:
    """The keys and values of the encoder's states, each sentence once.

    Attributes:
        keys: B x heads x width of a head x S.
        values: B x heads x S x width of a head.
        beam: number of rows of a query that share each of the B: rows 0 to beam - 1 the first, and so on.
        padding: which of S are padding, B x 1 x 1 x S; None where there is none.
    """

    keys: torch.Tensor
    values: torch.Tensor
    beam: int
    padding: torch.Tensor | None

    def reorder(self, new_order: torch.Tensor) -> None:
        """Let row i of the queries become row new_order[i]; each has a sentence to itself where groups are torn up."""
        sentences = new_order // self.beam
        if torch.equal(sentences, torch.arange(self.keys.size(0) * self.beam, device=new_order.device) // self.beam):
            return  # beams change places within their sentences
        if shared_rows(sentences[None, :, None], self.beam):
            sentences = sentences[:: self.beam]
        else:
            self.beam = 1
        self.keys, self.values = self.keys[sentences], self.values[sentences]
        self.padding = None if self.padding is None else self.padding[sentences]


def shared_rows(states: torch.Tensor, beam: int) -> bool:
    """Whether the B of *states*, of shape S x B x C, come in groups of *beam* equal ones; one channel tells."""
    if beam == 1 or states.size(1) % beam:
        return beam == 1
    channel = states[:, :, 0].view(states.size(0), -1, beam)
    return bool((channel == channel[:, :, :1]).all())


class StepAttention(ScriptedAsFairseq, MultiheadAttention):
    """fairseq's :class:`~fairseq.modules.MultiheadAttention`, with a faster step of incremental decoding.

    Everything else is computed as it is there but for a decoder's training on a GPU, and so are steps of which this
    knows nothing: with gradients, while dropout is on, with a mask, with more than one query position, with biases of
    keys, with hooks on its parts or others than linear projections. Results equal fairseq's within rounding.

    Attributes:
        step_beam: number of rows that may look at the same sentence.
        looks_back: whether a mask that this is given is the one that hides the positions to come, as a fairseq decoder
            gives to its self-attention.
        causal_on: kinds of device on which a whole text is attended to without that mask. (On a CPU PyTorch is as fast
            with it, and without it fairseq's results aren't met bit by bit.)
    """

    scripted_as = MultiheadAttention
    step_beam = 1
    looks_back = False
    causal_on = ("cuda",)

    def set_beam_size(self, beam_size: int) -> None:
        """Take the number of rows that may look at the same sentence.

        It isn't fairseq's own ``beam_size``, by which everything else would be computed too, long after a search.
        """
        self.step_beam = beam_size

    @classmethod
    def take_over(cls, attention, looks_back: bool = False) -> None:
        """Make one of fairseq's attentions this, in place; one of another class stays what it is."""
        if type(attention) is MultiheadAttention:
            attention.__class__ = cls
            attention.looks_back = looks_back

    @property
    def _is_plain(self) -> bool:
        projections = [whole(part) for part in (self.q_proj, self.k_proj, self.v_proj, self.out_proj)]
        return (
            self.bias_k is None
            and not self.add_zero_attn
            and not self.use_xformers
            and not self.onnx_trace
            and all(type(projection) is nn.Linear for projection in projections)  # quantized ones aren't
            and not is_watched(*projections, self.dropout_module)
        )

    def knows_step(self, query, incremental_state) -> bool:
        """Whether a step for *query*, 1 x B x C, can be computed here: not while training, nor after fairseq's own."""
        return (
            query.size(0) == 1
            and not torch.is_grad_enabled()
            and not self.training
            and not self.dropout_module.apply_during_inference
            and self._is_plain
            and self.self_attention != self.encoder_decoder_attention
            and "prev_key" not in self._get_input_buffer(incremental_state)
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
        asked_for_more = need_weights or before_softmax or need_head_weights
        if self._may_look_back(query, incremental_state, key_padding_mask, attn_mask) and not asked_for_more:
            return self._look_back(query), None
        if incremental_state is not None:
            if attn_mask is None and not before_softmax and self.knows_step(query, incremental_state):
                if self.self_attention and key_padding_mask is None and not asked_for_more:
                    return self.step(query, incremental_state), None
                if self.encoder_decoder_attention and static_kv:
                    return self.look(query, key, key_padding_mask, incremental_state, need_weights, need_head_weights)
            self._hand_over(incremental_state)
        return super().forward(
            query, key, value, key_padding_mask, incremental_state, need_weights, static_kv, attn_mask, before_softmax,
            need_head_weights,
        )  # fmt: skip

    def _may_look_back(self, query, incremental_state, key_padding_mask, attn_mask) -> bool:
        return (
            self.looks_back
            and self.training
            and query.device.type in self.causal_on
            and attn_mask is not None
            and key_padding_mask is None
            and incremental_state is None
            and self.self_attention
            and self._is_plain
        )

    def _look_back(self, query):
        """Self-attention of each of T x B x C to itself and to what is before it."""
        attended = scaled_dot_product_attention(
            *(self._heads(projection(query)) for projection in (self.q_proj, self.k_proj, self.v_proj)),
            dropout_p=self.dropout_module.p,
            is_causal=True,
        )
        return self.out_proj(attended.permute(2, 0, 1, 3).reshape(*query.shape[:2], -1))

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """S x B x I as B x heads x S x width."""
        return states.view(*states.shape[:2], self.num_heads, self.head_dim).permute(1, 2, 0, 3)

    def step(self, query, incremental_state):
        """Self-attention of one more position, 1 x B x C."""
        inner, rows = self.num_heads * self.head_dim, query.size(1)
        cache = self.get_incremental_state(incremental_state, _KEY)
        if cache is None:
            cache = SelfCache.empty(rows, (self.q_proj, self.k_proj, self.v_proj))
            self.set_incremental_state(incremental_state, _KEY, cache)
        projected = linear(query[0], cache.weight, cache.bias)
        cache.append(projected[:, inner:])
        attended = scaled_dot_product_attention(
            projected[:, :inner].view(rows, self.num_heads, 1, self.head_dim),
            self._heads(cache.past[:, :, :inner]),
            self._heads(cache.past[:, :, inner:]),
        )
        return self.out_proj(attended.reshape(1, rows, inner))

    def look(self, query, key, key_padding_mask, incremental_state, need_weights, need_head_weights):
        """Attention of one position, 1 x B x C, to the encoder's states, S x B x C.

        Returns:
            1 x B x C, and where asked for the weights: mean over heads B x 1 x S, or each head's, heads x B x 1 x S.
        """
        rows, width = query.size(1), self.head_dim
        cache = self.get_incremental_state(incremental_state, _KEY)
        if cache is None:
            beam = self.step_beam if shared_rows(key, self.step_beam) else 1
            keys, values = self._heads(self.k_proj(key[:, ::beam])), self._heads(self.v_proj(key[:, ::beam]))
            padding = None if key_padding_mask is None else key_padding_mask[::beam, None, None].bool()
            cache = EncoderCache(keys.transpose(2, 3).contiguous(), values.contiguous(), beam, padding)
            self.set_incremental_state(incremental_state, _KEY, cache)
        sentences, length = rows // cache.beam, cache.keys.size(3)
        queries = self.q_proj(query[0]).mul_(self.scaling).view(sentences, cache.beam, self.num_heads, width)
        queries = queries.transpose(1, 2).reshape(-1, cache.beam, width)
        weights = torch.bmm(queries, cache.keys.view(-1, width, length))
        weights = weights.view(sentences, self.num_heads, cache.beam, length)
        if cache.padding is not None:
            weights = weights.masked_fill_(cache.padding, float("-inf"))
        weights = torch.softmax(weights, dim=-1)
        attended = torch.bmm(weights.view(-1, cache.beam, length), cache.values.view(-1, length, width))
        attended = attended.view(sentences, self.num_heads, cache.beam, width).transpose(1, 2).reshape(1, rows, -1)
        out = self.out_proj(attended)
        if need_head_weights:
            return out, weights.transpose(0, 1).reshape(self.num_heads, rows, 1, length)
        return out, weights.mean(1).view(rows, 1, length) if need_weights else None

    def reorder_incremental_state(self, incremental_state, new_order):
        """Follow the beams: row i of what is cached becomes row new_order[i]."""
        cache = self.get_incremental_state(incremental_state, _KEY)
        if cache is None:
            return super().reorder_incremental_state(incremental_state, new_order)
        cache.reorder(new_order)
        return incremental_state

    def _hand_over(self, incremental_state) -> None:
        """Let fairseq's own code go on with what is cached."""
        cache = self.get_incremental_state(incremental_state, _KEY)
        if cache is None:
            return
        padding = None
        if isinstance(cache, SelfCache):
            keys, values = map(self._heads, cache.past.chunk(2, dim=-1))
        else:
            keys, values = cache.keys.transpose(2, 3), cache.values
            keys, values = (tensor.repeat_interleave(cache.beam, 0) for tensor in (keys, values))
            if cache.padding is not None:
                padding = cache.padding[:, 0, 0].repeat_interleave(cache.beam, 0)
        state = {"prev_key": keys.contiguous(), "prev_value": values.contiguous(), "prev_key_padding_mask": padding}
        self._set_input_buffer(incremental_state, state)
        self.set_incremental_state(incremental_state, _KEY, None)
