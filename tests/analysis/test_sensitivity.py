"""What layers and sub-layers are worth, against models from which they are really gone."""

import copy
import itertools
import math
import random
from collections import Counter

import numpy
import pytest
import torch

from fairseq_layerdrop.analysis.sensitivity import chosen_stacks, half_depth, losses_without, standard_error
from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import parse, unit_name, units_of
from fairseq_layerdrop.running.engine import Engine
from fairseq_layerdrop.running.measures import loss
from fairseq_layerdrop.running.scorer import Processes, ScoreLog, Scorer
from tests.running.models import (
    PAD,
    bits,
    criterion,
    language_model,
    logits,
    samples,
    silence,
    translation_model,
    without,
)


class TestHalfDepth:
    @pytest.mark.parametrize("depth", [2, 3, 6, 7, 8, 12, 40])
    @pytest.mark.parametrize("place", ["first", "middle", "last"])
    def test_sub_networks(self, depth, place):
        layer = {"first": 0, "middle": depth // 2, "last": depth - 1}[place]
        drawn = half_depth(depth, layer, 20, random.Random(1))
        assert len(drawn) == len(set(drawn)) == min(20, math.comb(depth - 1, depth // 2))
        for kept in drawn:
            assert len(set(kept)) == depth // 2 and layer not in kept
            assert set(kept) <= set(range(depth)) and list(kept) == sorted(kept)

    def test_the_seed_decides(self):
        first, same, other = (half_depth(12, 3, 20, random.Random(seed)) for seed in ("1", "1", "2"))
        assert first == same and set(first) != set(other)

    def test_more_samples_begin_with_fewer(self):
        assert half_depth(12, 3, 20, random.Random(1))[:5] == half_depth(12, 3, 5, random.Random(1))

    def test_all_but_one(self):
        every = set(half_depth(8, 0, 35, random.Random(1)))
        assert len(every) == 35 and len(every - set(half_depth(8, 0, 34, random.Random(1)))) == 1

    def test_each_other_layer_is_kept_as_often(self):
        kept = Counter(layer for seed in range(700) for layer in half_depth(8, 3, 1, random.Random(seed))[0])
        assert set(kept) == set(range(8)) - {3}
        assert all(count == pytest.approx(700 * 4 / 7, rel=0.15) for count in kept.values())


def test_standard_error():
    values = [2.5, 3.0, 2.25, 4.0]
    assert standard_error(values, 10**15) == pytest.approx(numpy.std(values, ddof=1) / math.sqrt(4), rel=1e-12)
    assert standard_error([3.0, 3.0], 5) == 0 and standard_error([3.0], 5) is None
    assert standard_error(values, 4) == 0 and standard_error([3.0], 1) == 0


@pytest.mark.parametrize("count", [2, 4, 5])
def test_standard_error_is_that_of_draws_without_replacement(count):
    """Over all samples of a population, the mean of its square is the variance of the sample mean."""
    population = [2.5, 3.0, 2.25, 4.0, 7.0]
    drawn = list(itertools.combinations(population, count))
    expected = numpy.var([numpy.mean(values) for values in drawn])
    assert numpy.mean([standard_error(values, 5) ** 2 for values in drawn]) == pytest.approx(expected, abs=1e-12)


def test_chosen_stacks():
    both = translation_model(1, 1)[1]
    assert chosen_stacks(both, "both") == ("encoder", "decoder") and chosen_stacks(both, "encoder") == ("encoder",)
    assert chosen_stacks({"decoder": both["decoder"]}, "both") == ("decoder",)
    with pytest.raises(UserError, match="this model has no encoder, only decoder"):
        chosen_stacks({"decoder": both["decoder"]}, "encoder")


class Asked:
    """A model with data and what scores it, and the scores that were asked for."""

    def __init__(self, made, translation):
        self.model, self.structure = made
        self.data = samples(translation)
        self.engine = Engine(self.model, self.structure, self.data)
        self.log = ScoreLog(None, {}, Processes())

    def scorer(self, sublayers):
        measure, count = loss(self.model, criterion()), sum(sample["ntokens"] for sample in self.data)
        return Scorer(self.engine, sublayers, measure, count, self.log)

    def losses_without(self, stacks=None, **given):
        return losses_without(self.structure, stacks or tuple(self.structure), self.scorer, **given)

    def bits_without(self, dropped):
        return pytest.approx(bits(without(self.model, self.structure, dropped), self.data), abs=1e-5)


@pytest.fixture(params=[True, False], ids=["translation", "lm"])
def asked(request):
    return Asked(translation_model(3, 4) if request.param else language_model(5), request.param)


class TestAgainstPrunedModels:
    def test_removals(self, asked):
        found = asked.losses_without()
        assert found["loss"] == pytest.approx(bits(asked.model, asked.data), abs=1e-5)
        for name, sublayers in ("layers", False), ("sub_layers", True):
            units = units_of(asked.structure, sublayers)
            assert [row["unit"] for row in found[name]] == [unit_name(unit) for unit in units]
            for row, unit in zip(found[name], units, strict=True):
                assert row["loss"] == asked.bits_without([unit])
                assert row["increase"] == row["loss"] - found["loss"] != 0

    def test_half_depth(self, asked):
        found = asked.losses_without(samples=2)
        layers = units_of(asked.structure, False)
        assert [row["unit"] for row in found["half_depth"]] == [unit_name(layer) for layer in layers]
        for row, (stack, number, _) in zip(found["half_depth"], layers, strict=True):
            depth = len(asked.structure[stack])
            losses = []
            assert len(row["subnetworks"]) == len({network["prune_layers"] for network in row["subnetworks"]}) == 2
            assert row["existing"] == math.comb(depth - 1, depth // 2)
            for network in row["subnetworks"]:
                plan = parse(network["prune_layers"]).resolve(asked.structure)
                for other, part in plan.stacks.items():
                    assert len(part.layers) == (depth // 2 if other == stack else part.depth)
                assert number not in plan.stacks[stack].layers
                dropped = [layer for layer in layers if layer[1] not in plan.stacks[layer[0]].layers]
                assert network["loss"] == asked.bits_without(dropped)
                losses.append(network["loss"])
            assert row["mean"] == pytest.approx(numpy.mean(losses), rel=1e-12)
            expected = numpy.std(losses, ddof=1) * math.sqrt(1 / 2 - 1 / row["existing"])
            assert row["standard_error"] == pytest.approx(expected, rel=1e-9)

    def test_a_stack_of_one_layer(self):
        """Without it nothing of the stack is left; there are no sub-networks of half its depth."""
        asked = Asked(translation_model(1, 2), True)
        found = asked.losses_without()
        empty = copy.deepcopy(asked.model)
        empty.encoder.layers = torch.nn.ModuleList()
        assert found["layers"][0]["loss"] == pytest.approx(bits(empty, asked.data), abs=1e-5)
        assert [row["unit"] for row in found["half_depth"]] == ["decoder.0", "decoder.1"]
        assert all(row["standard_error"] == 0 == row["existing"] - 1 for row in found["half_depth"])


class TestDraws:
    def test_a_stack_alone_draws_the_same(self):
        asked = Asked(translation_model(3, 7), True)
        both = asked.losses_without(samples=3)
        alone = asked.losses_without(stacks=("decoder",), samples=3)
        assert alone["loss"] == both["loss"]
        for name in ("layers", "sub_layers", "half_depth"):
            assert alone[name] == [row for row in both[name] if row["unit"].startswith("decoder")]

    def test_the_seed_changes_nothing_but_the_draws(self):
        asked = Asked(language_model(8), False)
        first, same, other = (asked.losses_without(samples=5, seed=seed) for seed in (1, 1, 2))
        assert first == same
        assert first["layers"] == other["layers"] and first["sub_layers"] == other["sub_layers"]
        assert all(ours != theirs for ours, theirs in zip(first["half_depth"], other["half_depth"], strict=True))

    def test_each_plan_is_scored_once_and_prefixes_are_shared(self):
        asked = Asked(language_model(6), False)
        found = asked.losses_without()
        names = [network["prune_layers"] for row in found["half_depth"] for network in row["subnetworks"]]
        assert len(names) == 6 * 10 and len(set(names)) == math.comb(6, 3)
        assert len(asked.log.known) == 1 + 6 + 12 + math.comb(6, 3)
        # Beginnings of the sub-networks and of the 5- and 6-layer plans; then those of the plans without a sub-layer.
        plans = [parse(name).resolve(asked.structure).stacks["decoder"].layers for name in set(names)]
        plans += [tuple(layer for layer in range(6) if layer != dropped) for dropped in range(-1, 6)]
        layers = {plan[:end] for plan in plans for end in range(1, len(plan) + 1)}
        sublayers = sum(11 - dropped for dropped in range(12)) + 11
        assert asked.engine.evaluations == len(layers) + sublayers


class TestPlanted:
    """Layers that do nothing, in a model that is right and sure, so that what it needs costs loss."""

    def found(self, translation, silent):
        pre_norm = {"encoder_normalize_before": True, "decoder_normalize_before": True}
        untied = {"share_decoder_input_output_embed": False, **pre_norm}  # the input isn't made larger with the output
        made = translation_model(4, 6, **pre_norm) if translation else language_model(6, **untied)
        for unit in silent:
            silence(made[0], unit)
        with torch.no_grad():
            made[0].decoder.output_projection.weight *= 10
        asked = Asked(made, translation)
        for output, sample in zip(logits(asked.model, asked.data), asked.data, strict=True):
            output[..., PAD] = -math.inf
            best = output.argmax(-1)
            sample["target"] = torch.where(sample["target"].ne(PAD), best, PAD)
        return asked.losses_without()

    @pytest.mark.parametrize("silent", [[("decoder", 3, None)], [("encoder", 1, None), ("decoder", 0, None)]])
    def test_a_useless_layer_has_the_least_increase(self, silent):
        found = self.found(silent[0][0] == "encoder", silent)
        for stack, number, _ in silent:
            increases = {row["unit"]: row["increase"] for row in found["layers"] if row["unit"].startswith(stack)}
            assert min(increases, key=increases.get) == f"{stack}.{number}"
            increases = {row["unit"]: row["increase"] for row in found["sub_layers"] if row["unit"].startswith(stack)}
            own = {unit for unit in increases if unit.startswith(f"{stack}.{number}.")}
            assert len(own) >= 2 and set(sorted(increases, key=increases.get)[: len(own)]) == own

    @pytest.mark.parametrize("useful", [0, 2, 5])
    def test_the_one_useful_layer_is_missed_most_at_half_depth(self, useful):
        silent = [("decoder", number, None) for number in range(6) if number != useful]
        means = [row["mean"] for row in self.found(False, silent)["half_depth"]]
        assert means.index(max(means)) == useful
        assert min(means[:useful] + means[useful + 1 :]) > 0.2 * means[useful]  # 4 of 10 lack the useful layer, too
        assert max(means[:useful] + means[useful + 1 :]) < 0.6 * means[useful]
