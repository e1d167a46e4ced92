"""Measures of what models give. ROUGE is in :mod:`.rouge`, which takes a while to import."""

from .bleu import Bleu, detokenised_bleu, tokenised_bleu
from .logs import (
    GenerationLog,
    LanguageModelLog,
    LogError,
    Pruning,
    ValidationLog,
    read_eval_lm_log,
    read_generation_log,
    read_validation_log,
)
from .metrics import (
    MASKED_LM,
    PERPLEXITY,
    ROUGE_TOKENIZERS,
    TEXT_METRICS,
    Metric,
    Scores,
    add_text_arguments,
    add_word_arguments,
    metric_of,
)
from .perplexity import Perplexity
from .texts import check_joinable, joined

__all__ = [
    "MASKED_LM",
    "PERPLEXITY",
    "ROUGE_TOKENIZERS",
    "TEXT_METRICS",
    "Bleu",
    "GenerationLog",
    "LanguageModelLog",
    "LogError",
    "Metric",
    "Perplexity",
    "Pruning",
    "Scores",
    "ValidationLog",
    "add_text_arguments",
    "add_word_arguments",
    "check_joinable",
    "detokenised_bleu",
    "joined",
    "metric_of",
    "read_eval_lm_log",
    "read_generation_log",
    "read_validation_log",
    "tokenised_bleu",
]
