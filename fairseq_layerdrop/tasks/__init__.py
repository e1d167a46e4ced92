"""Tasks that are registered with fairseq."""

from .layerdrop_language_modeling import LayerDropLanguageModelingTask
from .layerdrop_masked_lm import LayerDropMaskedLMTask
from .layerdrop_question_answering import LayerDropQuestionAnsweringTask
from .layerdrop_sentence_prediction import LayerDropSentencePredictionTask
from .layerdrop_summarization import LayerDropSummarizationTask
from .layerdrop_translation import LayerDropTranslationTask
from .named_files import LAST
from .prunable import PrunableTask, prunable_task

__all__ = [
    "LAST",
    "LayerDropLanguageModelingTask",
    "LayerDropMaskedLMTask",
    "LayerDropQuestionAnsweringTask",
    "LayerDropSentencePredictionTask",
    "LayerDropSummarizationTask",
    "LayerDropTranslationTask",
    "PrunableTask",
    "prunable_task",
]
