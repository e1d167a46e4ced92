"""Block Influence (ShortGPT, 2403.03853, equation 1)."""

from ..hidden_states import cosine, statistics
from ..orders import one_shot
from ..question import Answer, Question


def block_influence(question: Question) -> Answer:
    """Remove the layers with the lowest 1 - cosine between input and output, a mean over all tokens; one shot."""
    means = statistics(question.engine, False, question.pad, lambda before, after: 1 - cosine(before, after))
    return Answer(tuple(one_shot(means, question.budget)))
