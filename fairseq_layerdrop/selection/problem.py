"""What a selection method is given, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..plan import Ladder, Plan, Unit, plan_without
from ..running.engine import Engine
from ..running.scorer import Scorer
from .budget import Budget


@dataclass(frozen=True)
class SelectionProblem:
    """A model with data, and how much to keep of it.

    Attributes:
        engine: runs the model on the data.
        budget: what is asked for.
        pad: index of the padding symbol.
        criterion: fairseq's criterion with which the model was trained.
        scorer: a function from the name of a metric to what scores plans by it.
        metric: name of the metric, for methods that leave the choice.
        options: what else the method knows, by name.
    """

    engine: Engine
    budget: Budget
    pad: int
    criterion: Callable
    scorer: Callable[[str], Scorer]
    metric: str | None = None
    options: dict = field(default_factory=dict)

    @property
    def sublayers(self) -> bool:
        return self.budget.units[0][2] is not None


@dataclass(frozen=True)
class Selection:
    """What a method chose.

    Attributes:
        removals: what to remove, in order where the method has one, each with its score (None: it has none).
        score: of the plan after all removals; None where the method scores units alone.
        nested: whether each beginning of the removals is the method's answer for that size.
    """

    removals: tuple[tuple[Unit, float | None], ...]
    score: float | None = None
    nested: bool = True

    def plan(self, full) -> Plan:
        return plan_without(full, [unit for unit, _ in self.removals])

    def ladder(self, full, origin) -> Ladder:
        units, scores = zip(*self.removals)
        return Ladder(full, units, scores, origin)
