"""LayerDrop (Fan, Grave & Joulin 2020, section 3.2) as a list of layers."""

import zlib

import torch
from torch import nn

from .draw import draw_skips
from .sub_layers import attends_to_encoder
from .zero_grad import identity_with_zero_grad


class _Skipped:
    """Stands for a layer in a pass that skips it: called as the layer is, it returns the layer's input.

    Where *unattended*, no layer that runs in this pass attends to the encoder. Its states then get a zero gradient, or
    the encoder's parameters would fall out of the graph.
    """

    def __init__(self, layer: nn.Module, returns_tuple: bool, unattended: bool):
        self.layer = layer
        self.returns_tuple = returns_tuple
        self.unattended = unattended

    def __call__(self, x, *args, **kwargs):
        states = [arg for arg in args if torch.is_tensor(arg) and arg.requires_grad] if self.unattended else []
        x = identity_with_zero_grad(x, [*self.layer.parameters(), *states])
        return (x, None, None) if self.returns_tuple else x


class LayerDropModuleList(nn.ModuleList):
    """The layers of a stack, of which each training pass skips some at random.

    Iterating is a forward pass: in training mode, each iteration draws anew which layers to skip and yields for them a
    stand-in that returns its input. There is always one item for each layer, in order, so that ``enumerate`` gives a
    layer its own number and hidden states line up. In evaluation mode the layers themselves come. Nothing is ever
    rescaled, and all layers may be skipped in one pass, as in the paper.

    The draws are keyed as :func:`~fairseq_layerdrop.modules.draw_skips` says, by the number of this pass within its
    update. A restarted training goes on with the same draws; only where fp16 overflows precede the checkpoint without
    an update between does it begin that update's draws anew.

    Indexing, ``len`` and the names of parameters are those of :class:`torch.nn.ModuleList`.

    Args:
        layers: the layers, each called as ``layer(x, ...)`` with x of shape T x B x C.
        rates: for each layer the probability of being skipped, in [0, 1].
        seed: the run's seed.
        stack: name of the stack; stacks with different names draw independently.
        returns_tuple: whether a layer returns ``(x, attention, key_values)``, as fairseq's decoder layers do, or x.

    Raises:
        ValueError: a rate outside [0, 1], or not one rate a layer.
    """

    def __init__(self, layers, rates, *, seed: int, stack: str, returns_tuple: bool):
        super().__init__(layers)
        self.rates = tuple(float(rate) for rate in rates)
        if len(self.rates) != len(self):
            raise ValueError(f"{len(self.rates)} LayerDrop rates for {len(self)} layers")
        if not all(0 <= rate <= 1 for rate in self.rates):
            raise ValueError(f"LayerDrop rates must be in [0, 1], not {self.rates}")
        self.seed = seed
        self.stack = stack
        self.returns_tuple = returns_tuple
        self.update = 0
        self.micro_batch = 0

    def set_num_updates(self, num_updates: int) -> None:
        """Take the number of updates done so far; fairseq's trainer gives it before each micro-batch."""
        if num_updates != self.update:
            self.update = num_updates
            self.micro_batch = 0

    def _draw(self) -> list[bool]:
        skips = draw_skips(
            self.rates,
            seed=self.seed,
            stream=zlib.crc32(self.stack.encode()),
            update=self.update,
            micro_batch=self.micro_batch,
        )
        self.micro_batch += 1
        return skips

    def __iter__(self):
        layers = super().__iter__()
        if not self.training:
            yield from layers
            return
        drawn = list(zip(layers, self._draw()))
        unattended = not any(attends_to_encoder(layer) for layer, skip in drawn if not skip)
        for layer, skip in drawn:
            yield _Skipped(layer, self.returns_tuple, unattended) if skip else layer

    def __getitem__(self, index):
        if isinstance(index, slice):  # a part of the layers is no stack that could draw
            return nn.ModuleList(list(self._modules.values())[index])
        return super().__getitem__(index)

    __repr__ = nn.Module.__repr__  # ModuleList's own would iterate, that is, draw

    def extra_repr(self) -> str:
        return f"stack={self.stack}, rates={self.rates}"
