"""Choosing what to keep by looking at data."""

from .budget import Budget, protected_ends
from .engine import Engine
from .generation import Generation
from .measures import DISTANCES, Distance, loss, tokens
from .methods import METHODS
from .question import Answer, Question
from .scoring import Processes, ScoreLog, Scorer

__all__ = [
    "DISTANCES",
    "METHODS",
    "Answer",
    "Budget",
    "Distance",
    "Engine",
    "Generation",
    "Processes",
    "Question",
    "ScoreLog",
    "Scorer",
    "loss",
    "protected_ends",
    "tokens",
]
