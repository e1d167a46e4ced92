"""``layerdrop_roberta``: fairseq's RoBERTa (Liu et al. 2019, 1907.11692), trained with LayerDrop.

Each architecture ``layerdrop_NAME`` has the settings of fairseq's ``NAME``; all drop rates are 0 unless
``--encoder-layerdrop`` and its sisters set them.
"""

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import register_model, register_model_architecture
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import (
    base_architecture,
    roberta_base_architecture,
    roberta_large_architecture,
    roberta_prenorm_architecture,
)

from ..base.errors import UserError
from ..modules import LayerDropModuleList
from .settings import EncoderDropSettings
from .stack import LayerDropModel

# Settings of fairseq's AdaPruning, with what turns each off. It walks over the layers outside of any pass.
_ADAPRUNING = {
    "mha_reg_scale_factor": 0,
    "ffn_reg_scale_factor": 0,
    "mha_heads_to_keep": -1,
    "ffn_blocks_to_remove": -1,
}


@register_model("layerdrop_roberta")
class LayerDropRobertaModel(LayerDropModel, RobertaModel):
    """fairseq's :class:`~fairseq.models.roberta.RobertaModel` with LayerDrop.

    ``from_pretrained(..., prune_layers=SPEC)`` loads it pruned, with its classification heads.
    """

    drop_settings = EncoderDropSettings

    @classmethod
    def add_args(cls, parser):
        super().add_args(parser)
        # A flag that isn't given must leave no trace: an architecture may set it.
        gen_parser_from_dataclass(parser, cls.drop_settings(), delete_default=True)

    @classmethod
    def build_model(cls, args, task):
        model = super().build_model(args, task)
        layers = model.encoder.sentence_encoder.layers
        for setting, off in _ADAPRUNING.items():
            if isinstance(layers, LayerDropModuleList) and getattr(args, setting, None) not in (None, off):
                raise UserError(
                    f"--{setting.replace('_', '-')} and LayerDrop exclude each other; leave one of them out"
                )
        return model


def _tiny(args):
    args.encoder_layers = getattr(args, "encoder_layers", 2)
    args.encoder_embed_dim = getattr(args, "encoder_embed_dim", 64)
    args.encoder_ffn_embed_dim = getattr(args, "encoder_ffn_embed_dim", 64)
    args.encoder_attention_heads = getattr(args, "encoder_attention_heads", 2)
    base_architecture(args)


def _large_48(args):
    args.encoder_layers = getattr(args, "encoder_layers", 48)
    roberta_large_architecture(args)


for _name, _architecture in {
    "layerdrop_roberta": base_architecture,
    "layerdrop_roberta_tiny": _tiny,  # 2 layers of width 64, for tests
    # Table 5 of Fan, Grave & Joulin (2020): 12 layers of width 768 and 12 heads; 24 of width 1024 and 16 heads
    "layerdrop_roberta_base": roberta_base_architecture,
    "layerdrop_roberta_large": roberta_large_architecture,
    "layerdrop_roberta_large_48": _large_48,  # their Table 4: 48 layers, trained with LayerDrop 0.5
    "layerdrop_roberta_prenorm": roberta_prenorm_architecture,
}.items():
    register_model_architecture("layerdrop_roberta", _name)(_architecture)
