"""What the one-shot methods read off the hidden states of one pass of the full model."""

from collections.abc import Callable, Mapping

import torch

from ..plan import Unit
from ..running.engine import Engine

# From the hidden states before and after a unit, N x C each, to a value for each of the N positions.
Statistic = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cosine(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Cosine between the states at each position."""
    return torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1)


def is_token(stack: str, sample: Mapping, pad: int) -> torch.Tensor:
    """Where a stack's input holds tokens, and not padding: B x T."""
    inputs = sample["net_input"]
    name = "prev_output_tokens" if stack == "decoder" and "prev_output_tokens" in inputs else "src_tokens"
    return inputs[name].ne(pad)


def first_only(mask: torch.Tensor) -> torch.Tensor:
    """Of each sentence's tokens the first."""
    return mask & (mask.cumsum(dim=1) == 1)


def last_only(mask: torch.Tensor) -> torch.Tensor:
    """Of each sentence's tokens the last."""
    return mask & (mask.flip(1).cumsum(dim=1).flip(1) == 1)


def statistics(
    engine: Engine,
    sublayers: bool,
    pad: int,
    statistic: Statistic,
    positions: Callable[[str, torch.Tensor], torch.Tensor] = lambda stack, mask: mask,
) -> dict[Unit, float]:
    """The mean of a statistic over positions, for each unit of the full model, from one pass over the data.

    Args:
        engine: runs the full model.
        sublayers: whether units are sub-layers.
        pad: index of the padding symbol.
        statistic: of the states before and after a unit.
        positions: a function from a stack and where it has tokens to the positions that count, B x T.
    """
    units = engine.units(sublayers)
    means: dict[Unit, float] = {}
    for stack in engine.structure:
        of_stack = [unit for unit in units if unit[0] == stack]
        sums, count = torch.zeros(len(of_stack), dtype=torch.float64), 0
        for states, sample in engine.hidden(units, stack):
            where = positions(stack, is_token(stack, sample, pad)).T  # T x B
            count += int(where.sum())
            for number in range(len(of_stack)):
                sums[number] += statistic(states[number][where], states[number + 1][where]).double().sum().cpu()
        means.update(zip(of_stack, (sums / count).tolist()))
    return means
