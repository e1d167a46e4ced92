"""``layerdrop_summarization``: translation of articles into summaries, with ``--prune-layers`` and ``--eval-rouge``."""

from dataclasses import dataclass
from typing import ClassVar

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationTask

from .prunable import PrunableTask, prunable_version_of
from .rouge_validation import RougeConfig, RougeValidation


@dataclass
class LayerDropSummarizationConfig(RougeConfig):
    pass


@register_task("layerdrop_summarization", dataclass=LayerDropSummarizationConfig)
class LayerDropSummarizationTask(RougeValidation, PrunableTask, TranslationTask):
    """Summarization, scored as CNN/DailyMail is: ``rouge1``, ``rouge2``, ``rougeL`` and ``rougeLsum``."""

    metric_settings: ClassVar = {"rougeLsum": "eval_rouge"}

    @staticmethod
    def rouge(hypotheses, references):
        from ..evaluation.rouge import summary_rouge  # loads nltk

        return summary_rouge(hypotheses, references)


prunable_version_of("layerdrop_summarization", "layerdrop_summarization")
