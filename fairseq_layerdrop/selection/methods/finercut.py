"""FinerCut (2405.18218, algorithm 1 and its official code)."""

from ...base.errors import UserError
from ...plan import Unit
from ..budget import Budget
from ..orders import greedy
from ..problem import Selection, SelectionProblem


def protected_share(budget: Budget, share: float) -> tuple[frozenset[Unit], int]:
    """The sub-layers of the first layers, and after how many removals they may go too, as in the official code.

    Of L layers in a stack the first int(L * share) + 1 are protected, until int(U * share) + 1 of the U sub-layers
    have been removed.
    """
    if share == 0:
        return frozenset(), 0
    depth = {unit[0]: 0 for unit in budget.units}
    for stack, number, _ in budget.units:
        depth[stack] = max(depth[stack], number + 1)
    first = frozenset(unit for unit in budget.units if unit[1] < int(depth[unit[0]] * share) + 1)
    in_reach = sum(unit[0] in budget.stacks for unit in budget.units)
    return first, int(in_reach * share) + 1


def finercut(problem: SelectionProblem) -> Selection:
    """Remove sub-layer by sub-layer, each time the one that changes the model's output least.

    Outputs are compared with those of the full model, always, by the metric: ``js`` (the textbook's Jensen-Shannon
    divergence, the default), ``js-reversed`` (what the official code computes), ``kl``, ``angular`` or ``norm``. The
    option ``protect_share`` keeps the first layers back for a while (see :func:`protected_share`); once nothing else
    is left, they may go.
    """
    share = problem.options.get("protect_share", 0.4)
    if not 0 <= share < 1:
        raise UserError(f"--protect-share must be in [0, 1), not {share}")
    protected, until = protected_share(problem.budget, share)

    def allowed(dropped):
        candidates = problem.budget.removable(dropped)
        if len(dropped) < until:
            candidates = [unit for unit in candidates if unit not in protected] or candidates
        return candidates

    removals = greedy(problem.scorer(problem.metric or "js"), problem.budget, allowed)
    return Selection(tuple(removals), removals[-1][1] if removals else None)
