"""``layerdrop_question_answering``: translation of questions with documents into answers, with ``--prune-layers``."""

from dataclasses import dataclass, field

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationTask

from ..evaluation import Metric
from .prunable import PrunableTask, prunable_version_of
from .rouge_validation import RougeConfig, RougeValidation


@dataclass
class LayerDropQuestionAnsweringConfig(RougeConfig):
    eval_rouge_args: str = field(
        default='{"beam": 5, "min_len": 150, "max_len_b": 200, "no_repeat_ngram_size": 3}',
        metadata={"help": "how to generate then, as JSON: beam, min_len, max_len_a, max_len_b, lenpen, …"},
    )


@register_task("layerdrop_question_answering", dataclass=LayerDropQuestionAnsweringConfig)
class LayerDropQuestionAnsweringTask(RougeValidation, PrunableTask, TranslationTask):
    """Long-form question answering, scored as ELI5 is: ``rouge1``, ``rouge2`` and ``rougeL``."""

    @property
    def rouge_metric(self):
        return Metric("rouge-eli5", remove_bpe=self.cfg.eval_rouge_remove_bpe)


prunable_version_of("layerdrop_question_answering", "layerdrop_question_answering")
