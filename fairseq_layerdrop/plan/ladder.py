"""Ladders: nested orders of removals, which hold a plan for every size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import PlanError
from .parts import Layer
from .plan import STACKS, Plan, StackPlan, Structure

# What a method removes: a layer of a stack, or with a name a sub-layer of it.
Unit = tuple[str, int, str | None]


def unit_name(unit: Unit) -> str:
    """``decoder.3`` or ``decoder.3.ffn``."""
    return ".".join(str(part) for part in unit if part is not None)


def units_of(structure: Structure, sublayers: bool) -> tuple[Unit, ...]:
    """The layers of a model, or its sub-layers, in the order in which they run."""
    return tuple(
        (stack, number, name)
        for stack in STACKS
        for number, layer in enumerate(structure.get(stack, ()))
        for name in (layer.names if sublayers else (None,))
    )


def plan_without(structure: Structure, dropped: Iterable[Unit]) -> Plan:
    """The plan that keeps everything but *dropped*.

    Raises:
        PlanError: a stack would keep nothing.
    """
    dropped = set(dropped)

    def left(stack: str, number: int, layer: Layer) -> Layer:
        return Layer(part for part in layer if not dropped & {(stack, number, None), (stack, number, part.name)})

    return Plan(
        {
            stack: StackPlan(layers, tuple(left(stack, number, layer) for number, layer in enumerate(layers)))
            for stack, layers in structure.items()
        }
    )


@dataclass(frozen=True)
class Ladder:
    """An order in which to remove layers, or sub-layers; after each removal there is a plan.

    Attributes:
        full: structure of the full model.
        removals: what is removed, first to last; all are layers or all are sub-layers.
        scores: what the method said when it removed each.
        origin: where the ladder comes from.
        path: the file that it was read from.

    Raises:
        PlanError: a removal is not of the model, occurs twice, mixes layers and sub-layers, or empties a stack.
    """

    full: Structure
    removals: tuple[Unit, ...]
    scores: tuple[float | None, ...]
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False)
    path: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.removals or len(self.scores) != len(self.removals):
            raise PlanError("a ladder must have removals, each with its score")
        if len(set(self.removals)) != len(self.removals) or not set(self.removals) <= set(self.units):
            raise PlanError("a ladder must remove each layer, or each sub-layer, of its model at most once")
        plan_without(self.full, self.removals)

    @property
    def sublayers(self) -> bool:
        """Whether sub-layers are removed, and not layers."""
        return self.removals[0][2] is not None

    @property
    def units(self) -> tuple[Unit, ...]:
        """What of the model can be removed."""
        return units_of(self.full, self.sublayers)

    def removed(self, verb: str, count: int, stack: str | None = None) -> Sequence[Unit]:
        """The removals that leave, or that are, *count* units.

        Args:
            verb: ``keep`` counts what is left of the stacks from which the ladder removes anything, or of *stack*;
                ``drop`` counts removals.
            count: number of layers, or of sub-layers where the ladder removes these.
            stack: look at removals from this stack alone.

        Raises:
            PlanError: the ladder doesn't go so far.
        """
        removals = [unit for unit in self.removals if stack in (None, unit[0])]
        stacks = {unit[0] for unit in removals}
        total = sum(unit[0] in stacks for unit in self.units)
        wanted = count if verb == "drop" else total - count
        if not 0 <= wanted <= len(removals):
            what = "sub-layers" if self.sublayers else "layers"
            least, most = (1, len(removals)) if verb == "drop" else (total - len(removals), total)
            raise PlanError(
                f"the ladder {self.path} can {verb} {least} to {most} {what}{f' of the {stack}' if stack else ''}"
                if removals
                else f"the ladder {self.path} removes nothing of the {stack}"
            )
        return removals[:wanted]
