"""Models that are registered with fairseq."""

from .layerdrop_roberta import LayerDropRobertaModel
from .layerdrop_transformer import LayerDropTransformerModel
from .layerdrop_transformer_lm import LayerDropTransformerLanguageModel

__all__ = ["LayerDropRobertaModel", "LayerDropTransformerLanguageModel", "LayerDropTransformerModel"]
