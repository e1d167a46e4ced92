"""Data Driven Pruning (Fan, Grave & Joulin 2020, section 3.2.2): what the training has learned."""

from ...base.errors import UserError
from ...plan import Unit
from ..orders import one_shot
from ..problem import Selection, SelectionProblem


def learned(problem: SelectionProblem) -> Selection:
    """Remove the layers of lowest learned importance, without a look at the data.

    An importance is a share of its stack: those of one stack add up to 1. So that stacks of different depth can be
    compared, a score is the importance times the depth.

    Raises:
        UserError: the checkpoint's model hasn't learned importances of a stack that is asked for.
    """
    importance = problem.options["importance"]
    missing = [stack for stack in problem.budget.stacks if stack not in importance]
    if missing:
        raise UserError(
            f"this model has no learned importances of its {missing[0]} layers; train it with "
            f"--{missing[0]}-layerdrop-learned, or take another --method"
        )
    scores: dict[Unit, float] = {
        (stack, number, None): share * len(shares)
        for stack, shares in importance.items()
        for number, share in enumerate(shares)
    }
    return Selection(tuple(one_shot(scores, problem.budget)))
