"""Running the stacks of a fairseq model unit by unit, where a unit is a layer or one of its sub-layers.

fairseq's encoders and decoders run all their layers in one ``forward``. To get at what is before and after the layers
without a copy of its code, a stack's layers are for a moment replaced by one stand-in: it notes how the layers are
called, or it puts a hidden state in their place.
"""

import contextlib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from fairseq.models import FairseqDecoder, FairseqEncoder
from torch import nn

from ..base.errors import UserError
from ..modules import without
from ..plan import STACKS, SUB_LAYERS, Plan, Structure, Unit
from ..surgery.state import stacks_of


class _StandIn(nn.Module):
    """Called as the layers of a stack are; notes the call, and returns *hidden*, or what came in."""

    load_to_BT = False  # noqa: N815 - fairseq 0.12.2 asks the first layer whether it has a fast path

    def __init__(self, stack: str, hidden: torch.Tensor | None = None):
        super().__init__()
        self.stack = stack
        self.hidden = hidden
        self.call: tuple = ()

    def forward(self, x, *args, **kwargs):
        self.call = (x, args, kwargs)
        x = x if self.hidden is None else self.hidden
        return (x, None, None) if self.stack == "decoder" else x


@contextlib.contextmanager
def _layers(stack: FairseqEncoder | FairseqDecoder, layers: Iterable[nn.Module]):
    """Let *stack* run other layers in place of its own."""
    own, depth = stack.layers, getattr(stack, "num_layers", None)
    stack.layers = nn.ModuleList(layers)
    stack.num_layers = len(stack.layers)
    try:
        yield
    finally:
        stack.layers, stack.num_layers = own, depth


def parts(layer: nn.Module, names: Iterable[str]) -> nn.Module:
    """A layer of which only the sub-layers *names* are left, with the parameters of *layer* itself."""
    return without(layer, [name for name in SUB_LAYERS if name not in names])


@dataclass(frozen=True)
class Call:
    """How a stack's layers are called for one batch.

    Attributes:
        args: the arguments that follow the hidden state.
        kwargs: those with names.
        encoder_out: what the encoder gave; None in an encoder and in a language model.
    """

    args: tuple
    kwargs: Mapping
    encoder_out: Mapping | None = None


class Stacks:
    """A model's encoder and decoder, unit by unit.

    Args:
        model: a fairseq Transformer in evaluation mode: encoder-decoder, language model or encoder alone.
        structure: its stacks, each with its layers.

    Raises:
        UserError: the model isn't of a kind whose stacks are known here.
    """

    def __init__(self, model: nn.Module, structure: Structure):
        self.model = model
        self.structure = structure
        self.modules = stacks_of(model)
        if list(self.modules) != [stack for stack in STACKS if stack in structure]:
            raise UserError(f"can't find the layers of this {type(model).__name__}")
        self._units: dict[Unit, nn.Module] = {}
        for stack, module in self.modules.items():
            for number, sub_layers in enumerate(structure[stack]):
                layer = module.layers[number]
                self._units[stack, number, None] = layer
                for name in sub_layers.names:
                    self._units[stack, number, name] = parts(layer, [name])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.modules)

    def start(self, stack: str, sample: Mapping, encoder_out=None) -> tuple[torch.Tensor, Call]:
        """The hidden state before the first layer of *stack*, of shape T x B x C, and how its layers are called."""
        stand_in = _StandIn(stack)
        self._forward(stack, stand_in, sample, encoder_out)
        x, args, kwargs = stand_in.call
        return x, Call(args, kwargs, encoder_out)

    def run(self, unit: Unit, x: torch.Tensor, call: Call) -> torch.Tensor:
        """The hidden state after *unit*."""
        out = self._units[unit](x, *call.args, **call.kwargs)
        return out[0] if isinstance(out, tuple) else out

    def finish(self, stack: str, x: torch.Tensor, sample: Mapping, encoder_out=None):
        """What the stack gives where *x* is the hidden state after its last layer.

        Of an encoder alone it is a function that gives what the model does, called as the model is: it may be asked for
        symbols, for those of some positions, or for a class.
        """
        if self.names == ("encoder",):
            return functools.partial(self._end, x)
        return self._forward(stack, _StandIn(stack, x), sample, encoder_out)

    def _end(self, x: torch.Tensor, **inputs):
        """What the model gives for *inputs* where *x* is the hidden state after the last layer of its encoder."""
        with _layers(self.modules["encoder"], [_StandIn("encoder", x)]):
            return self.model(**inputs)

    def _forward(self, stack: str, stand_in: _StandIn, sample: Mapping, encoder_out):
        inputs = sample["net_input"]
        module = self.modules[stack]
        with _layers(module, [stand_in]):
            if stack == "encoder":
                return module(inputs["src_tokens"], inputs.get("src_lengths"))
            if encoder_out is None:
                return module(inputs["src_tokens"])
            return module(inputs["prev_output_tokens"], encoder_out=encoder_out)

    @contextlib.contextmanager
    def pruned(self, plan: Plan):
        """Let the model itself run with the layers and sub-layers of *plan* alone."""
        with contextlib.ExitStack() as stacks:
            for stack, module in self.modules.items():
                kept = [
                    module.layers[number] if keep == full else parts(module.layers[number], keep.names)
                    for number, (keep, full) in enumerate(zip(plan.stacks[stack].keep, plan.stacks[stack].full))
                    if keep
                ]
                stacks.enter_context(_layers(module, kept))
            yield self.model
