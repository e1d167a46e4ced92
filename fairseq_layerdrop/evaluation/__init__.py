"""Measures of what models give."""

from .bleu import Bleu, detokenised_bleu
from .generation_log import GenerationLog, LogError, read_generation_log

__all__ = ["Bleu", "GenerationLog", "LogError", "detokenised_bleu", "read_generation_log"]
