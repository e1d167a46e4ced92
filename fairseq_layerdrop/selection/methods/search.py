"""Search on Valid (Fan, Grave & Joulin 2020, section 3.2.2)."""

import itertools
import math

from ...base.errors import UserError
from ...plan import Unit
from ..budget import Budget
from ..problem import Selection, SelectionProblem


def _ways(budget: Budget) -> list[dict[str, int]]:
    """Numbers of units to drop of each stack, all that the budget allows."""
    count = {stack: sum(unit[0] == stack for unit in budget.units) for stack in budget.stacks}
    if budget.total is None:
        return [{stack: count[stack] - budget.keep.get(stack, count[stack]) for stack in budget.stacks}]
    drops = sum(count.values()) - budget.total
    ways = itertools.product(*(range(count[stack]) for stack in budget.stacks))
    return [dict(zip(budget.stacks, way)) for way in ways if sum(way) == drops]


def number_of_plans(budget: Budget) -> int:
    """How many plans meet the budget."""
    free = {
        stack: sum(unit[0] == stack and unit not in budget.protected for unit in budget.units)
        for stack in budget.stacks
    }
    return sum(math.prod(math.comb(free[stack], drop) for stack, drop in way.items()) for way in _ways(budget))


def all_plans(budget: Budget) -> list[tuple[Unit, ...]]:
    """What to drop, for each plan that meets the budget."""
    free = {
        stack: [unit for unit in budget.units if unit[0] == stack and unit not in budget.protected]
        for stack in budget.stacks
    }
    return [
        tuple(itertools.chain.from_iterable(choice))
        for way in _ways(budget)
        for choice in itertools.product(*(itertools.combinations(free[stack], drop) for stack, drop in way.items()))
    ]


def search(problem: SelectionProblem) -> Selection:
    """Score the plans that keep the wanted number of units, and take the best.

    All of them where they are at most ``max_plans``; otherwise a beam search removes one unit at a time from each of
    the ``beam_width`` best so far. The metric is ``loss``, ``bleu`` or ``rouge`` (the latter two by generating, where a
    score is minus the metric). Of equal plans the one that drops later units is taken.

    Raises:
        UserError: no number of units is given.
    """
    budget = problem.budget
    if budget.is_ladder:
        raise UserError("search makes no ladder: say how much to keep, as in --keep decoder=3 or --keep-total 9")
    scorer = problem.scorer(problem.metric or "loss")
    place = {unit: number for number, unit in enumerate(budget.units)}

    def best(plans, count):
        """The best plans with their scores."""
        scored = zip(scorer.scores(plans), plans)
        return sorted(scored, key=lambda one: (one[0], [-place[unit] for unit in one[1]]))[:count]

    if number_of_plans(budget) <= problem.options.get("max_plans", 5000):
        [(score, dropped)] = best(all_plans(budget), 1)
    else:
        beam: list[tuple[float, tuple[Unit, ...]]] = [(math.nan, ())]
        while not budget.is_met(beam[0][1]):
            plans = {
                tuple(sorted((*dropped, unit), key=place.__getitem__))
                for _, dropped in beam
                for unit in budget.removable(dropped)
            }
            beam = best(sorted(plans, key=lambda plan: [place[unit] for unit in plan]), problem.options["beam_width"])
        score, dropped = beam[0]
    return Selection(tuple((unit, None) for unit in dropped), score, nested=False)
