"""How far a distribution over a vocabulary is from another: the loss of a network that learns from one.

A distribution is given in bands of log-probabilities. An ordinary softmax has one band, N x V. An adaptive softmax
(Grave et al. 2017) has a head of words and clusters, and for each cluster a tail of its words; a word's probability is
that of its cluster times its own in there. So nothing here needs the probabilities of all words in one tensor.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Bands = Sequence[torch.Tensor]

# So many numbers may a piece of an adaptive softmax's distribution have: 256 MiB in 32 bits.
_PIECE = 2**26


def tempered(bands: Bands, temperature: float) -> Bands:
    """The distribution that is proportional to p^(1/T) for the temperature T."""
    if temperature == 1:
        return bands
    head, *tails = (band / temperature for band in bands)
    sizes = [torch.logsumexp(tail, -1, keepdim=True) for tail in tails]
    if sizes:
        words = head.size(-1) - len(tails)
        head = torch.cat([head[:, :words], head[:, words:] + torch.cat(sizes, -1)], -1)
    return [functional.log_softmax(head, -1), *(tail - size for tail, size in zip(tails, sizes))]


def divergence(teacher: Bands, student: Bands) -> torch.Tensor:
    """The Kullback-Leibler divergence KL(teacher || student) in nats, summed over the N rows.

    With tails it is, by the chain rule, that of the heads plus those of the tails, each times the teacher's probability
    of the cluster.
    """
    words = teacher[0].size(-1) - len(teacher) + 1
    total = functional.kl_div(student[0], teacher[0], reduction="sum", log_target=True)
    for number, (of_teacher, of_student) in enumerate(zip(teacher[1:], student[1:])):
        rows = functional.kl_div(of_student, of_teacher, reduction="none", log_target=True).sum(-1)
        total = total + (teacher[0][:, words + number].exp() * rows).sum()
    return total


def distillation_loss(
    bands: Callable[[torch.Tensor], Bands],
    teacher: torch.Tensor,
    student: torch.Tensor,
    temperature: float = 1.0,
    symmetric: bool = False,
) -> torch.Tensor:
    """What the outputs *student* lose against the outputs *teacher*, summed over their N rows.

    It is T^2 KL(teacher || student) of the distributions at the temperature T (Hinton et al. 2015, whose T^2 keeps the
    size of the gradients), where the teacher gets no gradient. If *symmetric*, it is the mean of both directions, and
    both get gradients (R-Drop, Liang et al. 2021, equation 2).

    Args:
        bands: from some rows of outputs to their distribution.
        teacher: N x C, logits or what a softmax makes them of.
        student: N x C.
    """

    with torch.set_grad_enabled(symmetric and torch.is_grad_enabled()):
        from_teacher = tempered(bands(teacher), temperature)
    from_student = tempered(bands(student), temperature)
    loss = divergence(from_teacher, from_student)
    if symmetric:
        loss = 0.5 * (loss + divergence(from_student, from_teacher))
    return temperature**2 * loss


def adaptive_bands(softmax, features: torch.Tensor) -> Bands:
    """The distribution that fairseq's ``AdaptiveSoftmax`` gives for *features*, N x C, as its ``get_log_prob`` does."""
    parts = (softmax.head, *softmax.tail)
    return [functional.log_softmax(part(features), -1, dtype=torch.float32) for part in parts]


def adaptive_distillation_loss(softmax, teacher, student, temperature=1.0, symmetric=False) -> torch.Tensor:
    """:func:`distillation_loss` of features N x C under fairseq's ``AdaptiveSoftmax``.

    It is computed in pieces, each once more in the backward pass, where the vocabulary is large.
    """

    def of_piece(student, teacher):
        return distillation_loss(lambda x: adaptive_bands(softmax, x), teacher, student, temperature, symmetric)

    rows = max(1, _PIECE // softmax.vocab_size)
    if len(student) <= rows:
        return of_piece(student, teacher)
    pieces = zip(student.split(rows), teacher.split(rows))
    return sum(checkpoint(of_piece, *piece, use_reentrant=False) for piece in pieces)
