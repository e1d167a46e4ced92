"""The run of layers with the smallest angular distance (Gromov et al. 2024, 2403.17887, section 3)."""

import math

import torch

from ...base.errors import UserError
from ...plan import Unit
from ..hidden_states import cosine, is_token, last_only
from ..problem import Selection, SelectionProblem


def distances(problem: SelectionProblem, stack: str, count: int) -> dict[int, float]:
    """For each first layer of a run of *count* layers the mean of arccos(cosine) / pi between its input and output.

    The mean is over the sentences' last tokens.
    """
    units = problem.engine.units(sublayers=False)
    depth = sum(unit[0] == stack for unit in units)
    sums, sentences = torch.zeros(depth - count + 1, dtype=torch.float64), 0
    for states, sample in problem.engine.hidden(units, stack):
        where = last_only(is_token(stack, sample, problem.pad)).T
        sentences += int(where.sum())
        for first in range(len(sums)):
            angles = torch.arccos(cosine(states[first][where], states[first + count][where]).clamp(-1, 1)) / math.pi
            sums[first] += angles.sum().cpu()
    return dict(enumerate((sums / sentences).tolist()))


def angular(problem: SelectionProblem) -> Selection:
    """Remove, from each stack that is to shrink, the run of neighbouring layers with the smallest angular distance.

    The runs for different numbers of layers needn't lie in each other, so a number to keep must be given for each
    stack. Of equal runs the later one goes. Layers that are protected stay.
    """
    budget = problem.budget
    if not budget.keep:
        raise UserError("angular needs the number of layers to keep of each stack, as in --keep decoder=6")
    removals: list[tuple[Unit, float | None]] = []
    for stack, keep in budget.keep.items():
        depth = sum(unit[0] == stack for unit in budget.units)
        count = depth - keep
        if count == 0:
            continue
        free = {
            first: distance
            for first, distance in distances(problem, stack, count).items()
            if not any((stack, number, None) in budget.protected for number in range(first, first + count))
        }
        if not free or not all(map(math.isfinite, free.values())):
            raise UserError(
                f"no run of {count} layers of the {stack} is free of protected ones"
                if not free
                else "a distance is not a number; the model or the data is broken"
            )
        first = min(free, key=lambda first: (free[first], -first))
        removals += [((stack, number, None), free[first]) for number in range(first, first + count)]
    return Selection(tuple(removals), nested=False)
