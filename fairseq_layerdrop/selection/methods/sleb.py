"""SLEB (2402.09025, algorithm 1)."""

from ..orders import greedy
from ..problem import Selection, SelectionProblem


def sleb(problem: SelectionProblem) -> Selection:
    """Remove layer by layer, each time the one without which the loss is lowest.

    The first and the last layer are the barriers by default: they are protected.
    """
    removals = greedy(problem.scorer("loss"), problem.budget)
    return Selection(tuple(removals), removals[-1][1] if removals else None)
