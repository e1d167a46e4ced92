"""Similarity of sub-layers ("What Matters in Transformers?", 2406.15786, equation 1)."""

from ..hidden_states import cosine, statistics
from ..orders import one_shot
from ..problem import Selection, SelectionProblem


def similarity(problem: SelectionProblem) -> Selection:
    """Remove the attention and feed-forward sub-layers with the lowest 1 - cosine of input and output; one shot.

    A sub-layer comes with its norm and its residual; scores of all kinds are compared with each other.
    """
    means = statistics(problem.engine, True, problem.pad, lambda before, after: 1 - cosine(before, after))
    return Selection(tuple(one_shot(means, problem.budget)))
