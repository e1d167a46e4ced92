"""The Plan: which sub-layers of each layer of each stack are kept. Plain data, checked when made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .errors import PlanError
from .parts import Item, Layer, format_numbers

STACKS = ("encoder", "decoder")

# A stack is the tuple of its layers, and a structure names a model's stacks.
Structure = Mapping[str, tuple[Layer, ...]]


def transformer_structure(depths: Mapping[str, int], encoder_attn: bool = True) -> dict[str, tuple[Layer, ...]]:
    """The structure of an ordinary Transformer.

    Args:
        depths: number of layers of each stack, by name; with a decoder alone, it is a language model's.
        encoder_attn: whether the decoder of a model with an encoder attends to it.
    """
    alone, attends = Layer.of("self_attn", "ffn"), Layer.of("self_attn", "encoder_attn", "ffn")
    layers = {"encoder": alone, "decoder": attends if encoder_attn and "encoder" in depths else alone}
    return {stack: (layers[stack],) * depth for stack, depth in depths.items()}


def check_structure(made_for: Structure, structure: Structure, path: str) -> None:
    """Check that a file that was made for a model *made_for* is used for one of that structure.

    Raises:
        PlanError: it isn't.
    """
    for stack in STACKS:
        depth, others = len(made_for.get(stack, ())), len(structure.get(stack, ()))
        if depth != others:
            raise PlanError(f"{path} is a plan for {depth} {stack} layers, and this model has {others}")
    for stack, full in made_for.items():
        for number, (planned, has) in enumerate(zip(full, structure[stack])):
            if planned != has:
                raise PlanError(f"{path} is for a model whose {stack} layer {number} has {planned}; here it has {has}")


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model that some plans need beside its structure: head counts and learned importances.

    Attributes:
        heads: number of attention heads of each stack.
        importance: learned importance of each layer, by stack, where the model has learned any.
    """

    heads: Mapping[str, int] = field(default_factory=dict)
    importance: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


NO_FACTS = ModelFacts()


@dataclass(frozen=True)
class StackPlan:
    """What is kept of one stack.

    Attributes:
        full: the layers of the full stack.
        keep: for each layer of the full stack what is kept of it; nothing where the layer is dropped.

    Raises:
        PlanError: a layer keeps what it doesn't have, or no layer is kept.
    """

    full: tuple[Layer, ...]
    keep: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if len(self.keep) != len(self.full):
            raise PlanError(f"a plan for {len(self.full)} layers must tell of each, not of {len(self.keep)}")
        for number, (full, keep) in enumerate(zip(self.full, self.keep)):
            try:
                full.without(keep)
            except PlanError:
                raise PlanError(f"layer {number} has {full}, of which it can't keep {keep}") from None
        if not any(self.keep):
            raise PlanError("a plan must keep at least one layer of each stack")

    @classmethod
    def of_layers(cls, full: tuple[Layer, ...], layers: Iterable[int]) -> "StackPlan":
        """The plan that keeps whole layers, by their numbers."""
        layers = set(layers)
        return cls(full, tuple(layer if i in layers else Layer() for i, layer in enumerate(full)))

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
    def dropped_sublayers(self) -> tuple[Item, ...]:
        """The sub-layers and heads that kept layers lose, numbered as in the full stack."""
        return tuple(
            Item(number, gone.name, head)
            for number in self.layers
            for gone in self.full[number].without(self.keep[number])
            for head in (gone.heads if self.keep[number].find(gone.name) else (None,))
        )

    def __str__(self) -> str:
        lost = ",".join(map(str, self.dropped_sublayers))
        layers = format_numbers(self.layers) + (f" without {lost}" if lost else "")
        return f"{len(self.layers)} of {self.depth} layers ({layers})"


@dataclass(frozen=True)
class Plan:
    """What is kept of a model: one :class:`StackPlan` for each of its stacks, by the names in :data:`STACKS`."""

    stacks: Mapping[str, StackPlan]

    @classmethod
    def whole(cls, structure: Structure) -> "Plan":
        """The plan that keeps everything."""
        return cls({stack: StackPlan(layers, layers) for stack, layers in structure.items()})

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
