"""The parts of a stack: layers, their sub-layers and, of attentions, their heads."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .errors import PlanError

# What a layer may consist of, in the order in which it runs.
SUB_LAYERS = ("self_attn", "encoder_attn", "ffn")

# No more digits and ranges than any model needs, so that no text can exhaust the memory.
_RANGE = "[0-9]{1,4}(?:-[0-9]{1,4})?"
_TEXT = re.compile(rf"(\w+)(?:\.head({_RANGE}(?:,{_RANGE}){{0,199}})of([0-9]{{1,4}}))?", re.ASCII)


def format_numbers(numbers: Iterable[int]) -> str:
    """Ascending numbers as the grammar writes them, with ranges: ``(0, 1, 2, 5)`` is ``0-2,5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


@dataclass(frozen=True)
class SubLayer:
    """A sub-layer of a layer. An attention may have lost some of its heads.

    Heads keep their numbers: what is pruned again is still counted as in the full model. As text it is ``self_attn``,
    or ``self_attn.head0-1,3of4`` where it has three of four heads.

    Attributes:
        name: one of :data:`SUB_LAYERS`.
        heads: numbers of the heads that it has, ascending, where it lost some; else empty.
        total: number of heads before it lost any; 0 where it lost none.

    Raises:
        PlanError: there is no such sub-layer, or these are not some of its heads.
    """

    name: str
    heads: tuple[int, ...] = ()
    total: int = 0

    def __post_init__(self) -> None:
        in_order = list(self.heads) == sorted({*self.heads} & {*range(self.total)})
        lost_some = self.name != "ffn" and in_order and 0 < len(self.heads) < self.total
        if self.name not in SUB_LAYERS or not (lost_some or (self.heads, self.total) == ((), 0)):
            raise PlanError(f"there is no sub-layer {self}")

    def __str__(self) -> str:
        return self.name + (f".head{format_numbers(self.heads)}of{self.total}" if self.heads else "")

    @classmethod
    def parse(cls, text: str) -> "SubLayer":
        """The sub-layer whose text this is.

        Raises:
            PlanError: it is that of none.
        """
        match = _TEXT.fullmatch(text)
        if match:
            ranges = [run.partition("-") for run in (match[2] or "").split(",") if run]
            heads = (head for first, _, last in ranges for head in range(int(first), int(last or first) + 1))
            found = cls(match[1], tuple(heads), int(match[3] or 0))
            if str(found) == text:
                return found
        raise PlanError(f"'{text}' is no sub-layer; write for instance ffn or self_attn.head0-1,3of4")

    def heads_of(self, total: int) -> tuple[int, ...]:
        """Numbers of the heads that it has where the whole attention has *total*."""
        return self.heads or tuple(range(total))

    def with_heads(self, heads: Iterable[int], total: int) -> "SubLayer | None":
        """It with these *heads* of *total*; None where there are none."""
        heads = tuple(sorted(heads))
        if heads == tuple(range(total)):
            return SubLayer(self.name)
        return SubLayer(self.name, heads, total) if heads else None

    def without(self, keep: "SubLayer | None") -> "SubLayer | None":
        """What of it goes where *keep* stays; None where nothing goes.

        Raises:
            PlanError: *keep* isn't a part of it.
        """
        if keep is None or keep == self:
            return self if keep is None else None
        had = self.heads_of(keep.total)
        if keep.name != self.name or self.total not in (0, keep.total) or not set() < set(keep.heads) < set(had):
            raise PlanError(f"{keep} is no part of {self}")
        return self.with_heads(set(had) - set(keep.heads), keep.total)


class Layer(tuple[SubLayer, ...]):
    """The sub-layers of a layer, in the order in which they run; none where it is dropped."""

    __slots__ = ()

    @classmethod
    def of(cls, *texts: str) -> "Layer":
        """The layer whose sub-layers have these texts.

        Raises:
            PlanError: a text is that of none, or they are not in the order of :data:`SUB_LAYERS`, each once.
        """
        layer = cls(map(SubLayer.parse, texts))
        if layer.names != tuple(name for name in SUB_LAYERS if name in layer.names):
            raise PlanError(f"a layer has sub-layers in the order {', '.join(SUB_LAYERS)}, not {layer}")
        return layer

    def __str__(self) -> str:
        return ", ".join(self.texts)

    @property
    def texts(self) -> list[str]:
        """The text of each sub-layer."""
        return list(map(str, self))

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each sub-layer, whatever heads it has."""
        return tuple(sub_layer.name for sub_layer in self)

    def find(self, name: str | None) -> SubLayer | None:
        """Its sub-layer of this name; None where it has none."""
        return next((sub_layer for sub_layer in self if sub_layer.name == name), None)

    def without(self, keep: "Layer") -> "Layer":
        """What of it goes where *keep* stays.

        Raises:
            PlanError: *keep* isn't a part of it.
        """
        if keep.names != tuple(name for name in self.names if name in keep.names):
            raise PlanError(f"{keep} is no part of {self}")
        return Layer(filter(None, (sub_layer.without(keep.find(sub_layer.name)) for sub_layer in self)))


class Item(NamedTuple):
    """What the grammar names: a layer, a sub-layer of it, or a head of that, as in ``3.self_attn.head2``."""

    layer: int
    name: str | None = None
    head: int | None = None

    def __str__(self) -> str:
        return f"{self.layer}{self.part}"

    @property
    def part(self) -> str:
        """What it names of the layer, as text; empty where that is all."""
        return (f".{self.name}" if self.name else "") + ("" if self.head is None else f".head{self.head}")

    @property
    def kind(self) -> tuple[int, int]:
        """Where the grammar writes it: whole layers, then each kind of sub-layer, followed by its heads."""
        return (-1 if self.name is None else SUB_LAYERS.index(self.name)), (-1 if self.head is None else self.head)


def format_items(items: Iterable[Item]) -> str:
    """Items as the grammar writes them, layers of the same kind together: ``0-2,5.ffn``; one layer alone as ``3-3``."""
    items = list(items)
    if len(items) == 1 and items[0].name is None:
        return f"{items[0].layer}-{items[0].layer}"
    layers: dict[str, list[int]] = {}
    for item in sorted(items, key=lambda item: (item.kind, item.layer)):
        layers.setdefault(item.part, []).append(item.layer)
    return ",".join(run + part for part, numbers in layers.items() for run in format_numbers(numbers).split(","))
