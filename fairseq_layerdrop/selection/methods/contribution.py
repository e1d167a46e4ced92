"""Contribution-based dropping (Sajjad et al. 2020, 2004.03844, section 3.5)."""

from ..hidden_states import cosine, first_only, statistics
from ..orders import one_shot
from ..problem import Selection, SelectionProblem


def contribution(problem: SelectionProblem) -> Selection:
    """Remove the layers whose output is most like their input: highest mean cosine first.

    The cosine is taken at the first token of a sentence in an encoder, where BERT-like models have [CLS], and over all
    tokens in a decoder. With the option ``threshold``, the layers whose cosine is above it go, however many these are.
    A removal's score is minus its cosine.
    """
    means = statistics(
        problem.engine, False, problem.pad, cosine,
        lambda stack, mask: first_only(mask) if stack == "encoder" else mask,
    )  # fmt: skip
    removals = one_shot({unit: -mean for unit, mean in means.items()}, problem.budget)
    threshold = problem.options.get("threshold")
    if threshold is None:
        return Selection(tuple(removals))
    return Selection(tuple((unit, score) for unit, score in removals if -score > threshold), nested=False)
