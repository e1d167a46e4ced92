"""Block Influence (ShortGPT, 2403.03853, equation 1)."""

from ..hidden_states import cosine, statistics
from ..orders import one_shot
from ..problem import Selection, SelectionProblem


def block_influence(problem: SelectionProblem) -> Selection:
    """Remove the layers with the lowest 1 - cosine between input and output, a mean over all tokens; one shot."""
    means = statistics(problem.engine, False, problem.pad, lambda before, after: 1 - cosine(before, after))
    return Selection(tuple(one_shot(means, problem.budget)))
