"""Tasks that are registered with fairseq."""

from .fine_tuning import mend_averages
from .layerdrop_language_modeling import LayerDropLanguageModelingTask
from .layerdrop_question_answering import LayerDropQuestionAnsweringTask
from .layerdrop_summarization import LayerDropSummarizationTask
from .layerdrop_translation import LayerDropTranslationTask
from .prunable import load_checkpoints_as_prunable, our_task

__all__ = [
    "LayerDropLanguageModelingTask",
    "LayerDropQuestionAnsweringTask",
    "LayerDropSummarizationTask",
    "LayerDropTranslationTask",
    "load_checkpoints_as_prunable",
    "mend_averages",
    "our_task",
]
