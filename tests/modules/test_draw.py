"""Draws: their rate, and what they depend on."""

import random

import numpy as np
import pytest
import torch

from fairseq_layerdrop.modules import draw_one, draw_skips

KEY = {"seed": 1, "stream": 2, "update": 3, "micro_batch": 0}
RATES = [0.5] * 64


class TestRate:
    def test_zero_never_skips(self):
        assert not any(any(draw_skips([0.0] * 16, **{**KEY, "update": n})) for n in range(1000))

    def test_one_always_skips(self):
        assert all(all(draw_skips([1.0] * 16, **{**KEY, "update": n})) for n in range(1000))

    @pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
    def test_is_p_within_its_binomial_error(self, rate):
        """Each of 12 layers over 4,000 updates: |mean - p| < 5 standard errors (chance: 6e-7)."""
        skips = np.array([draw_skips([rate] * 12, **{**KEY, "update": n}) for n in range(4000)])
        error = (rate * (1 - rate) / len(skips)) ** 0.5
        assert np.abs(skips.mean(axis=0) - rate).max() < 5 * error
        assert abs(skips.mean() - rate) < 5 * error / 12**0.5

    def test_each_group_has_its_own(self):
        skips = np.array([draw_skips([0.0, 0.3, 1.0], **{**KEY, "update": n}) for n in range(4000)])
        assert not skips[:, 0].any() and skips[:, 2].all()
        assert abs(skips[:, 1].mean() - 0.3) < 5 * (0.3 * 0.7 / 4000) ** 0.5

    def test_layers_are_independent(self):
        """Correlations of 12 layers over 4,000 updates lie within 5 standard errors (1/sqrt(4000)) of 0."""
        skips = np.array([draw_skips([0.5] * 12, **{**KEY, "update": n}) for n in range(4000)])
        correlation = np.corrcoef(skips.T) - np.eye(12)
        assert np.abs(correlation).max() < 5 / 4000**0.5


class TestKey:
    def test_same_arguments_same_draw(self):
        assert draw_skips(RATES, **KEY) == draw_skips(RATES, **KEY)

    @pytest.mark.parametrize("name", KEY)
    def test_each_argument_matters(self, name):
        assert draw_skips(RATES, **KEY) != draw_skips(RATES, **{**KEY, name: KEY[name] + 1})

    def test_negative_and_large_seeds(self):
        assert draw_skips(RATES, **{**KEY, "seed": -1}) != draw_skips(RATES, **{**KEY, "seed": 2**63})

    def test_leaves_other_random_numbers_alone(self):
        def others():
            return random.random(), np.random.random(), torch.rand(1).item()

        def seed():
            random.seed(0), np.random.seed(0), torch.manual_seed(0)

        seed()
        expected, first = others(), draw_skips(RATES, **KEY)
        seed()
        second = draw_skips(RATES, **KEY)
        assert others() == expected and first == second

    def test_values_are_pinned(self):
        """A change would make restarted runs go on with other draws."""
        assert draw_skips([0.5] * 8, **KEY) == PINNED


PINNED = [True, False, True, False, False, False, True, False]


class TestOne:
    def test_in_proportion_to_the_weights(self):
        weights = np.array([1.0, 0.5, 2.5])
        drawn = [draw_one(weights, **{**KEY, "update": n}) for n in range(4000)]
        shares = weights / weights.sum()
        error = (shares * (1 - shares) / len(drawn)) ** 0.5
        assert (np.abs(np.bincount(drawn, minlength=3) / len(drawn) - shares) < 5 * error).all()

    def test_the_only_one(self):
        assert draw_one([0.3], **KEY) == 0

    @pytest.mark.parametrize("name", KEY)
    def test_each_argument_matters(self, name):
        first, second = ({**KEY, name: KEY[name] + more} for more in (0, 1))
        assert draw_one([1.0] * 10**6, **first) == draw_one([1.0] * 10**6, **first) != draw_one([1.0] * 10**6, **second)
