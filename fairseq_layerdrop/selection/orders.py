"""From scores to orders of removal: all at once, or one by one with new scores after each."""

import math
from collections.abc import Callable, Mapping, Sequence

from ..base.errors import UserError
from ..plan import Unit, unit_name
from ..running.scorer import Scorer
from .budget import Budget

Removals = list[tuple[Unit, float]]


def one_shot(scores: Mapping[Unit, float], budget: Budget) -> Removals:
    """Remove the units with the lowest scores, lowest first; of equal ones the later in the model.

    Raises:
        UserError: a score isn't a number.
    """
    for unit, score in scores.items():
        if not math.isfinite(score):
            raise UserError(f"the score of {unit_name(unit)} is {score}; the model or the data is broken")
    place = {unit: number for number, unit in enumerate(budget.units)}
    removals: Removals = []
    while candidates := budget.removable([unit for unit, _ in removals]):
        unit = min(candidates, key=lambda unit: (scores[unit], -place[unit]))
        removals.append((unit, scores[unit]))
    return removals


def greedy(
    scorer: Scorer, budget: Budget, allowed: Callable[[Sequence[Unit]], Sequence[Unit]] | None = None
) -> Removals:
    """Remove one unit after the other, each time the one without which the score is lowest.

    Of equal ones the later in the model goes.

    Args:
        scorer: scores what is left.
        budget: what is asked for.
        allowed: a function from the units dropped so far to those that may go next; by default all of the budget.
    """
    place = {unit: number for number, unit in enumerate(budget.units)}
    removals: Removals = []
    while candidates := (allowed or budget.removable)(dropped := [unit for unit, _ in removals]):
        scores = scorer.scores([[*dropped, unit] for unit in candidates])
        score, _, unit = min(zip(scores, (-place[unit] for unit in candidates), candidates))
        removals.append((unit, score))
    return removals
