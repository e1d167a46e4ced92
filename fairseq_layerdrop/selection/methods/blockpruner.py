"""BlockPruner (2406.10594, algorithm 1)."""

from ..orders import greedy
from ..problem import Selection, SelectionProblem


def blockpruner(problem: SelectionProblem) -> Selection:
    """Remove sub-layer by sub-layer, each time the one without which perplexity is lowest.

    Perplexity is two to the power of the loss in bits, so the loss gives the same order; it is the score.
    """
    removals = greedy(problem.scorer("loss"), problem.budget)
    return Selection(tuple(removals), removals[-1][1] if removals else None)
