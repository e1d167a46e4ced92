"""Measures of what models give. ROUGE is in :mod:`.rouge`, which takes a while to import."""

from .bleu import Bleu, detokenised_bleu, tokenised_bleu
from .generation_log import GenerationLog, LogError, read_generation_log
from .perplexity import Perplexity, read_eval_lm_log

__all__ = [
    "Bleu",
    "GenerationLog",
    "LogError",
    "Perplexity",
    "detokenised_bleu",
    "read_eval_lm_log",
    "read_generation_log",
    "tokenised_bleu",
]
