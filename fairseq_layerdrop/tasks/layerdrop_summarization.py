"""``layerdrop_summarization``: translation of articles into summaries, with ``--prune-layers`` and ``--eval-rouge``."""

from dataclasses import dataclass, field
from typing import ClassVar, Optional

from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationTask

from ..evaluation import ROUGE_TOKENIZERS, Metric
from .prunable import PrunableTask, prunable_version_of
from .rouge_validation import RougeConfig, RougeValidation


@dataclass
class LayerDropSummarizationConfig(RougeConfig):
    eval_rouge_tokenizer: Optional[ChoiceEnum(ROUGE_TOKENIZERS)] = field(  # type: ignore[valid-type]
        default=None,
        metadata={"help": "ROUGE's words: english, of a to z, with stems (the default), or unicode, of any script"},
    )


@register_task("layerdrop_summarization", dataclass=LayerDropSummarizationConfig)
class LayerDropSummarizationTask(RougeValidation, PrunableTask, TranslationTask):
    """Summarization, scored as CNN/DailyMail is: ``rouge1``, ``rouge2``, ``rougeL`` and ``rougeLsum``."""

    metric_settings: ClassVar[dict[str, str]] = {"rougeLsum": "eval_rouge"}

    @property
    def rouge_metric(self):
        return Metric("rouge", tokenizer=self.cfg.eval_rouge_tokenizer, remove_bpe=self.cfg.eval_rouge_remove_bpe)


prunable_version_of("layerdrop_summarization", "layerdrop_summarization")
