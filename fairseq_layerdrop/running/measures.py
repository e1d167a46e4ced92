"""What a model's outputs are measured by: their loss, or their distance to those of the full model."""

import math
from collections.abc import Mapping

import torch
from torch.nn import functional
from tqdm import tqdm

from ..base.errors import UserError
from .engine import Engine, Measure


class _Given:
    """Stands for a model that has run: called, it gives the output; everything else is the model's.

    The output of an encoder alone is a function of how the model is called; see :meth:`.stacks.Stacks.finish`.
    """

    def __init__(self, model, output):
        self._model = model
        self._output = output

    def __call__(self, **inputs):
        return self._output(**inputs) if callable(self._output) else self._output

    def __getattr__(self, name):
        return getattr(self._model, name)


def loss(model, criterion) -> Measure:
    """Cross-entropy in bits, summed over target tokens: what fairseq-validate and fairseq-eval-lm tell as loss.

    Args:
        model: the model, for its output layer.
        criterion: fairseq's criterion, as the model was trained with; label smoothing is left out.
    """

    def measure(output, sample) -> float:
        _, _, logged = criterion(_Given(model, output), sample)
        nats = logged.get("nll_loss", logged["loss"])
        return float(nats) / math.log(2)

    return measure


def tokens(sample: Mapping, pad: int | None) -> int:
    """Number of target tokens of a batch; of a classifier's, where *pad* is None, that of its labels."""
    return sample["target"].numel() if pad is None else int(sample["target"].ne(pad).sum())


def target_logits(model, output, sample: Mapping, pad: int) -> torch.Tensor:
    """Logits of a batch's target tokens, N x V; of a model with an adaptive softmax their log-probabilities."""
    wanted = sample["target"].ne(pad)
    if callable(output):  # of an encoder alone, which is asked for these tokens
        return output(**sample["net_input"], masked_tokens=wanted)[0]
    if getattr(model.decoder, "adaptive_softmax", None) is not None:
        logits = model.get_normalized_probs(output, log_probs=True)  # with a sample, of the targets' bands alone
    else:
        logits = output[0]
    return logits[wanted]


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of each token."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def jensen_shannon(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence of each token, in nats: (KL(p0 || M) + KL(p || M)) / 2 with M = (p0 + p) / 2.

    Args:
        dense: logits of the full model, N x V.
        pruned: those of the pruned one.
    """
    log_p, log_q = (functional.log_softmax(logits.float(), dim=-1) for logits in (dense, pruned))
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (_kl(log_p, log_m) + _kl(log_q, log_m)) / 2


def jensen_shannon_reversed(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """(KL(M || p0) + KL(M || p)) / 2 of each token, in nats: what FinerCut's official code computes, unbounded."""
    log_p, log_q = (functional.log_softmax(logits.float(), dim=-1) for logits in (dense, pruned))
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (_kl(log_m, log_p) + _kl(log_m, log_q)) / 2


def kl(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """KL(p0 || p) of each token, in nats."""
    return _kl(*(functional.log_softmax(logits.float(), dim=-1) for logits in (dense, pruned)))


def angular(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """Angle between the logits of each token, in radians; more than a right angle counts as one."""
    cosine = functional.cosine_similarity(dense.float(), pruned.float(), dim=-1)
    return torch.arccos(cosine.clamp(0, 1))


def squared(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distance between the logits of each token."""
    return (dense.float() - pruned.float()).square().sum(dim=-1)


# FinerCut's distances (2405.18218) by name; "norm" is made of the squared ones of a sample's tokens.
DISTANCES = {
    "js": jensen_shannon,
    "js-reversed": jensen_shannon_reversed,
    "kl": kl,
    "angular": angular,
    "norm": squared,
}


class Distance:
    """Distance between a pruned model's outputs and the full model's, summed over target tokens.

    "norm" is the Frobenius norm over a sentence's tokens and the vocabulary, summed over sentences; see :attr:`by`.

    Args:
        engine: runs the full model, whose outputs are kept; they may take as much as its states.
        name: a key of :data:`DISTANCES`.
        pad: index of the padding symbol; None if the model is a classifier.

    Attributes:
        by: what the sum is to be divided by, ``tokens`` or ``sentences``.

    Raises:
        UserError: the model is a classifier.
    """

    def __init__(self, engine: Engine, name: str, pad: int | None):
        if pad is None:
            raise UserError(
                "finercut compares the symbols that models predict, and this one predicts labels; take sleb"
            )
        self.engine = engine
        self.name = name
        self.pad = pad
        self.by = "sentences" if name == "norm" else "tokens"
        self._dense: dict[int, torch.Tensor] = {}
        self._whole = engine.units(sublayers=False)

    def _logits(self, output, sample) -> torch.Tensor:
        return target_logits(self.engine.stacks.model, output, sample, self.pad)

    def prepare(self) -> None:
        """Run the full model.

        Raises:
            UserError: its outputs are larger than the memory.
        """
        every = sum(tokens(sample, self.pad) for sample in self.engine.samples)
        for output, sample in self.engine.outputs(self._whole):
            logits = self._logits(output, sample)
            needed = every * logits.shape[-1] * logits.element_size()
            if needed > self.engine.memory:
                size = tqdm.format_sizeof(needed, "B", 1024)
                raise UserError(
                    f"the full model's outputs for {every:,} tokens take {size}; look at fewer (--sentences) or allow "
                    "more (--memory)"
                )
            self._dense[id(sample)] = logits.clone()

    def __call__(self, output, sample) -> float:
        if not self._dense:
            self.prepare()
        distances = DISTANCES[self.name](self._dense[id(sample)], self._logits(output, sample)).double()
        if self.name != "norm":
            return float(distances.sum())
        lengths = sample["target"].ne(self.pad).sum(dim=1).tolist()
        return float(sum(part.sum().sqrt() for part in distances.split(lengths)))
