"""Tasks that are registered with fairseq."""

from .layerdrop_language_modeling import LayerDropLanguageModelingTask
from .layerdrop_translation import LayerDropTranslationTask
from .prunable import load_checkpoints_as_prunable, slice_averages_too

__all__ = [
    "LayerDropLanguageModelingTask",
    "LayerDropTranslationTask",
    "load_checkpoints_as_prunable",
    "slice_averages_too",
]
