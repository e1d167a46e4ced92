"""LayerDrop for fairseq: train once, prune to any depth.

``--user-dir`` imports this module: it registers the models and tasks and makes fairseq's checkpoints loadable.
"""

from .models import LayerDropTransformerLanguageModel, LayerDropTransformerModel
from .surgery import allow_fairseq_types
from .tasks import LayerDropLanguageModelingTask, LayerDropTranslationTask, load_checkpoints_as_prunable

__version__ = "0.1.0"

__all__ = [
    "LayerDropLanguageModelingTask",
    "LayerDropTransformerLanguageModel",
    "LayerDropTransformerModel",
    "LayerDropTranslationTask",
]

allow_fairseq_types()
load_checkpoints_as_prunable()
