"""fairseq's decoder and decoder layer with a shorter way through a step of incremental decoding."""

from fairseq.models import FairseqDecoder
from fairseq.models.transformer import TransformerDecoder, TransformerDecoderBase
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from fairseq.modules.transformer_layer import TransformerDecoderLayer, TransformerDecoderLayerBase
from torch import nn

from .attention import StepAttention
from .hooks import is_watched
from .scripting import ScriptedAsFairseq
from .sub_layers import uncheckpoint


class StepLayer(ScriptedAsFairseq, TransformerDecoderLayerBase):
    """fairseq's decoder layer, in which a step of incremental decoding goes straight from product to product.

    The products of a step are small, so that what happens between them counts. Everything else is computed as it is
    there, and so are layers of which this knows nothing: without an attention, with fairseq's NormFormer options, or
    with hooks on what isn't called here, attentions and dropout.
    """

    scripted_as = TransformerDecoderLayerBase

    @classmethod
    def take_over(cls, layer: nn.Module) -> None:
        """Make one of fairseq's decoder layers this, in place; one of another class stays what it is.

        ``--checkpoint-activations`` goes on for it.
        """
        if type(layer) in (TransformerDecoderLayer, TransformerDecoderLayerBase):
            offload = uncheckpoint(layer)
            layer.__class__ = cls
            if offload is not None:
                checkpoint_wrapper(layer, offload)

    def _knows_step(self, x, encoder_out, incremental_state) -> bool:
        options = (self.attn_ln, self.c_attn, self.ffn_layernorm, self.w_resid)
        attentions = [self.self_attn, *([] if self.encoder_attn is None else [self.encoder_attn])]
        return (
            (self.encoder_attn is None) == (encoder_out is None)
            and all(option is None for option in options)
            and not self.cross_self_attention
            and not self.onnx_trace
            and not self.dropout_module.apply_during_inference
            and not self.activation_dropout_module.apply_during_inference
            and all(type(attention) is StepAttention for attention in attentions)
            and not is_watched(*attentions, self.dropout_module, self.activation_dropout_module)
            and all(attention.knows_step(x, incremental_state) for attention in attentions)
        )

    def forward(
        self,
        x,
        encoder_out=None,
        encoder_padding_mask=None,
        incremental_state=None,
        prev_self_attn_state=None,
        prev_attn_state=None,
        self_attn_mask=None,
        self_attn_padding_mask=None,
        need_attn=False,
        need_head_weights=False,
    ):
        given = (prev_self_attn_state, prev_attn_state, self_attn_mask, self_attn_padding_mask)
        if (
            incremental_state is not None
            and all(state is None for state in given)
            and self._knows_step(x, encoder_out, incremental_state)
        ):
            need_attn = need_attn or need_head_weights or self.need_attn
            return self._step(x, encoder_out, encoder_padding_mask, incremental_state, need_attn, need_head_weights)
        return super().forward(
            x, encoder_out, encoder_padding_mask, incremental_state, *given, need_attn, need_head_weights
        )

    def _step(self, x, encoder_out, encoder_padding_mask, incremental_state, need_attn, need_head_weights):
        """The layer for one more position, 1 x B x C."""
        before, attn = self.normalize_before, None
        norm = self.self_attn_layer_norm
        y = self.self_attn.step(norm(x) if before else x, incremental_state)
        x = x + y if before else norm(x + y)
        if encoder_out is not None:
            norm = self.encoder_attn_layer_norm
            y, attn = self.encoder_attn.look(
                norm(x) if before else x, encoder_out, encoder_padding_mask, incremental_state, need_attn,
                need_head_weights,
            )  # fmt: skip
            x = x + y if before else norm(x + y)
        norm = self.final_layer_norm
        y = self.fc2(self.activation_fn(self.fc1(norm(x) if before else x)))
        return x + y if before else norm(x + y), attn, None


class StepDecoder(ScriptedAsFairseq, TransformerDecoder):
    """fairseq's decoder, whose layers are :class:`StepLayer` and their attentions :class:`StepAttention`."""

    scripted_as = TransformerDecoderBase

    @classmethod
    def take_over(cls, decoder: FairseqDecoder) -> None:
        """Let one of fairseq's decoders be this, in place, and one of another class, as far as it can, do as this."""
        if getattr(decoder, "cross_self_attention", False):
            return
        if type(decoder) in (TransformerDecoder, TransformerDecoderBase):
            decoder.__class__ = cls
        for number in range(len(decoder.layers)):
            StepLayer.take_over(decoder.layers[number])
            StepAttention.take_over(getattr(decoder.layers[number], "self_attn", None), looks_back=True)
        for module in decoder.modules():
            StepAttention.take_over(module)
