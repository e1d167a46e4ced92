"""The Plan: which sub-layers of each layer of each stack are kept. Plain data, checked when made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .errors import PlanError
from .heads import format_numbers as format_layers
from .heads import lost, sub_layer

STACKS = ("encoder", "decoder")
# What a layer may consist of, in the order in which it runs.
SUB_LAYERS = ("self_attn", "encoder_attn", "ffn")

# A layer is the tuple of its sub-layers' names, those without some of their heads as plan/heads.py says. A stack is the
# tuple of its layers, and a structure names a model's stacks.
Layer = tuple[str, ...]
Structure = Mapping[str, tuple[Layer, ...]]


def transformer_structure(depths: Mapping[str, int], encoder_attn: bool = True) -> dict[str, tuple[Layer, ...]]:
    """The structure of an ordinary Transformer.

    Args:
        depths: number of layers of each stack, by name; with a decoder alone, it is a language model's.
        encoder_attn: whether the decoder of a model with an encoder attends to it.
    """
    attends = encoder_attn and "encoder" in depths
    layers = {"encoder": ("self_attn", "ffn"), "decoder": SUB_LAYERS if attends else ("self_attn", "ffn")}
    return {stack: (layers[stack],) * depth for stack, depth in depths.items()}


@dataclass(frozen=True)
class Details:
    """What a structure doesn't tell of a model, and some plans need.

    Attributes:
        heads: number of attention heads of each stack.
        importance: learned importance of each layer, by stack, where the model has learned any.
    """

    heads: Mapping[str, int] = field(default_factory=dict)
    importance: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def matching(entry: str, entries: Iterable[str]) -> str | None:
    """What *entries* have of the sub-layer that *entry* is, with whatever heads."""
    return next((other for other in entries if sub_layer(other) == sub_layer(entry)), None)


@dataclass(frozen=True)
class StackPlan:
    """What is kept of one stack.

    Attributes:
        full: the layers of the full stack, each the tuple of its sub-layers.
        keep: for each layer of the full stack the sub-layers that are kept of it; none where the layer is dropped.

    Raises:
        PlanError: a layer keeps what it doesn't have, or no layer is kept.
    """

    full: tuple[Layer, ...]
    keep: tuple[Layer, ...]

    def __post_init__(self):
        if len(self.keep) != len(self.full):
            raise PlanError(f"a plan for {len(self.full)} layers must tell of each, not of {len(self.keep)}")
        for number, (full, keep) in enumerate(zip(self.full, self.keep)):
            found = [matching(name, keep) for name in full]
            try:
                if tuple(filter(None, found)) != keep:
                    raise PlanError("")
                for name, left in zip(full, found):
                    lost(name, left)
            except PlanError:
                raise PlanError(
                    f"layer {number} has {', '.join(full)}, of which it can't keep {', '.join(keep)}"
                ) from None
        if not any(self.keep):
            raise PlanError("a plan must keep at least one layer of each stack")

    @classmethod
    def whole(cls, full: tuple[Layer, ...]) -> "StackPlan":
        """The plan that keeps everything."""
        return cls(full, full)

    @classmethod
    def of_layers(cls, full: tuple[Layer, ...], layers: Iterable[int]) -> "StackPlan":
        """The plan that keeps whole layers, by their numbers."""
        layers = set(layers)
        return cls(full, tuple(layer if i in layers else () for i, layer in enumerate(full)))

    @property
    def depth(self) -> int:
        """Number of layers of the full stack."""
        return len(self.full)

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers, in the full stack, of the layers of which something is kept."""
        return tuple(number for number, keep in enumerate(self.keep) if keep)

    @property
    def pruned(self) -> tuple[Layer, ...]:
        """The layers of the pruned stack."""
        return tuple(keep for keep in self.keep if keep)

    @property
    def dropped_sublayers(self) -> tuple[tuple[int, str], ...]:
        """The sub-layers and heads that kept layers lose, each with its layer's number in the full stack.

        A head is told as ``self_attn.head2``.
        """
        return tuple(
            (number, gone)
            for number in self.layers
            for name in self.full[number]
            for gone in lost(name, matching(name, self.keep[number]))
        )

    def __str__(self) -> str:
        lost = "".join(f"{number}.{name}," for number, name in self.dropped_sublayers)
        layers = format_layers(self.layers) + (f" without {lost[:-1]}" if lost else "")
        return f"{len(self.layers)} of {self.depth} layers ({layers})"


@dataclass(frozen=True)
class Plan:
    """What is kept of a model: one :class:`StackPlan` for each of its stacks, by the names in :data:`STACKS`."""

    stacks: Mapping[str, StackPlan]

    @classmethod
    def whole(cls, structure: Structure) -> "Plan":
        """The plan that keeps everything."""
        return cls({stack: StackPlan.whole(layers) for stack, layers in structure.items()})

    @property
    def full(self) -> dict[str, tuple[Layer, ...]]:
        """Structure of the full model."""
        return {stack: part.full for stack, part in self.stacks.items()}

    @property
    def pruned(self) -> dict[str, tuple[Layer, ...]]:
        """Structure of the pruned model."""
        return {stack: part.pruned for stack, part in self.stacks.items()}

    @property
    def drops_sublayers(self) -> bool:
        """Whether a kept layer loses a sub-layer or a head."""
        return any(part.dropped_sublayers for part in self.stacks.values())

    def __str__(self) -> str:
        return ", ".join(f"{stack} {part}" for stack, part in self.stacks.items())
