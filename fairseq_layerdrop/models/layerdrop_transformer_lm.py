"""``layerdrop_transformer_lm``: fairseq's decoder-only Transformer, trained with LayerDrop.

Each architecture ``layerdrop_NAME`` has the settings of fairseq's ``NAME``; all drop rates are 0 unless
``--decoder-layerdrop`` and its sisters set them.
"""

from dataclasses import dataclass

from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer_lm import (
    TransformerLanguageModel,
    TransformerLanguageModelConfig,
    transformer_lm_baevski_wiki103,
    transformer_lm_gpt2_tiny,
)
from fairseq.utils import safe_getattr

from .settings import DecoderDropSettings
from .stack import LayerDropModel


@dataclass
class LayerDropTransformerLanguageModelConfig(TransformerLanguageModelConfig, DecoderDropSettings):
    """fairseq's settings and ours."""


@register_model("layerdrop_transformer_lm", dataclass=LayerDropTransformerLanguageModelConfig)
class LayerDropTransformerLanguageModel(LayerDropModel, TransformerLanguageModel):
    """fairseq's :class:`~fairseq.models.transformer_lm.TransformerLanguageModel` with LayerDrop.

    ``from_pretrained(..., prune_layers=SPEC)`` loads it pruned.
    """

    drop_settings = DecoderDropSettings


@register_model_architecture("layerdrop_transformer_lm", "layerdrop_transformer_lm_tiny")
def tiny(args):
    """Two layers of width 64: for tests."""
    transformer_lm_gpt2_tiny(args)


@register_model_architecture("layerdrop_transformer_lm", "layerdrop_transformer_lm_wiki103")
def wiki103(args):
    """The 16 layers with adaptive inputs of Baevski & Auli (2019): Table 2 of Fan, Grave & Joulin (2020), 247M."""
    transformer_lm_baevski_wiki103(args)


@register_model_architecture("layerdrop_transformer_lm", "layerdrop_transformer_lm_wiki103_40")
def wiki103_40(args):
    """40 layers: Table 2 of Fan, Grave & Joulin (2020).

    The paper gives depth and size, 40 layers and 423M parameters, but not the width of the feed-forward layers. With
    4096 as at 16 layers the model would have 549M; 2560 gives the 423M (423,352,320 with 267,744 symbols).
    """
    args.decoder_layers = safe_getattr(args, "decoder_layers", 40)
    args.decoder_ffn_embed_dim = safe_getattr(args, "decoder_ffn_embed_dim", 2560)
    transformer_lm_baevski_wiki103(args)
