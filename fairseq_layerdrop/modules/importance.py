"""Data Driven Pruning: how often each layer is kept is learned (Fan, Grave & Joulin 2020, section 3.2.2)."""

import torch
import torch.distributed as dist
from torch import nn

# The importances of two layers differ by at most a factor of e^(2 * this), so that none is ever out of the game.
_RANGE = 3.0
_MOMENTUM = 0.9


class LayerImportance(nn.Module):
    """The importance of each layer of a stack, from which the rates at which a training keeps it follow.

    The paper says that the drop rate of a layer is a non-linear function of its activation, followed by a softmax over
    the layers, with the mean rate at the wanted p; after training the k layers of highest softmax output are kept,
    whatever the input. It leaves the function, the estimate of its gradient and the way of holding the mean open. Here:

    - A layer's activation a is the mean of its output over the positions and sentences of a pass, as a running average
      over passes (momentum 0.9, and over all ranks), of length 1. The function is 3 tanh(w . a + b), with w and b of
      each layer its own; it begins at 0, so that at first all layers are kept alike.
    - The scores are the softmax of these over the layers. A layer is kept with the probability min(1, c * score), where
      c is such that the mean is 1 - p exactly.
    - A pass that runs a layer gives its keep rate the gradient of the loss by a gate on what the layer adds, over the
      keep rate (:func:`straight_through`). A layer that is skipped has none in that pass.

    The scores that are in force are a buffer, and are saved with the model.

    Args:
        depth: number of layers L.
        width: width C of the hidden states.
    """

    def __init__(self, depth: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(depth, width))
        self.bias = nn.Parameter(torch.zeros(depth))
        self.register_buffer("activations", torch.zeros(depth, width))
        self.register_buffer("scores", torch.full((depth,), 1 / depth))
        self._seen: dict[int, torch.Tensor] = {}

    def keep_rates(self, rates) -> torch.Tensor:
        """The probability, of shape L, with which each layer is kept where the mean of the drop *rates* is p."""
        activations = nn.functional.normalize(self.activations.float(), dim=-1)
        logits = _RANGE * torch.tanh((self.weight.float() * activations).sum(-1) + self.bias.float())
        scores = torch.softmax(logits, dim=-1)
        self.scores.copy_(scores.detach())
        return keep_rates(scores, len(scores) - sum(rates))

    def see(self, layer: int, output: torch.Tensor) -> None:
        """Note what *layer* gave in this pass: a tensor of shape T x B x C."""
        self._seen[layer] = output.detach().float().mean((0, 1))

    def end_pass(self) -> None:
        """Take what was seen in a pass into the running averages; all ranks must come here together."""
        seen = torch.zeros_like(self.activations, dtype=torch.float)
        for layer, activation in self._seen.items():
            seen[layer] = activation
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(seen)  # a sum over ranks: only the direction counts
        for layer in self._seen:
            activation = nn.functional.normalize(seen[layer], dim=-1)
            if self.activations[layer].any():
                activation = _MOMENTUM * self.activations[layer].float() + (1 - _MOMENTUM) * activation
            self.activations[layer] = activation
        self._seen.clear()


def keep_rates(scores: torch.Tensor, kept: float) -> torch.Tensor:
    """Probabilities min(1, c * score) whose sum is *kept*.

    Args:
        scores: positive, of shape L; gradients pass to them where the probability is below 1.
        kept: the wanted sum, in [0, L].
    """
    full = torch.zeros_like(scores, dtype=torch.bool)
    while True:
        rates = torch.where(
            full, 1.0, scores * (kept - full.sum()) / scores.masked_fill(full, 0).sum().clamp(min=1e-12)
        )
        over = (rates > 1) & ~full
        if not over.any():
            return rates
        full = full | over


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, before, after, keep):
        ctx.save_for_backward(before, after, keep)
        return after.view_as(after)

    @staticmethod
    def backward(ctx, grad):
        before, after, keep = ctx.saved_tensors
        gate = (grad.float() * (after.float() - before.float())).sum() / keep.float()
        return None, grad, gate.to(keep.dtype)


def straight_through(before: torch.Tensor, after: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Return *after*, the output of a layer that a pass runs, and give its keep rate a gradient.

    With a gate z on the layer, ``before + z * (after - before)``, z = 1 with probability *keep* and else 0, the
    straight-through estimator (Bengio, Leonard & Courville 2013, arXiv 1308.3432) takes the loss's gradient by z for
    that by *keep*. As it is only known where the layer ran, it is divided by *keep*: its mean over the draws is then
    the gradient by the gate at z = 1.

    Args:
        before: the layer's input, T x B x C.
        after: its output, of the same shape.
        keep: the probability with which the layer was kept, a scalar tensor.
    """
    return _StraightThrough.apply(before, after, keep)
