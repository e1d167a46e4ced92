"""The settings of one stack in a model's configuration."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar, overload

from ..plan import STACKS

T = TypeVar("T")

# The kinds of groups that a training drops, as settings name them: layers, sub-layers, heads.
DROPS = ("layerdrop", "sublayerdrop", "headdrop")


class _Setting(Generic[T]):
    """An attribute that stands for a setting of the stack, with the value it has where none is given."""

    def __init__(self, default: T):
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, view: None, owner: type) -> "_Setting[T]": ...
    @overload
    def __get__(self, view: "StackSettings", owner: type) -> T: ...
    def __get__(self, view, owner):
        if view is None:
            return self
        value = getattr(view.cfg, f"{view.stack}_{self.name}", None)
        return self.default if value is None else value

    def __set__(self, view: "StackSettings", value: T) -> None:
        setattr(view.cfg, f"{view.stack}_{self.name}", value)


class StackSettings:
    """One stack's settings in a model's configuration: read, set and taken out without the stack's name before them.

    Configurations of stock models, of older versions and of users' architectures lack some; these have their defaults.

    Attributes:
        cfg: the configuration: a namespace, ``DictConfig`` or dataclass.
        stack: ``encoder`` or ``decoder``.
        layers: its depth.
        layers_to_keep: fairseq's own pruning.
        share_layers: chunks of adjacent layers that share weights, as ``2`` or ``2,1,2``.
    """

    layers = _Setting[Any](None)  # a text in models that aren't Transformers
    layers_to_keep = _Setting[str | None](None)
    attention_heads = _Setting[int | None](None)
    layerdrop = _Setting[float](0.0)
    sublayerdrop = _Setting[float](0.0)
    headdrop = _Setting[float](0.0)
    layerdrop_rates = _Setting[str | None](None)
    sublayerdrop_rates = _Setting[str | None](None)
    headdrop_rates = _Setting[str | None](None)
    layerdrop_target_depth = _Setting[int | None](None)
    layerdrop_learned = _Setting[bool](False)
    share_layers = _Setting[str | None](None)
    xformers_att_config = _Setting[str | None](None)

    def __init__(self, cfg, stack: str):
        self.cfg = cfg
        self.stack = stack

    def rate(self, kind: str) -> float:
        """The one rate of groups of a kind of :data:`DROPS`."""
        return getattr(self, kind)

    def rates(self, kind: str) -> str | None:
        """The rate of each layer's groups of a kind, as ``0,0.1,0.2``; None where they aren't listed."""
        return getattr(self, f"{kind}_rates")

    def has_any(self, names: Iterable[str]) -> bool:
        """Whether the configuration has settings of these names for the stack."""
        return any(hasattr(self.cfg, f"{self.stack}_{name}") for name in names)

    @property
    def drops(self) -> bool:
        """Whether the training drops groups of it."""
        given = (bool(self.rate(kind) or self.rates(kind)) for kind in DROPS)
        return any(given) or self.layerdrop_target_depth is not None or self.layerdrop_learned


def all_stack_settings(cfg) -> list[StackSettings]:
    """The settings of each stack that a model may have."""
    return [StackSettings(cfg, stack) for stack in STACKS]
