"""The divergence of distributions, against its definition."""

import pytest
import torch
from fairseq.modules import AdaptiveSoftmax
from torch.nn.functional import log_softmax

from fairseq_layerdrop.modules import adaptive_distillation_loss, distillation, distillation_loss

ROWS, WORDS, WIDTH = 7, 30, 12
WEIGHTS = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
WAYS = [(1.0, False), (2.0, False), (1.0, True), (0.5, True)]


def by_definition(teacher, student, weights, temperature, symmetric):
    """The loss from the logits of all words, in 64 bits."""
    p, q = (log_softmax(logits.double() / temperature, -1) for logits in (teacher, student))
    p = p if symmetric else p.detach()
    rows = (p.exp() * (p - q)).sum(-1)
    if symmetric:
        rows = (rows + (q.exp() * (q - p)).sum(-1)) / 2
    return temperature**2 * (weights * rows).sum()


def random(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(len(shape) + shape[-1])
    return [(2 * torch.randn(*shape, generator=generator)).to(dtype).requires_grad_() for _ in range(2)]


def close(found, expected, **tolerance):
    torch.testing.assert_close(found.double(), expected.double(), **(tolerance or {"rtol": 1e-4, "atol": 1e-6}))


class TestSoftmax:
    @pytest.mark.parametrize("temperature, symmetric", WAYS)
    def test_loss_and_gradients(self, temperature, symmetric, monkeypatch):
        monkeypatch.setattr(distillation, "_CACHED", 2 * WORDS)  # pieces of two rows, and one of a single row
        teacher, student = random(ROWS, WORDS)
        expected = by_definition(teacher, student, WEIGHTS, temperature, symmetric)
        gradients = torch.autograd.grad(expected, [student, *([teacher] if symmetric else [])])
        loss = distillation_loss(teacher, student, WEIGHTS, temperature, symmetric)
        close(loss, expected)
        (3 * loss).backward()
        for tensor, gradient in zip([student, teacher], gradients):
            close(tensor.grad, 3 * gradient)
        assert symmetric or teacher.grad is None

    def test_equal_distributions(self):
        teacher, _ = random(ROWS, WORDS)
        student = (teacher + 1).detach().requires_grad_()
        loss = distillation_loss(teacher, student)
        loss.backward()
        close(loss, torch.zeros(()), rtol=0, atol=1e-5)
        close(student.grad, torch.zeros(ROWS, WORDS), rtol=0, atol=1e-6)

    def test_a_scaled_loss_in_16_bits(self):
        """What is small before fairseq scales the loss isn't lost."""
        teacher, student = random(1, 20_000, dtype=torch.float16)
        (4096 * distillation_loss(teacher, student)).backward()
        first, second = (tensor.detach().float().requires_grad_() for tensor in (teacher, student))
        distillation_loss(first, second).backward()
        assert student.grad.dtype == torch.float16
        exact = (4096 * second.grad).half()
        assert torch.equal(student.grad, exact)
        assert not torch.equal(student.grad, 4096 * second.grad.half())


class TestAdaptiveSoftmax:
    @pytest.fixture(params=["at once", "in pieces"])
    def softmax(self, request, monkeypatch):
        if request.param == "in pieces":
            monkeypatch.setattr(distillation, "_LARGE", 3 * WORDS)
        torch.manual_seed(1)
        return AdaptiveSoftmax(WORDS, WIDTH, [10, 18], dropout=0.0, factor=2.0)

    @pytest.mark.parametrize("temperature, symmetric", WAYS)
    def test_as_the_softmax_over_all_words(self, softmax, temperature, symmetric):
        """Loss and gradients are those of an ordinary softmax with the same probabilities."""
        teacher, student = random(ROWS, WIDTH)

        def words(features):
            head, *tails = distillation.adaptive_bands(softmax, features)
            return torch.cat([head[:, :10], *(head[:, 10 + i, None] + tail for i, tail in enumerate(tails))], -1)

        torch.testing.assert_close(words(student), softmax.get_log_prob(student.detach()[None], None)[0])
        wanted = [student, *softmax.parameters(), *([teacher] if symmetric else [])]
        with torch.set_grad_enabled(symmetric):
            from_teacher = words(teacher)
        expected = by_definition(from_teacher, words(student), WEIGHTS, temperature, symmetric)
        gradients = torch.autograd.grad(expected, wanted)
        teacher = teacher if symmetric else teacher.detach()
        loss = adaptive_distillation_loss(softmax, teacher, student, WEIGHTS, temperature, symmetric)
        close(loss, expected)
        for gradient, exact in zip(torch.autograd.grad(loss, wanted), gradients):
            close(gradient, exact, rtol=1e-3, atol=1e-4)
        assert distillation_loss(
            words(teacher), words(student), WEIGHTS, temperature, symmetric
        ).item() == pytest.approx(loss.item(), rel=1e-4)
