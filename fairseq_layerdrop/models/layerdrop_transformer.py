"""``layerdrop_transformer``: fairseq's encoder-decoder Transformer, trained with LayerDrop.

Each architecture ``layerdrop_NAME`` has the settings of fairseq's ``NAME``; LayerDrop rates are 0 unless
``--encoder-layerdrop`` and ``--decoder-layerdrop`` set them, as in fairseq.
"""

from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer import base_architecture as stock_base
from fairseq.models.transformer import tiny_architecture as stock_tiny
from fairseq.models.transformer import transformer_iwslt_de_en as stock_iwslt_de_en
from fairseq.models.transformer import transformer_wmt_en_de as stock_wmt_en_de
from fairseq.models.transformer import transformer_wmt_en_de_big as stock_wmt_en_de_big
from omegaconf import OmegaConf

from .stack import run_seed, use_layerdrop


@register_model("layerdrop_transformer")
class LayerDropTransformerModel(TransformerModel):
    """fairseq's :class:`~fairseq.models.transformer.TransformerModel` with LayerDrop in both stacks.

    ``from_pretrained(..., prune_layers=SPEC)`` loads it pruned.
    """

    @classmethod
    def build_model(cls, args, task):
        model = super().build_model(args, task)
        use_layerdrop(model.encoder, "encoder", args.encoder_layerdrop, run_seed(args))
        use_layerdrop(model.decoder, "decoder", args.decoder_layerdrop, run_seed(args))
        return model


def _interpolate_seed(args) -> None:
    """Let the model of a hydra configuration know the run's seed, as that of a command line does."""
    if OmegaConf.is_config(args) and args.get("seed") is None:
        args.seed = "${common.seed}"


@register_model_architecture("layerdrop_transformer", "layerdrop_transformer")
def base_architecture(args):
    _interpolate_seed(args)
    stock_base(args)


@register_model_architecture("layerdrop_transformer", "layerdrop_transformer_tiny")
def tiny(args):
    """Two layers of width 64: for tests."""
    _interpolate_seed(args)
    stock_tiny(args)


@register_model_architecture("layerdrop_transformer", "layerdrop_transformer_iwslt_de_en")
def iwslt_de_en(args):
    """6 + 6 layers, width 512, FFN 1024, 4 heads."""
    _interpolate_seed(args)
    stock_iwslt_de_en(args)


@register_model_architecture("layerdrop_transformer", "layerdrop_transformer_wmt_en_de")
def wmt_en_de(args):
    """6 + 6 layers, width 512, FFN 2048, 8 heads."""
    _interpolate_seed(args)
    stock_wmt_en_de(args)


@register_model_architecture("layerdrop_transformer", "layerdrop_transformer_wmt_en_de_big")
def wmt_en_de_big(args):
    """6 + 6 layers, width 1024, FFN 4096, 16 heads: Table 1 of Fan, Grave & Joulin (2020)."""
    _interpolate_seed(args)
    stock_wmt_en_de_big(args)


@register_model_architecture("layerdrop_transformer", "layerdrop_transformer_wmt_en_de_big_12_6")
def wmt_en_de_big_12_6(args):
    """The big Transformer with 12 encoder layers: Table 1 of Fan, Grave & Joulin (2020)."""
    args.encoder_layers = getattr(args, "encoder_layers", 12)
    wmt_en_de_big(args)
