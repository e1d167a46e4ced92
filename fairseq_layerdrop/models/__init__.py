"""Models that are registered with fairseq."""

from .layerdrop_roberta import LayerDropRobertaModel
from .layerdrop_transformer import LayerDropTransformerModel
from .layerdrop_transformer_lm import LayerDropTransformerLanguageModel
from .training import check_training, refuse_dropping_heads

__all__ = [
    "LayerDropRobertaModel",
    "LayerDropTransformerLanguageModel",
    "LayerDropTransformerModel",
    "check_training",
    "refuse_dropping_heads",
]
