"""How much is to be kept, and what may be removed at all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..base.errors import UserError
from ..plan import Unit


@dataclass(frozen=True)
class Budget:
    """What a method is asked for.

    Attributes:
        units: layers, or sub-layers, of the model in running order.
        stacks: the stacks from which units may be removed.
        keep: for some of these stacks the number of units to keep.
        total: number of units to keep of all these stacks together; None where *keep* says it, or for a whole ladder.
        protected: units that are never removed.

    Raises:
        UserError: a number can't be met.
    """

    units: tuple[Unit, ...]
    stacks: tuple[str, ...]
    keep: Mapping[str, int]
    total: int | None = None
    protected: frozenset[Unit] = frozenset()

    def __post_init__(self):
        known = {unit[0] for unit in self.units}
        for stack in (*self.stacks, *self.keep):
            if stack not in known:
                raise UserError(f"this model has no {stack}, only {' and '.join(sorted(known, reverse=True))}")
        for stack, count in self.keep.items():
            least, most = self._least(stack), self._count(stack)
            if not least <= count <= most:
                why = " (the others are protected)" if least > 1 else ""
                raise UserError(f"can keep {least} to {most} {self.what} of the {stack}{why}, not {count}")
        if self.total is not None:
            least, most = (sum(bound(stack) for stack in self.stacks) for bound in (self._least, self._count))
            if not least <= self.total <= most:
                raise UserError(f"can keep {least} to {most} {self.what} in total, not {self.total}")

    @property
    def what(self) -> str:
        return "layers" if self.units[0][2] is None else "sub-layers"

    @property
    def is_ladder(self) -> bool:
        """Whether no number is asked for."""
        return not self.keep and self.total is None

    def _count(self, stack: str) -> int:
        return sum(unit[0] == stack for unit in self.units)

    def _least(self, stack: str) -> int:
        return max(1, sum(unit[0] == stack for unit in self.protected))

    def removable(self, dropped: Iterable[Unit]) -> list[Unit]:
        """The units of which one more may be removed after *dropped*; none when enough is removed."""
        dropped = set(dropped)
        left = {stack: sum(unit[0] == stack and unit not in dropped for unit in self.units) for stack in self.stacks}
        if self.total is not None and sum(left.values()) <= self.total:
            return []
        open_ = {stack for stack in self.stacks if left[stack] > max(1, self.keep.get(stack, 1))}
        return [unit for unit in self.units if unit[0] in open_ and unit not in dropped and unit not in self.protected]

    def is_met(self, dropped: Sequence[Unit]) -> bool:
        """Whether *dropped* leaves what was asked for, or as little as can be."""
        return not self.removable(dropped)


def protected_ends(units: Sequence[Unit], first: int, last: int) -> frozenset[Unit]:
    """The units of the *first* and the *last* layers of each stack."""
    depth = {stack: 1 + max(number for name, number, _ in units if name == stack) for stack, *_ in units}
    return frozenset(unit for unit in units if unit[1] < first or unit[1] >= depth[unit[0]] - last)
