"""How far a distribution over a vocabulary is from another: the loss of a network that learns from one.

A distribution is given in bands of log-probabilities. An ordinary softmax has one band, N x V. An adaptive softmax
(Grave et al. 2017) has a head of words and clusters, and for each cluster a tail of its words; a word's probability is
that of its cluster times its own in there.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Bands = Sequence[torch.Tensor]

# How many numbers a piece of a distribution has: on a CPU what its caches hold, elsewhere what fills the device.
_CACHED, _LARGE = 2**17, 2**25


def _rows_of_pieces(width: int, device: torch.device) -> int:
    return max(1, (_CACHED if device.type == "cpu" else _LARGE) // width)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return functional.log_softmax(logits, -1, dtype=torch.float32)


def adaptive_bands(softmax, features: torch.Tensor) -> Bands:
    """The distribution that fairseq's ``AdaptiveSoftmax`` gives for *features*, N x C, as its ``get_log_prob`` does."""
    return [_log_softmax(part(features)) for part in (softmax.head, *softmax.tail)]


def tempered(bands: Bands, temperature: float) -> Bands:
    """The distribution that is proportional to p^(1/T) for the temperature T."""
    if temperature == 1:
        return bands
    head, *tails = (band / temperature for band in bands)
    sizes = [torch.logsumexp(tail, -1, keepdim=True) for tail in tails]
    words = head.size(-1) - len(tails)
    head = torch.cat([head[:, :words], *(head[:, words + i, None] + size for i, size in enumerate(sizes))], -1)
    return [_log_softmax(head), *(tail - size for tail, size in zip(tails, sizes))]


def divergence(teacher: Bands, student: Bands) -> torch.Tensor:
    """The Kullback-Leibler divergence KL(teacher || student) of each of N rows, in nats.

    With tails it is, by the chain rule, that of the heads plus those of the tails, each times the teacher's probability
    of the cluster.
    """
    head, *tails = (
        functional.kl_div(of_student, of_teacher, reduction="none", log_target=True).sum(-1)
        for of_teacher, of_student in zip(teacher, student)
    )
    words = teacher[0].size(-1) - len(tails)
    return head + sum(teacher[0][:, words + i].exp() * tail for i, tail in enumerate(tails))


def _loss(bands: Callable[[torch.Tensor], Bands], temperature: float, symmetric: bool):
    """The function from outputs of teacher and student, N rows each, to what the N rows lose."""

    def loss(teacher, student):
        with torch.set_grad_enabled(symmetric and torch.is_grad_enabled()):
            of_teacher = tempered(bands(teacher), temperature)
        of_student = tempered(bands(student), temperature)
        lost = divergence(of_teacher, of_student)
        if symmetric:
            lost = 0.5 * (lost + divergence(of_student, of_teacher))
        return temperature**2 * lost

    return loss


class _InPieces(torch.autograd.Function):
    """The weighted sum over rows of a loss of two tensors, computed in pieces, each with its gradients at once.

    So nothing of the size of the tensors is needed but one gradient for each, which is in 32 bits: the scale of an fp16
    training comes in only in the backward pass.
    """

    @staticmethod
    def forward(ctx, loss, weights, *tensors):
        wanted = ctx.needs_input_grad[2:]
        gradients = [torch.empty_like(tensor, dtype=torch.float32) for tensor, want in zip(tensors, wanted) if want]
        total = weights.new_zeros(())
        size = _rows_of_pieces(tensors[0].size(-1), weights.device)
        for piece, *rest in zip(weights.split(size), *(tensor.split(size) for tensor in (*tensors, *gradients))):
            inputs = [part.detach().float().requires_grad_(want) for part, want in zip(rest, wanted)]
            with torch.enable_grad():
                lost = (piece * loss(*inputs)).sum()
            found = torch.autograd.grad(lost, [part for part, want in zip(inputs, wanted) if want])
            for gradient, part in zip(rest[len(tensors) :], found):
                gradient.copy_(part)
            total += lost.detach()
        ctx.save_for_backward(*gradients)
        ctx.wanted, ctx.types = wanted, [tensor.dtype for tensor in tensors]
        return total

    @staticmethod
    def backward(ctx, gradient):
        found = iter(ctx.saved_tensors)
        return (
            None,
            None,
            *(next(found).mul_(gradient).to(kind) if want else None for want, kind in zip(ctx.wanted, ctx.types)),
        )


def distillation_loss(
    teacher: torch.Tensor,
    student: torch.Tensor,
    weights: torch.Tensor | None = None,
    temperature: float = 1.0,
    symmetric: bool = False,
) -> torch.Tensor:
    """What the logits *student* lose against the logits *teacher*, both N x V: a sum over rows.

    It is T^2 KL(teacher || student) of the distributions at the temperature T (Hinton et al. 2015, whose T^2 keeps the
    size of the gradients), where the teacher gets no gradient. If *symmetric*, it is the mean of both directions, and
    both get gradients (R-Drop, Liang et al. 2021, equation 2). One backward pass can follow.

    Args:
        teacher, student: any floating type; it is computed in 32 bits.
        weights: N weights of the rows, 1 by default.
    """
    if weights is None:
        weights = torch.ones(len(student), device=student.device)
    loss = _loss(lambda logits: [_log_softmax(logits)], temperature, symmetric)
    return _InPieces.apply(loss, weights, teacher if symmetric else teacher.detach(), student)


def adaptive_distillation_loss(
    softmax, teacher, student, weights=None, temperature: float = 1.0, symmetric: bool = False
) -> torch.Tensor:
    """:func:`distillation_loss` of features, N x C, under *softmax*, fairseq's ``AdaptiveSoftmax``.

    The probabilities of a piece of the rows are there at a time, and computed once more in the backward pass, where all
    together would be large.
    """
    loss = _loss(lambda features: adaptive_bands(softmax, features), temperature, symmetric)

    def of_piece(teacher, student, weights):
        return (weights * loss(teacher, student)).sum()

    if weights is None:
        weights = torch.ones(len(student), device=student.device)
    rows = max(1, _LARGE // softmax.vocab_size)
    if len(student) <= rows:
        return of_piece(teacher, student, weights)
    pieces = zip(*(tensor.split(rows) for tensor in (teacher, student, weights)))
    return sum(checkpoint(of_piece, *piece, use_reentrant=False) for piece in pieces)
