"""Scoring many plans of one model on the same data, with shared work.

A plan is a sequence of units, the kept ones in the order in which they run, encoder first. Plans that begin alike share
the hidden states after their common beginning: a state is computed from the one before it by running a single unit. So
scoring plans in the order of their sequences walks the tree of these sequences depth first, and runs each unit once for
each distinct beginning, which is the least possible.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..base.errors import UserError
from ..plan import Structure, Unit, units_of
from .stacks import Call, Stacks

# Stands between a plan's encoder units and its decoder units: the encoder has finished, the decoder has begun.
_BRIDGE: Unit = ("decoder", -1, None)

# What follows a model's output for a batch: a function from (output, sample) to a number that is summed up.
Measure = Callable[[object, Mapping], float]


@dataclass(frozen=True)
class _State:
    """Hidden states of some batches, T x B x C each, and how the layers of the stack are called."""

    hidden: list[torch.Tensor]
    calls: list[Call]
    bytes: int


def _bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Engine:
    """Runs any plan of a model on calibration data.

    Args:
        model: a fairseq Transformer in evaluation mode.
        structure: its stacks, each with its layers.
        samples: batches as fairseq's datasets collate them, on the model's device.
        memory: bytes that stored hidden states may take. Where they don't fit, the data is walked in parts, and what
            is still too much is computed again.

    Attributes:
        evaluations: how many units have been run so far, on all the data; the cost of what was asked.
    """

    def __init__(self, model, structure: Structure, samples: Sequence[Mapping], memory: int = 2**30):
        if not samples:
            raise UserError("there is no data to look at")
        self.stacks = Stacks(model, structure)
        self.structure = {stack: structure[stack] for stack in self.stacks.names}
        self.memory = memory
        self.samples = list(samples)
        self._states: OrderedDict[tuple, _State] = OrderedDict()  # by part and prefix, those used last at the end
        self._stored = 0
        self._runs = 0
        self._parts: list[list[Mapping]] | None = None

    @property
    def evaluations(self) -> float:
        return self._runs / len(self.samples)

    def units(self, sublayers: bool) -> tuple[Unit, ...]:
        """The layers, or the sub-layers, in the order in which they run."""
        return units_of(self.structure, sublayers)

    @property
    def parts(self) -> int:
        """Number of parts in which the data is walked, so that the states along one plan fit into the memory."""
        return len(self._split())

    @torch.inference_mode()
    def score(self, plan: Sequence[Unit], measure: Measure, part: int) -> float:
        """Sum a measure over a part of the data, for the model with only *plan*'s units.

        Ask for all plans on a part before the next one, in the order of their units, and each unit is run once for
        each distinct beginning of a plan.
        """
        outputs = self._outputs(part, self._split()[part], plan)
        return sum(measure(output, sample) for output, sample in outputs)

    @torch.inference_mode()
    def outputs(self, plan: Sequence[Unit]) -> Iterator[tuple[object, Mapping]]:
        """What the model with only *plan*'s units gives for each batch, and the batch."""
        for number, samples in enumerate(self._split()):
            yield from self._outputs(number, samples, plan)

    @torch.inference_mode()
    def hidden(self, plan: Sequence[Unit], stack: str) -> Iterator[tuple[list[torch.Tensor], Mapping]]:
        """Hidden states along *plan*, of which units of other stacks than *stack* are left out, for each batch.

        Yields:
            the states before the stack's first unit and after each, T x B x C, and the batch.
        """
        plan = tuple(plan)
        ends = [i for i in range(len(plan) + 1) if i == 0 or plan[i - 1][0] == stack]
        if stack == "decoder" and "encoder" in self.structure:
            first = next(i for i, unit in enumerate(plan) if unit[0] == "decoder")
            ends = [first, *(i for i in ends if i > first)]
        for number, samples in enumerate(self._split()):
            states = [
                self._state(number, samples, self._prefix(plan[:end], begun=stack == "decoder")).hidden for end in ends
            ]
            for hidden, sample in zip(zip(*states), samples):
                yield list(hidden), sample

    def _split(self) -> list[list[Mapping]]:
        """The data in parts of which the states along one plan fit into the memory."""
        if self._parts is None:
            deepest = len(self.units(sublayers=True)) + 2
            self._parts, room = [], 0
            for sample in self.samples:
                size = deepest * self._width_bytes(sample)
                if not self._parts or size > room:
                    self._parts.append([])
                    room = self.memory
                self._parts[-1].append(sample)
                room -= size
        return self._parts

    def _width_bytes(self, sample: Mapping) -> int:
        """Bytes of a batch's largest hidden state."""
        x, _ = self.stacks.start(self.stacks.names[0], sample)
        width = max(getattr(module, "output_embed_dim", x.shape[-1]) for module in self.stacks.modules.values())
        tokens = max(value.numel() for value in sample["net_input"].values() if _is_tokens(value))
        return max(width, x.shape[-1]) * x.element_size() * tokens

    def _prefix(self, plan: Sequence[Unit], begun: bool = True) -> tuple[Unit, ...]:
        """A plan's units, with the bridge in its place; at the end where only the encoder's are there."""
        if self.stacks.names != ("encoder", "decoder"):
            return tuple(plan)
        encoder = tuple(unit for unit in plan if unit[0] == "encoder")
        decoder = tuple(unit for unit in plan if unit[0] == "decoder")
        return (*encoder, _BRIDGE, *decoder) if begun or decoder else encoder

    def _outputs(self, number: int, samples, plan):
        stack = self.stacks.names[-1]
        state = self._state(number, samples, self._prefix(plan))
        for x, call, sample in zip(state.hidden, state.calls, samples):
            yield self.stacks.finish(stack, x, sample, call.encoder_out), sample

    def _state(self, number: int, samples, prefix: tuple[Unit, ...]) -> _State:
        """The hidden states after *prefix*, from the longest beginning of it whose states are stored."""
        known = len(prefix)
        while known and (number, prefix[:known]) not in self._states:
            known -= 1
        if known == 0 and (number, ()) not in self._states:
            self._store((number, ()), self._begin(samples), prefix)
        state = self._states[number, prefix[:known]]
        self._states.move_to_end((number, prefix[:known]))
        for end in range(known + 1, len(prefix) + 1):
            state = self._extend(state, prefix[end - 1], samples)
            self._store((number, prefix[:end]), state, prefix)
        return state

    def _begin(self, samples) -> _State:
        begun = [self.stacks.start(self.stacks.names[0], sample) for sample in samples]
        hidden = [x for x, _ in begun]
        return _State(hidden, [call for _, call in begun], _bytes_of(hidden))

    def _extend(self, state: _State, unit: Unit, samples) -> _State:
        if unit == _BRIDGE:
            outs = [self.stacks.finish("encoder", x, sample) for x, sample in zip(state.hidden, samples)]
            for out in outs:
                out["encoder_embedding"] = []  # as large as the encoder's output, and no decoder reads it
            begun = [self.stacks.start("decoder", sample, out) for out, sample in zip(outs, samples)]
            hidden, calls = [x for x, _ in begun], [call for _, call in begun]
            return _State(hidden, calls, _bytes_of(hidden) + sum(_bytes_of(_tensors_of(out)) for out in outs))
        hidden = [self.stacks.run(unit, x, call) for x, call in zip(state.hidden, state.calls)]
        self._runs += len(hidden)
        return _State(hidden, state.calls, _bytes_of(hidden))

    def _store(self, key: tuple, state: _State, path: tuple[Unit, ...]) -> None:
        """Keep a state; what is over the memory goes, the oldest first, but last what lies on the *path* walked."""
        self._states[key] = state
        self._stored += state.bytes
        if self._stored > self.memory:
            old = [one for one in self._states if one != key]
            on_path = {(key[0], path[:end]) for end in range(len(path) + 1)}
            for one in sorted(old, key=lambda one: one in on_path):
                if self._stored <= self.memory:
                    break
                self._stored -= self._states.pop(one).bytes


def _tensors_of(encoder_out: Mapping) -> Iterator[torch.Tensor]:
    """The tensors of what a fairseq encoder gives: a dict of lists."""
    for value in encoder_out.values():
        yield from (tensor for tensor in value if torch.is_tensor(tensor)) if isinstance(value, list) else ()


def _is_tokens(value) -> bool:
    return torch.is_tensor(value) and value.dim() == 2
