"""The Plan: which layers of each stack are kept. Plain data, checked when made."""

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import PlanError

STACKS = ("encoder", "decoder")


def format_layers(layers: tuple[int, ...]) -> str:
    """Ascending layer numbers as the grammar writes them, with ranges: ``(0, 1, 2, 5)`` is ``0-2,5``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


@dataclass(frozen=True)
class StackPlan:
    """What is kept of one stack.

    Attributes:
        depth: number of layers of the full stack.
        kept: numbers of the kept layers in the full stack, ascending, at least one.

    Raises:
        PlanError: the kept layers aren't a non-empty, ascending part of ``0 .. depth-1``.
    """

    depth: int
    kept: tuple[int, ...]

    def __post_init__(self):
        if not self.kept:
            raise PlanError("a plan must keep at least one layer of each stack")
        if list(self.kept) != sorted(set(self.kept)) or self.kept[0] < 0 or self.kept[-1] >= self.depth:
            raise PlanError(
                f"kept layers must be ascending numbers in 0-{self.depth - 1} without repeats, not {self.kept}"
            )

    @classmethod
    def whole(cls, depth: int) -> "StackPlan":
        """The plan that keeps every layer."""
        return cls(depth, tuple(range(depth)))

    @property
    def dropped(self) -> tuple[int, ...]:
        return tuple(i for i in range(self.depth) if i not in self.kept)

    def __str__(self) -> str:
        return f"{len(self.kept)} of {self.depth} layers ({format_layers(self.kept)})"


@dataclass(frozen=True)
class Plan:
    """What is kept of a model: one :class:`StackPlan` for each of its stacks, by the names in :data:`STACKS`."""

    stacks: Mapping[str, StackPlan]

    @property
    def full_depths(self) -> dict[str, int]:
        return {stack: part.depth for stack, part in self.stacks.items()}

    @property
    def kept_depths(self) -> dict[str, int]:
        return {stack: len(part.kept) for stack, part in self.stacks.items()}

    def __str__(self) -> str:
        return ", ".join(f"{stack} {part}" for stack, part in self.stacks.items())
