"""Measures of what models give. ROUGE is in :mod:`.rouge`, which takes a while to import."""

from .bleu import Bleu, detokenised_bleu, tokenised_bleu
from .logs import GenerationLog, LanguageModelLog, LogError, read_eval_lm_log, read_generation_log
from .metrics import PERPLEXITY, TEXT_METRICS, Scores, text_scores
from .perplexity import Perplexity

__all__ = [
    "PERPLEXITY",
    "TEXT_METRICS",
    "Bleu",
    "GenerationLog",
    "LanguageModelLog",
    "LogError",
    "Perplexity",
    "Scores",
    "detokenised_bleu",
    "read_eval_lm_log",
    "read_generation_log",
    "text_scores",
    "tokenised_bleu",
]
