"""LayerDrop (Fan, Grave & Joulin 2020, section 3.2) as a list of layers: whole layers, sub-layers and heads."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from fairseq.logging import metrics
from torch import nn

from .draw import draw_skips
from .importance import LayerImportance
from .sub_layers import ATTENTIONS, sub_layer_parameters, sub_layers_of, without
from .zero_grad import identity_with_zero_grad


@dataclass(frozen=True)
class DropRates:
    """The probability that a training pass skips a group, one number a layer for each kind of group.

    Attributes:
        layers: of the layer as a whole.
        sub_layers: of each of its sub-layers.
        heads: of each head of each of its attentions.

    Raises:
        ValueError: a rate isn't in [0, 1], or the kinds tell of different numbers of layers.
    """

    layers: tuple[float, ...]
    sub_layers: tuple[float, ...] = ()
    heads: tuple[float, ...] = ()

    def __post_init__(self):
        for kind in ("layers", "sub_layers", "heads"):
            rates = tuple(float(rate) for rate in getattr(self, kind)) or (0.0,) * len(self.layers)
            if len(rates) != len(self.layers):
                raise ValueError(f"{len(rates)} LayerDrop rates of {kind} for {len(self.layers)} layers")
            if not all(0 <= rate <= 1 for rate in rates):
                raise ValueError(f"LayerDrop rates must be in [0, 1], not {rates}")
            object.__setattr__(self, kind, rates)

    def scaled(self, factor: float) -> "DropRates":
        """All rates times *factor*."""
        return DropRates(
            *(tuple(rate * factor for rate in rates) for rates in (self.layers, self.sub_layers, self.heads))
        )

    def __bool__(self) -> bool:
        return any(self.layers + self.sub_layers + self.heads)


@dataclass(frozen=True)
class Skips:
    """What a pass skips of one layer.

    Attributes:
        layer: whether it is all of it.
        sub_layers: the names of its skipped sub-layers, none where it is all.
        heads: for each attention that runs without some of its heads, their numbers.
    """

    layer: bool = False
    sub_layers: tuple[str, ...] = ()
    heads: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, layer: nn.Module, skip: bool, sub_layers: set[str], heads: Mapping[str, tuple[int, ...]]) -> "Skips":
        """What to skip of *layer*, where an attention without heads is skipped, and a layer without sub-layers."""
        gone = sub_layers | {name for name, dropped in heads.items() if len(dropped) == getattr(layer, name).num_heads}
        names = sub_layers_of(layer)
        if skip or (gone and gone >= set(names)):
            return cls(layer=True)
        return cls(
            sub_layers=tuple(name for name in names if name in gone),
            heads={name: dropped for name, dropped in heads.items() if dropped and name not in gone},
        )

    def share_of(self, layer: nn.Module) -> float:
        """The share of the sub-layers of *layer* that is skipped."""
        return float(self.layer) or len(self.sub_layers) / max(len(sub_layers_of(layer)), 1)

    def __bool__(self) -> bool:
        return self.layer or bool(self.sub_layers) or bool(self.heads)


class _PartialLayer:
    """Stands for a layer in one pass: called as the layer is, it runs what the pass doesn't skip of it.

    What is skipped gets a zero gradient. Where *unattended*, nothing that runs in this pass attends to the encoder: its
    states then get a zero gradient too, or the encoder's parameters would fall out of the graph.

    Where rates are learned, *see* is called with the output of a layer that runs; else it is None.
    """

    def __init__(self, layer: nn.Module, skips: Skips, returns_tuple: bool, unattended: bool, see=None):
        self.layer = layer
        self.skips = skips
        self.returns_tuple = returns_tuple
        self.unattended = unattended
        self.see = see

    def __call__(self, x, *args, **kwargs):
        states = [arg for arg in args if torch.is_tensor(arg) and arg.requires_grad] if self.unattended else []
        if self.skips.layer:
            x = identity_with_zero_grad(x, [*self.layer.parameters(), *states])
            return (x, None, None) if self.returns_tuple else x
        skipped = [p for name in self.skips.sub_layers for p in sub_layer_parameters(self.layer, name)]
        if skipped or states:
            x = identity_with_zero_grad(x, [*skipped, *states])
        layer = without(self.layer, self.skips.sub_layers, self.skips.heads) if self.skips else self.layer
        out = layer(x, *args, **kwargs)
        if self.see is not None:
            self.see(out[0] if self.returns_tuple else out)
        return out


class LayerDropModuleList(nn.ModuleList):
    """The layers of a stack, of which each training pass skips some groups at random.

    The groups are whole layers, sub-layers and attention heads. Iterating is a forward pass: in training mode, each
    iteration draws anew which groups to skip, and yields for a layer that misses any a stand-in that runs the rest of
    it: nothing, if it is skipped as a whole. There is always one item for each layer, in order, so that ``enumerate``
    gives a layer its own number and hidden states line up. In evaluation mode the layers themselves come. Nothing is
    ever rescaled, and everything may be skipped in one pass, as in the paper. An attention all of whose heads are
    dropped is skipped, with its norm and its output bias.

    The draws are keyed as :func:`~fairseq_layerdrop.modules.draw_skips` says, by the number of this pass within its
    update. A restarted training goes on with the same draws; only where fp16 overflows precede the checkpoint without
    an update between does it begin that update's draws anew. Each kind of group draws from a stream of its own.

    Indexing, ``len`` and the names of parameters are those of :class:`torch.nn.ModuleList`.

    Args:
        layers: the layers, each called as ``layer(x, ...)`` with x of shape T x B x C.
        rates: the rates of all groups, or those of whole layers alone, one a layer, in [0, 1].
        seed: the run's seed.
        stack: name of the stack; stacks with different names draw independently.
        returns_tuple: whether a layer returns ``(x, attention, key_values)``, as fairseq's decoder layers do, or x.
        schedule: from the number of updates done to the part of the rates that is in force; all of them if None.
        importance: learned importances of the layers, which then give the rates of whole layers; their mean is kept.

    Raises:
        ValueError: a rate outside [0, 1], not one rate a layer, or heads to be dropped from layers of unknown kind.
    """

    def __init__(
        self,
        layers,
        rates,
        *,
        seed: int,
        stack: str,
        returns_tuple: bool,
        schedule: Callable[[int], float] | None = None,
        importance: LayerImportance | None = None,
    ):
        super().__init__(layers)
        self.rates = rates if isinstance(rates, DropRates) else DropRates(tuple(rates))
        if len(self.rates.layers) != len(self):
            raise ValueError(f"{len(self.rates.layers)} LayerDrop rates for {len(self)} layers")
        self.seed = seed
        self.stack = stack
        self.returns_tuple = returns_tuple
        self.schedule = schedule
        # The importance is the stack's own module; as a child of this list it would count as a layer.
        self.importance: LayerImportance | None
        object.__setattr__(self, "importance", importance)
        self.update = 0
        self.micro_batch = 0
        self._given: Sequence[Skips] | None = None

    @torch.jit.unused  # type: ignore[prop-decorator] # a script of the layers drops nothing
    @property
    def rates_in_force(self) -> DropRates:
        """The rates after the updates done so far; where they are learned, those of whole layers are only the mean."""
        return self.rates if self.schedule is None else self.rates.scaled(self.schedule(self.update))

    def set_num_updates(self, num_updates: int) -> None:
        """Take the number of updates done so far; fairseq's trainer gives it before each micro-batch.

        The mean rates in force are logged with the training statistics.
        """
        if num_updates != self.update:
            self.update = num_updates
            self.micro_batch = 0
        rates = self.rates_in_force
        for kind, of_kind, full in (
            ("layerdrop", rates.layers, self.rates.layers),
            ("sublayerdrop", rates.sub_layers, self.rates.sub_layers),
            ("headdrop", rates.heads, self.rates.heads),
        ):
            if any(full):
                metrics.log_scalar(f"{self.stack}_{kind}", sum(of_kind) / len(of_kind), weight=0, round=3)

    def _draw_kind(self, kind: str, rates) -> list[bool]:
        return draw_skips(
            rates,
            seed=self.seed,
            stream=zlib.crc32(f"{self.stack}{kind}".encode()),
            update=self.update,
            micro_batch=self.micro_batch,
        )

    def draw(self) -> list[Skips]:
        """Draw what the next pass skips of each layer. A pass does so by itself, unless :meth:`skipping` tells it."""
        layers, rates = list(super().__iter__()), self.rates_in_force
        if self.importance is None:
            whole = self._draw_kind("", rates.layers)
        else:
            keep = self.importance.keep_rates(rates.layers)
            learned = (1 - keep.detach()).tolist()
            whole = self._draw_kind("", learned)
            self.importance.draw(keep, whole)
            for name, rate in (("lowest", min(learned)), ("highest", max(learned))):
                metrics.log_scalar(f"{self.stack}_layerdrop_{name}", rate, weight=0, round=3)
        sub_layers: list[set[str]] = [set() for _ in layers]
        heads: list[dict[str, tuple[int, ...]]] = [{} for _ in layers]
        if any(rates.sub_layers):
            groups = [(i, name) for i, layer in enumerate(layers) for name in sub_layers_of(layer)]
            drawn = self._draw_kind(" sub-layers", [rates.sub_layers[i] for i, _ in groups])
            for (i, name), skip in zip(groups, drawn):
                if skip:
                    sub_layers[i].add(name)
        if any(rates.heads):
            attentions = [
                (i, name) for i, layer in enumerate(layers) for name in sub_layers_of(layer) if name in ATTENTIONS
            ]
            every = [(i, name, head) for i, name in attentions for head in range(getattr(layers[i], name).num_heads)]
            drawn = self._draw_kind(" heads", [rates.heads[i] for i, _, _ in every])
            for (i, name, head), skip in zip(every, drawn):
                if skip:
                    heads[i][name] = (*heads[i].get(name, ()), head)
        self.micro_batch += 1
        skips = [Skips.of(*of_layer) for of_layer in zip(layers, whole, sub_layers, heads)]
        shares = [skipped.share_of(layer) for layer, skipped in zip(layers, skips)]
        metrics.log_scalar(f"{self.stack}_skipped", sum(shares) / len(shares), round=3)
        return skips

    @contextmanager
    def skipping(self, skips: Sequence[Skips]):
        """Within this context each training pass skips *skips*, one a layer, and draws nothing."""
        before, self._given = self._given, skips
        try:
            yield
        finally:
            self._given = before

    def __iter__(self):
        layers = list(super().__iter__())
        if not self.training:
            yield from layers
            return
        skips = self.draw() if self._given is None else self._given
        sub_layers = [sub_layers_of(layer) for layer in layers]
        unattended = not any(
            "encoder_attn" in names and "encoder_attn" not in skipped.sub_layers and not skipped.layer
            for names, skipped in zip(sub_layers, skips)
        )
        for number, (layer, skipped) in enumerate(zip(layers, skips)):
            if self.importance is not None:
                see = partial(self.importance.see, number)
                yield _PartialLayer(layer, skipped, self.returns_tuple, unattended, see)
            elif skipped:
                yield _PartialLayer(layer, skipped, self.returns_tuple, unattended)
            else:
                yield layer
        if self.importance is not None:
            self.importance.end_pass()

    def __getitem__(self, index):
        if isinstance(index, slice):  # a part of the layers is no stack that could draw
            return nn.ModuleList(list(self._modules.values())[index])
        return super().__getitem__(index)

    __repr__ = nn.Module.__repr__  # ModuleList's own would iterate, that is, draw

    def extra_repr(self) -> str:
        return f"stack={self.stack}, {self.rates}"
