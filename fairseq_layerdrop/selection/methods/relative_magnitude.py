"""Relative magnitude (a baseline of ShortGPT, 2403.03853, section 3)."""

from ..hidden_states import statistics
from ..orders import one_shot
from ..problem import Selection, SelectionProblem


def _magnitude(before, after):
    return (after.double() - before.double()).norm(dim=-1) / after.double().norm(dim=-1)


def relative_magnitude(problem: SelectionProblem) -> Selection:
    """Remove the layers with the lowest ||f(x)|| / ||x + f(x)||, a mean over all tokens; one shot."""
    return Selection(tuple(one_shot(statistics(problem.engine, False, problem.pad, _magnitude), problem.budget)))
