"""Data Driven Pruning: learned keep rates."""

import copy
import itertools

import pytest
import torch
from torch import nn

from fairseq_layerdrop.modules import LayerDropModuleList, LayerImportance, keep_rates

WIDTH = 8


class Rotation(nn.Module):
    """A fixed residual layer that rotates what comes in, or one that adds next to nothing."""

    def __init__(self, useful, generator):
        super().__init__()
        turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))[0]
        self.weight = nn.Parameter(turn if useful else 1e-3 * turn, requires_grad=False)

    def forward(self, x):
        return x + x @ self.weight


def stack(useful, seed=1, rate=0.5):
    generator = torch.Generator().manual_seed(seed)
    layers = [Rotation(number in useful, generator) for number in range(6)]
    importance = LayerImportance(6, WIDTH)
    rates = [rate] * 6
    return LayerDropModuleList(
        layers, rates, seed=seed, stack="decoder", returns_tuple=False, importance=importance
    ), importance


def run(layers, x):
    for layer in layers:
        x = layer(x)
    return x


class TestKeepRates:
    @pytest.mark.parametrize("kept", [1.0, 2.5, 4.0, 5.5])
    def test_their_sum_is_held(self, kept):
        scores = torch.softmax(torch.tensor([3.0, -1.0, 0.0, 2.0, -3.0, 0.5]), 0)
        rates = keep_rates(scores, kept)
        assert rates.sum().item() == pytest.approx(kept, abs=1e-5)
        assert rates.min() > 0 and rates.max() <= 1
        assert (rates.diff() * scores.diff() >= 0).all()

    def test_by_hand(self):
        """0.8 c would be 1.6, so it is 1, and the rest shares what is left of 2 as 3 : 1."""
        assert keep_rates(torch.tensor([0.8, 0.15, 0.05]), 2.0).tolist() == pytest.approx([1.0, 0.75, 0.25])
        assert keep_rates(torch.tensor([0.8, 0.15, 0.05]), 3.0).tolist() == pytest.approx([1.0, 1.0, 1.0])


class TestGradient:
    def test_is_the_score_function(self):
        """Its mean over the draws is that of the expected loss in deviations / 1000: all 8 draws, by hand."""
        torch.manual_seed(0)
        importance = LayerImportance(3, WIDTH)
        importance.activations.copy_(torch.randn(3, WIDTH))
        importance.bias.data.copy_(torch.tensor([0.1, -0.2, 0.05]))
        losses = torch.randn(2, 2, 2)
        draws = list(itertools.product([0, 1], repeat=3))

        def probability(kept):
            keep = importance.keep_rates([0.5] * 3)
            return torch.stack([k if z else 1 - k for z, k in zip(kept, keep)]).prod()

        sum(probability(kept) * losses[kept] for kept in draws).backward()
        expected, mean = importance.bias.grad, torch.zeros(3)
        for kept in draws:
            importance.draw(importance.keep_rates([0.5] * 3), [not z for z in kept])
            importance.losses.copy_(torch.tensor([0.3, 4.0, 1.0]))  # a mean, which changes nothing, and a variance
            importance.bias.grad = None
            loss = (losses[kept] * 7).requires_grad_()
            joined = importance.join(loss, 7)
            assert joined.item() == loss.item()
            (joined * 128).backward()  # as with fp16's loss scale
            mean += probability(kept).item() * importance.bias.grad / 7 / 128  # fairseq divides by the sample size
        torch.testing.assert_close(mean * 1000 * 2, expected, rtol=1e-4, atol=1e-6)

    def test_is_finite_in_16_bits_and_small_beside_a_model_s(self):
        """With batches of 4,000 tokens and fairseq's first loss scale, after the luckiest of losses."""
        importance = LayerImportance(8, WIDTH)
        importance.bias.data.copy_(torch.linspace(-1, 1, 8))
        importance.half()
        norms = []
        for loss in (9.0, 8.9, 9.1, 9.0, 20.0, 0.0):
            importance.draw(importance.keep_rates([0.5] * 8), [True] * 4 + [False] * 4)
            importance.zero_grad()
            joined = importance.join((torch.tensor(loss) * 4000).requires_grad_(), 4000)
            (joined * 128).backward()
            assert all(parameter.grad.isfinite().all() for parameter in importance.parameters())
            norms.append(importance.bias.grad.float().norm().item() / 4000 / 128)
        assert norms[:2] == [0, 0] and 0.001 < max(norms) < 0.1

    def test_none_before_there_is_a_deviation_and_after_an_overflow(self):
        importance = LayerImportance(3, WIDTH)
        for loss, any_gradient in ((2.0, False), (5.0, False), (3.0, True), (float("inf"), False), (5.0, True)):
            importance.draw(importance.keep_rates([0.5] * 3), [True, False, False])
            importance.bias.grad = None
            importance.join(torch.tensor(loss, requires_grad=True), 1).backward()
            assert bool(importance.bias.grad.any()) == any_gradient
        assert torch.isfinite(importance.losses).all()

    def test_averages_stay_in_32_bits(self):
        importance = LayerImportance(3, WIDTH).half()
        assert importance.weight.dtype == torch.float16
        assert {buffer.dtype for buffer in importance.buffers()} == {torch.float32}

    def test_every_pass_has_one(self):
        """Also those that skip all layers: torch's DDP waits for all parameters."""
        layers, importance = stack({0}, rate=0.9)
        for update in range(20):
            layers.set_num_updates(update)
            importance.weight.grad = None
            loss = run(layers, torch.ones(2, 3, WIDTH, requires_grad=True)).sum()
            importance.join(loss, 6).backward()
            assert importance.weight.grad is not None


@pytest.mark.parametrize("seed, useful", [(1, {0, 2, 5}), (2, {1, 3, 4}), (3, {0, 1, 2})])
def test_finds_the_layers_that_matter(seed, useful):
    """In a stack of 6, of which 3 do next to nothing: these have the lowest scores after 1,000 updates."""
    layers, importance = stack(useful, seed)
    teacher = copy.deepcopy(layers).eval()
    optimizer = torch.optim.Adam(importance.parameters(), lr=0.01)
    torch.manual_seed(seed)
    for update in range(1000):
        layers.set_num_updates(update)
        x = torch.randn(4, 8, WIDTH, requires_grad=True)
        optimizer.zero_grad()
        loss = (run(layers, x) - run(teacher, x)).pow(2).mean()
        importance.join(loss, 1).backward()
        optimizer.step()
    assert set(importance.scores.topk(3).indices.tolist()) == useful
    rates = importance.keep_rates(layers.rates.layers)
    assert rates.sum().item() == pytest.approx(3, abs=1e-4)
    assert rates[sorted(useful)].min() > 0.7


def test_scores_are_saved_and_evaluation_changes_nothing():
    layers, importance = stack({0, 2, 5})
    run(layers, torch.ones(2, 3, WIDTH))
    before = copy.deepcopy(importance.state_dict())
    layers.eval()
    run(layers, torch.ones(2, 3, WIDTH))
    assert set(before) == {"weight", "bias", "activations", "scores", "losses"}
    assert all(
        torch.equal(tensor.nan_to_num(), importance.state_dict()[name].nan_to_num()) for name, tensor in before.items()
    )
    assert before["activations"].any()
