"""SLEB (2402.09025, algorithm 1)."""

from ..orders import greedy
from ..question import Answer, Question


def sleb(question: Question) -> Answer:
    """Remove layer by layer, each time the one without which the loss is lowest.

    The first and the last layer are the barriers by default: they are protected.
    """
    removals = greedy(question.scorer("loss"), question.budget)
    return Answer(tuple(removals), removals[-1][1] if removals else None)
