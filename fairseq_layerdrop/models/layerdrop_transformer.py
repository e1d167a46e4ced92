"""``layerdrop_transformer``: fairseq's encoder-decoder Transformer, trained with LayerDrop.

Each architecture ``layerdrop_NAME`` has the settings of fairseq's ``NAME``; all drop rates are 0 unless
``--encoder-layerdrop``, ``--decoder-layerdrop`` and their sisters set them.
"""

import torch
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import (
    TransformerEncoderBase,
    TransformerModel,
    base_architecture,
    tiny_architecture,
    transformer_iwslt_de_en,
    transformer_wmt_en_de,
    transformer_wmt_en_de_big,
    transformer_wmt_en_de_big_t2t,
)

from ..modules import ScriptedAsFairseq, shared_rows
from .settings import BothDropSettings
from .stack import LayerDropModel


class BeamEncoder(ScriptedAsFairseq, TransformerEncoderBase):
    """fairseq's encoder, whose states aren't copied while the beams of each sentence only change places."""

    scripted_as = TransformerEncoderBase
    beam_size = 1

    def reorder_encoder_out(self, encoder_out, new_order):
        """*encoder_out* with its rows in *new_order*; as it is where that makes no difference."""
        beam, rows = self.beam_size, torch.arange(new_order.numel(), device=new_order.device)
        states = encoder_out["encoder_out"][0]
        stays = states.size(1) == rows.numel() and torch.equal(new_order // beam, rows // beam)
        if beam > 1 and stays and shared_rows(states, beam):
            return encoder_out
        return super().reorder_encoder_out(encoder_out, new_order)


@register_model("layerdrop_transformer")
class LayerDropTransformerModel(LayerDropModel, TransformerModel):
    """fairseq's :class:`~fairseq.models.transformer.TransformerModel` with LayerDrop in both stacks.

    ``from_pretrained(..., prune_layers=SPEC)`` loads it pruned.
    """

    drop_settings = BothDropSettings

    @classmethod
    def add_args(cls, parser):
        super().add_args(parser)
        # A flag that isn't given must leave no trace: an architecture may set it.
        gen_parser_from_dataclass(parser, cls.drop_settings(), delete_default=True)

    @classmethod
    def build_encoder(cls, args, src_dict, embed_tokens):
        encoder = super().build_encoder(args, src_dict, embed_tokens)
        if type(encoder) is TransformerEncoderBase:  # built as that, since parts keep the name of the class they are of
            encoder.__class__ = BeamEncoder
        return encoder

    def set_beam_size(self, beam_size: int) -> None:
        """Take the number of beams of each sentence, as fairseq's sequence generator gives it to models that ask."""
        self.encoder.beam_size = beam_size
        self.decoder.set_beam_size(beam_size)


def _wmt_en_de_big_12_6(args):
    args.encoder_layers = getattr(args, "encoder_layers", 12)
    transformer_wmt_en_de_big(args)


for _name, _architecture in {
    "layerdrop_transformer": base_architecture,
    "layerdrop_transformer_tiny": tiny_architecture,  # 2 + 2 layers of width 64, for tests
    "layerdrop_transformer_iwslt_de_en": transformer_iwslt_de_en,  # 6 + 6, width 512, FFN 1024, 4 heads
    "layerdrop_transformer_wmt_en_de": transformer_wmt_en_de,  # 6 + 6, width 512, FFN 2048, 8 heads
    # Table 1 of Fan, Grave & Joulin (2020): 6 + 6 and 12 + 6 layers, width 1024, FFN 4096, 16 heads
    "layerdrop_transformer_wmt_en_de_big": transformer_wmt_en_de_big,
    "layerdrop_transformer_wmt_en_de_big_12_6": _wmt_en_de_big_12_6,
    "layerdrop_transformer_wmt_en_de_big_t2t": transformer_wmt_en_de_big_t2t,  # pre-norm; ELI5 (Fan et al. 2019)
}.items():
    register_model_architecture("layerdrop_transformer", _name)(_architecture)
