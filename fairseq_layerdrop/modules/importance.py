"""Data Driven Pruning: how often each layer is kept is learned (Fan, Grave & Joulin 2020, section 3.2.2)."""

import torch
import torch.distributed as dist
from torch import nn

# The importances of two layers differ by at most a factor of e^(2 * this), so that none is ever out of the game.
_RANGE = 3.0
# Of the running averages of activations and of the loss.
_MOMENTUM = 0.9
# Probabilities are held this far from 0 and 1 where their logarithm is taken.
_MARGIN = 1e-2
# What a loss one deviation above the running mean weighs, so that the gradients neither overflow in 16 bits nor lead
# where all of a model's are clipped together; and the most deviations that count.
_WEIGHT = 1e-3
_MOST_DEVIATIONS = 5.0


def _mean_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()
    return tensor


class LayerImportance(nn.Module):
    """The importance of each layer of a stack, from which the rates at which a training keeps it follow.

    The paper says that the drop rate of a layer is a non-linear function of its activation, followed by a softmax over
    the layers, with the mean rate at the wanted p; after training the k layers of highest softmax output are kept,
    whatever the input. It leaves the function, the estimate of its gradient and the way of holding the mean open. Here:

    - A layer's activation a is the mean of its output over the positions and sentences of a pass, padding included, as
      a running average over passes and ranks, of length 1. The function is 3 tanh(w . a + b), with w and b of each
      layer its own; it begins at 0, so that at first all layers are kept alike.
    - The scores are the softmax of these over the layers. A layer is kept with the probability min(1, c * score), where
      c is such that the mean is 1 - p exactly.
    - The gradient is the score function's (REINFORCE, Williams 1992): (loss - running mean of the loss) times the
      gradient of the log-probability of what was drawn, which is unbiased for the expected loss. The difference counts
      in running deviations of the loss, five at most, times 1e-3: Adam doesn't see the scale, but clipping and 16 bits
      do. A straight-through gradient would be of no use: a layer's own weights see to it that the loss doesn't change
      with the scale of what the layer adds.

    The loss is known outside the model: who trains passes it through :meth:`join`. Scores, averages and parameters are
    saved with the model; the averages stay in 32 bits whatever the model is in.

    Args:
        depth: number of layers L.
        width: width C of the hidden states.
    """

    activations: torch.Tensor
    scores: torch.Tensor
    losses: torch.Tensor

    def __init__(self, depth: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(depth, width))
        self.bias = nn.Parameter(torch.zeros(depth))
        self.register_buffer("activations", torch.zeros(depth, width))
        self.register_buffer("scores", torch.full((depth,), 1 / depth))
        # running sums: of losses, of their squared distances from the running mean, and of the weights of both
        self.register_buffer("losses", torch.zeros(3))
        self._seen: dict[int, torch.Tensor] = {}
        self._log_probability: list[torch.Tensor] = []  # of the last draw, until the loss is known

    def _apply(self, fn, recurse=True):
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            self._buffers[name] = buffer.to(self._buffers[name].device)
        return self

    def keep_rates(self, rates) -> torch.Tensor:
        """The probability, of shape L, with which each layer is kept where the mean of the drop *rates* is p."""
        activations = nn.functional.normalize(self.activations, dim=-1)
        logits = _RANGE * torch.tanh((self.weight.float() * activations).sum(-1) + self.bias.float())
        scores = torch.softmax(logits, dim=-1)
        self.scores.copy_(scores.detach())
        return keep_rates(scores, len(scores) - sum(rates))

    def draw(self, keep: torch.Tensor, skips) -> None:
        """Note which layers a pass skips, one truth value a layer, that are kept with the probabilities *keep*."""
        keep = keep.clamp(_MARGIN, 1 - _MARGIN)
        skipped = torch.as_tensor(skips, device=keep.device)
        self._log_probability = [torch.where(skipped, (1 - keep).log(), keep.log()).sum()]

    def see(self, layer: int, output: torch.Tensor) -> None:
        """Note what *layer* gave in this pass: a tensor of shape T x B x C."""
        self._seen[layer] = output.detach().float().mean((0, 1))

    def end_pass(self) -> None:
        """Take what was seen in a pass into the running averages; all ranks must come here together."""
        seen = torch.zeros_like(self.activations)
        for layer, activation in self._seen.items():
            seen[layer] = activation
        seen = nn.functional.normalize(_mean_over_ranks(seen), dim=-1)
        for layer in self._seen:
            known = self.activations[layer]
            self.activations[layer] = _MOMENTUM * known + (1 - _MOMENTUM) * seen[layer] if known.any() else seen[layer]
        self._seen.clear()

    def join(self, loss: torch.Tensor, sample_size) -> torch.Tensor:
        """Return the *loss* of the last pass, of which the importances now have a gradient too.

        All ranks must come here together.

        Args:
            loss: summed over a sample; its value doesn't change.
            sample_size: number of what was summed, by which fairseq divides the gradients.
        """
        size = torch.as_tensor(sample_size, device=loss.device, dtype=torch.float)
        total = _mean_over_ranks(torch.stack([loss.detach().float(), size]))
        mean, (before, variance) = total[0] / total[1], self.losses[:2] / self.losses[2]
        # none in the first two passes, after overflows, without data
        distance = (mean - before).nan_to_num(0.0, 0.0, 0.0)
        advantage = (distance / variance.sqrt()).nan_to_num(0.0, 0.0, 0.0).clamp(-_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        if torch.isfinite(mean):
            seen = torch.stack([mean, distance**2, torch.ones_like(mean)])
            self.losses.mul_(_MOMENTUM).add_((1 - _MOMENTUM) * seen)
        log_probability = self._log_probability.pop()
        gradient = log_probability - log_probability.detach()  # of value 0
        return loss + (_WEIGHT * advantage * size * gradient).to(loss.dtype)


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
