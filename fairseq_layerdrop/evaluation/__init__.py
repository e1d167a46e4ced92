"""Measures of what models give. ROUGE is in :mod:`.rouge`, which takes a while to import."""

from .bleu import Bleu, detokenised_bleu, tokenised_bleu
from .logs import (
    GenerationLog,
    LanguageModelLog,
    LogError,
    ValidationLog,
    read_eval_lm_log,
    read_generation_log,
    read_validation_log,
)
from .metrics import MASKED_LM, PERPLEXITY, TEXT_METRICS, Scores, text_scores
from .perplexity import Perplexity

__all__ = [
    "MASKED_LM",
    "PERPLEXITY",
    "TEXT_METRICS",
    "Bleu",
    "GenerationLog",
    "LanguageModelLog",
    "LogError",
    "Perplexity",
    "Scores",
    "ValidationLog",
    "detokenised_bleu",
    "read_eval_lm_log",
    "read_generation_log",
    "read_validation_log",
    "text_scores",
    "tokenised_bleu",
]
