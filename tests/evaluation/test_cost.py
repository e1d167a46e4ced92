"""What using a model costs, against closed formulas."""

import os
import statistics
from pathlib import Path

import pytest
import torch
from fairseq.modules import MultiheadAttention
from torch.nn import functional

from fairseq_layerdrop.evaluation.cost import Spread, bytes_of, forget_peak_memory, multiply_adds, peak_memory, seconds

CPU = torch.device("cpu")


class TestSpread:
    def test_tenths(self):
        """Of 0 to 100 a tenth is below 10, and a tenth above 90; the order doesn't matter."""
        assert Spread.of([*range(50, 101), *range(50)]) == Spread(50, 10, 90, 101)

    def test_between_two_values(self):
        assert Spread.of([2.0, 1.0]) == Spread(1.5, pytest.approx(1.1), pytest.approx(1.9), 2)

    def test_one_value(self):
        assert Spread.of([0.25]) == Spread(0.25, 0.25, 0.25, 1)

    def test_an_outlier_leaves_the_median(self):
        assert Spread.of([1.0, 2.0, 1e9]).median == 2.0

    def test_none(self):
        with pytest.raises(statistics.StatisticsError):
            Spread.of([])


class TestMultiplyAdds:
    def test_linear(self):
        layer = torch.nn.Linear(5, 7)
        assert multiply_adds(lambda: layer(torch.ones(3, 5))) == 3 * 5 * 7
        assert multiply_adds(lambda: layer(torch.ones(2, 3, 5))) == 2 * 3 * 5 * 7

    def test_norms_softmax_and_look_ups_are_free(self):
        embedding, norm = torch.nn.Embedding(9, 4), torch.nn.LayerNorm(4)
        assert multiply_adds(lambda: norm(embedding(torch.tensor([1, 2]))).softmax(-1)) == 0

    @pytest.mark.parametrize("grad", [True, False])
    def test_scaled_dot_products(self, grad):
        """B x H x T x D with B x H x S x D: T S D for the scores, and again for the values."""
        batch, heads, targets, sources, width = 2, 3, 5, 7, 4
        query = torch.ones(batch, heads, targets, width, requires_grad=grad)
        key = torch.ones(batch, heads, sources, width, requires_grad=grad)
        made = multiply_adds(lambda: functional.scaled_dot_product_attention(query, key, key))
        assert made == 2 * batch * heads * targets * sources * width

    @pytest.mark.parametrize("need_weights", [True, False])
    def test_fairseqs_attention(self, need_weights):
        """T x B x C: four projections, and two products of T x T."""
        length, batch, width = 6, 2, 8
        attention = MultiheadAttention(width, 2, self_attention=True).eval()
        states = torch.ones(length, batch, width)
        made = multiply_adds(lambda: attention(states, states, states, need_weights=need_weights))
        assert made == batch * (4 * length * width**2 + 2 * length**2 * width)


class TestBytes:
    def test_of_each_element(self):
        assert bytes_of([torch.ones(3, 5), torch.ones(2)]) == 4 * (15 + 2)
        assert bytes_of([]) == 0

    def test_tied_weights_count_once(self):
        embedding, projection = torch.nn.Embedding(11, 4), torch.nn.Linear(4, 11, bias=False)
        both = torch.nn.ModuleList([embedding, projection])
        assert bytes_of(both.parameters()) == 2 * 4 * 44
        projection.weight = embedding.weight
        assert bytes_of([embedding.weight, projection.weight]) == bytes_of(both.parameters()) == 4 * 44
        assert bytes_of([embedding.weight, embedding.weight.detach()]) == 4 * 44

    def test_half_precision(self):
        layer = torch.nn.Linear(3, 5).half()
        assert bytes_of(layer.parameters()) == 2 * (15 + 5)


class TestPeakMemory:
    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells what the process has")
    def test_of_what_was_freed(self):
        size = 2**28
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        torch.ones(size // 4)
        known = peak_memory(CPU)
        assert known > pages * os.sysconf("SC_PAGE_SIZE") + 0.95 * size
        forget_peak_memory(CPU)
        if os.access("/proc/self/clear_refs", os.W_OK):
            assert peak_memory(CPU) < known - 0.9 * size

    def test_holds_what_is_there(self):
        held = torch.ones(2**24)
        assert peak_memory(CPU) > bytes_of([held])


def test_seconds():
    calls = []
    assert 0 < seconds(lambda: calls.append(1), CPU) < 60 and calls == [1]
