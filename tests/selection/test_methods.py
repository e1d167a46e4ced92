"""Each method against numbers worked out another way, and on models with layers that do next to nothing."""

import itertools
import math

import numpy
import pytest
import torch

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.running.engine import Engine
from fairseq_layerdrop.running.measures import Distance, loss
from fairseq_layerdrop.running.scorer import Processes, ScoreLog, Scorer
from fairseq_layerdrop.selection.budget import Budget, protected_ends
from fairseq_layerdrop.selection.methods import METHODS
from fairseq_layerdrop.selection.problem import SelectionProblem
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

PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}


class Asked:
    """A method with a model and data, as the command asks it."""

    def __init__(self, made, translation=True):
        self.model, self.structure = made
        self.data = samples(translation)
        self.engine = Engine(self.model, self.structure, self.data)

    def scorer(self, name):
        tokens = sum(sample["ntokens"] for sample in self.data)
        if name == "loss":
            measure, total = loss(self.model, criterion()), tokens
        else:
            measure = Distance(self.engine, name, PAD)
            total = tokens if measure.by == "tokens" else sum(len(sample["target"]) for sample in self.data)
        return Scorer(self.engine, self.sublayers, measure, total, ScoreLog(None, {}, Processes()), name)

    def __call__(self, name, keep=None, total=None, stacks=None, ends=None, sublayers=None, metric=None, **options):
        method = METHODS[name]
        self.sublayers = method.sublayers if sublayers is None else sublayers
        units = self.engine.units(self.sublayers)
        keep = keep or {}
        budget = Budget(
            units, stacks or tuple(keep) or tuple(self.engine.structure), keep, total,
            protected_ends(units, *(method.protects if ends is None else ends)),
        )  # fmt: skip
        options = {"protect_share": 0.0, "max_plans": 5000, "beam_width": 8, **options}
        return method(SelectionProblem(self.engine, budget, PAD, criterion(), self.scorer, metric, options))

    def removed(self, *args, **kwargs):
        return [unit for unit, _ in self(*args, **kwargs).removals]


def layer(stack, *numbers):
    return [(stack, number, None) for number in numbers]


class TestPlanted:
    """Layers and sub-layers made to be near-identities go first, whatever the method."""

    LAYERS = ("contribution", "block-influence", "relative-magnitude", "taylor", "sleb")

    def planted(self, translation, units):
        made = translation_model(4, 5, **PRE_NORM) if translation else language_model(6, **PRE_NORM)
        for unit in units:
            silence(made[0], unit)
        with torch.no_grad():
            made[0].decoder.output_projection.weight *= 10
        asked = Asked(made, translation)
        for output, sample in zip(logits(asked.model, asked.data), asked.data, strict=True):
            output[..., PAD] = -math.inf
            best = output.argmax(-1)  # the model is right and sure, so that what it needs costs loss
            sample["target"] = torch.where(sample["target"].ne(PAD), best, PAD)
        return asked

    @pytest.mark.parametrize("name", LAYERS)
    @pytest.mark.parametrize("translation", [True, False])
    def test_layers(self, name, translation):
        planted = [("encoder", 2, None), ("decoder", 1, None)] if translation else layer("decoder", 1, 4)
        total = 7 if translation else 4
        assert set(self.planted(translation, planted).removed(name, total=total, ends=(0, 0))) == set(planted)

    @pytest.mark.parametrize("name", ["search", "angular"])
    def test_layers_of_one_stack(self, name):
        planted = layer("decoder", 2, 3)
        assert self.planted(True, planted).removed(name, keep={"decoder": 3}) == planted

    @pytest.mark.parametrize("name", ["similarity", "blockpruner", "finercut", "search"])
    @pytest.mark.parametrize("translation", [True, False])
    def test_sublayers(self, name, translation):
        planted = [("decoder", 1, "ffn"), ("decoder", 3, "self_attn")]
        if translation:
            planted += [("encoder", 2, "ffn"), ("decoder", 2, "encoder_attn")]
        total = 8 + 15 - 4 if translation else 12 - 2
        asked = self.planted(translation, planted)
        assert set(asked.removed(name, total=total, sublayers=True, max_plans=100)) == set(planted)

    @pytest.mark.parametrize("metric", ["js", "js-reversed", "kl", "angular", "norm"])
    def test_every_distance(self, metric):
        planted = [("decoder", 1, "ffn"), ("encoder", 3, "self_attn")]
        assert set(self.planted(True, planted).removed("finercut", total=21, metric=metric)) == set(planted)


def states_by_hooks(model, stack, data, places):
    """Inputs and outputs of a stack's layers at some places of each sentence: lists of N x C, by layer."""
    layers = list(getattr(model, stack).layers)
    seen = {number: ([], []) for number in range(len(layers))}
    for sample in data:
        name = (
            "prev_output_tokens" if stack == "decoder" and "prev_output_tokens" in sample["net_input"] else "src_tokens"
        )
        tokens = sample["net_input"][name]
        rows = [(row, place) for row in range(len(tokens)) for place in places(tokens[row].ne(PAD).nonzero().view(-1))]

        def hook(module, args, kwargs, out, rows=rows):
            number = next(n for n, one in enumerate(layers) if one is module)
            out = out[0] if isinstance(out, tuple) else out
            for row, place in rows:
                seen[number][0].append(args[0][place, row].numpy().astype(float))
                seen[number][1].append(out[place, row].numpy().astype(float))

        hooks = [one.register_forward_hook(hook, with_kwargs=True) for one in layers]
        with torch.no_grad():
            model(**sample["net_input"])
        for one in hooks:
            one.remove()
    return [(numpy.array(seen[n][0]), numpy.array(seen[n][1])) for n in range(len(layers))]


def cosines(before, after):
    return (before * after).sum(-1) / numpy.linalg.norm(before, axis=-1) / numpy.linalg.norm(after, axis=-1)


def every(places):
    return [int(place) for place in places]


class TestOneShot:
    @pytest.fixture
    def asked(self):
        return Asked(translation_model())

    def scores(self, answer):
        return dict(answer.removals)

    def expected(self, asked, value, encoder=every, decoder=every):
        found = {}
        for stack, places in (("encoder", encoder), ("decoder", decoder)):
            for number, (before, after) in enumerate(states_by_hooks(asked.model, stack, asked.data, places)):
                found[stack, number, None] = float(value(before, after).mean())
        return found

    def check(self, answer, expected):
        for unit, score in answer.removals:
            assert score == pytest.approx(expected[unit], rel=1e-5)
        assert [unit for unit, _ in answer.removals] == sorted(
            (unit for unit, _ in answer.removals), key=expected.__getitem__
        )
        assert len(answer.removals) == 5  # one layer of each stack stays

    def test_block_influence(self, asked):
        self.check(asked("block-influence"), self.expected(asked, lambda a, b: 1 - cosines(a, b)))

    def test_relative_magnitude(self, asked):
        norm = numpy.linalg.norm
        expected = self.expected(asked, lambda a, b: norm(b - a, axis=-1) / norm(b, axis=-1))
        self.check(asked("relative-magnitude"), expected)

    def test_contribution_looks_at_the_first_token_of_encoders(self, asked):
        expected = self.expected(asked, lambda a, b: -cosines(a, b), encoder=lambda places: [int(places[0])])
        self.check(asked("contribution"), expected)
        threshold = -sorted(expected.values())[2] + 1e-9
        assert len(asked.removed("contribution", threshold=threshold)) == 2

    def test_similarity_of_sublayers(self, asked):
        """Of a feed-forward sub-layer by hand: the rest of the layer is taken away before."""
        scores = self.scores(asked("similarity"))
        units = asked.engine.units(True)
        assert len(scores) == len(units) - 2
        for unit in [("decoder", 2, "encoder_attn"), ("encoder", 1, "ffn")]:
            before = [one for one in units if units.index(one) < units.index(unit)]
            stack = unit[0]
            values = []
            for (states, sample), (after, _) in zip(
                asked.engine.hidden(before, stack), asked.engine.hidden([*before, unit], stack), strict=True
            ):
                name = "prev_output_tokens" if stack == "decoder" else "src_tokens"
                where = sample["net_input"][name].ne(PAD).T
                values += list(1 - cosines(states[-1][where].double().numpy(), after[-1][where].double().numpy()))
            assert scores[unit] == pytest.approx(numpy.mean(values), rel=1e-5)

    def test_angular(self, asked):
        """Runs of two decoder layers; the sentences' last tokens."""
        states = states_by_hooks(asked.model, "decoder", asked.data, lambda places: [int(places[-1])])
        angles = [
            float(numpy.arccos(cosines(states[first][0], states[first + 1][1])).mean() / math.pi) for first in range(3)
        ]
        answer = asked("angular", keep={"decoder": 2})
        first = int(numpy.argmin(angles))
        assert [unit for unit, _ in answer.removals] == layer("decoder", first, first + 1)
        assert answer.removals[0][1] == pytest.approx(angles[first], rel=1e-5)
        protected = asked("angular", keep={"decoder": 2}, ends=(0, 1))
        free = int(numpy.argmin(angles[:2]))
        assert [unit for unit, _ in protected.removals] == layer("decoder", free, free + 1)

    def test_taylor(self, asked):
        model = asked.model.requires_grad_(True)
        total = sum(criterion()(model, sample)[0] for sample in asked.data)
        expected = {}
        for stack, number, _ in asked.engine.units(False):
            weights = [p for p in getattr(model, stack).layers[number].parameters() if p.dim() == 2]
            gradients = torch.autograd.grad(total, weights, retain_graph=True)
            expected[stack, number, None] = sum(float((w * g).abs().sum()) for w, g in zip(weights, gradients))
        answer = asked("taylor", ends=(0, 0))
        self.check(answer, expected)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert asked.removed("taylor", ends=(1, 1), stacks=("decoder",)) == sorted(
            layer("decoder", 1, 2), key=expected.__getitem__
        )

    def test_a_score_that_is_no_number(self, asked):
        with torch.no_grad():
            asked.model.decoder.layers[1].fc1.weight[0, 0] = math.nan
        for name in ("block-influence", "sleb", "finercut"):
            with pytest.raises(UserError, match="nan; the model or the data is broken"):
                asked(name, stacks=("decoder",))


def greedy_by_hand(asked, units, score, protected=lambda dropped: ()):
    """Remove one by one what leaves the lowest score, each candidate from scratch."""
    dropped = []
    while True:
        candidates = [
            unit
            for unit in units
            if unit not in dropped
            and sum(other[0] == unit[0] and other not in dropped for other in units) > 1
            and unit not in protected(dropped)
        ]
        if not candidates:
            return dropped
        dropped.append(min(candidates, key=lambda unit: score(without(asked.model, asked.structure, [*dropped, unit]))))


class TestGreedy:
    def test_sleb(self):
        asked = Asked(translation_model())
        units = asked.engine.units(False)
        inner = [unit for unit in units if unit[1] not in (0, 2 if unit[0] == "encoder" else 3)]
        expected = greedy_by_hand(
            asked, units, lambda model: bits(model, asked.data), lambda dropped: set(units) - set(inner)
        )
        answer = asked("sleb")
        assert [unit for unit, _ in answer.removals] == expected and len(expected) == 3
        assert answer.score == pytest.approx(
            bits(without(asked.model, asked.structure, expected), asked.data), rel=1e-6
        )

    def test_blockpruner(self):
        asked = Asked(language_model(3), translation=False)
        expected = greedy_by_hand(asked, asked.engine.units(True), lambda model: bits(model, asked.data))
        assert asked.removed("blockpruner") == expected and len(expected) == 5

    def js(self, asked):
        dense = logits(asked.model, asked.data)

        def score(model):
            total = 0.0
            for z0, z, sample in zip(dense, logits(model, asked.data), asked.data):
                wanted = sample["target"].ne(PAD)
                p, q = (torch.softmax(one[wanted].double(), -1) for one in (z0, z))
                m = (p + q) / 2
                total += float(((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2)
            return total

        return score

    def test_finercut(self):
        asked = Asked(language_model(3), translation=False)
        expected = greedy_by_hand(asked, asked.engine.units(True), self.js(asked))
        assert asked.removed("finercut") == expected

    def test_finercuts_protected_share(self):
        """Of 4 layers int(4 * 0.4) + 1 = 2 are protected until int(8 * 0.4) + 1 = 4 sub-layers are gone."""
        asked = Asked(language_model(4), translation=False)
        units = asked.engine.units(True)

        def protected(dropped):
            return {unit for unit in units if unit[1] < 2} if len(dropped) < 4 else ()

        expected = greedy_by_hand(asked, units, self.js(asked), protected)
        assert asked.removed("finercut", protect_share=0.4) == expected
        assert all(unit[1] >= 2 for unit in expected[:4]) and expected[4][1] < 2

    @pytest.mark.parametrize("name", ["sleb", "blockpruner", "finercut"])
    def test_a_depth_of_the_ladder_is_the_run_stopped_there(self, name):
        asked = Asked(translation_model())
        ladder = asked(name, ends=(0, 0))
        units = asked.engine.units(asked.sublayers)
        for count in (1, 3):
            stopped = asked(name, total=len(units) - count, ends=(0, 0))
            assert stopped.removals == ladder.removals[:count]
        decoder = asked(name, stacks=("decoder",), ends=(0, 0))
        keep = sum(unit[0] == "decoder" for unit in units) - 2
        assert asked(name, keep={"decoder": keep}, ends=(0, 0)).removals == decoder.removals[:2]

    def test_counts(self):
        """Removal k of U units runs the suffixes of its candidates, and what they have in common once."""
        asked = Asked(language_model(5), translation=False)
        asked("sleb", total=4, ends=(0, 0))
        assert asked.engine.evaluations == (5 - 1) + sum(range(5)) < 5 * 4


class TestSearch:
    def best(self, asked, plans):
        return min(plans, key=lambda dropped: bits(without(asked.model, asked.structure, dropped), asked.data))

    def test_exhaustive_on_one_stack(self):
        asked = Asked(translation_model())
        expected = self.best(asked, list(itertools.combinations(layer("decoder", 0, 1, 2, 3), 2)))
        answer = asked("search", keep={"decoder": 2})
        assert tuple(unit for unit, _ in answer.removals) == expected
        assert answer.score == pytest.approx(
            bits(without(asked.model, asked.structure, expected), asked.data), rel=1e-6
        )
        assert not answer.nested

    def test_jointly(self):
        asked = Asked(translation_model())
        both = [
            (*e, *d)
            for e in itertools.combinations(layer("encoder", 0, 1, 2), 1)
            for d in itertools.combinations(layer("decoder", 0, 1, 2, 3), 2)
        ]
        assert tuple(asked.removed("search", keep={"encoder": 2, "decoder": 2})) == self.best(asked, both)
        total = [
            plan
            for plan in itertools.combinations(asked.engine.units(False), 4)
            if {unit[0] for unit in asked.engine.units(False) if unit not in plan} == {"encoder", "decoder"}
        ]
        assert tuple(asked.removed("search", total=3)) == self.best(asked, total)

    def test_a_beam_of_all_is_exhaustive(self):
        asked = Asked(translation_model())
        assert asked.removed("search", keep={"decoder": 2}, max_plans=1, beam_width=99) == asked.removed(
            "search", keep={"decoder": 2}
        )

    def test_a_beam_of_one_is_greedy(self):
        asked = Asked(translation_model())
        assert set(asked.removed("search", total=4, max_plans=1, beam_width=1)) == set(
            asked.removed("sleb", total=4, ends=(0, 0))
        )

    def test_wants_a_number(self):
        for name, words in (("search", "makes no ladder"), ("angular", "needs the number of layers to keep")):
            with pytest.raises(UserError, match=words):
                Asked(translation_model())(name)


class TestBudget:
    UNITS = Asked(translation_model()).engine.units(False)

    @pytest.mark.parametrize(
        "arguments, words",
        [
            ({"stacks": ("decoder",), "keep": {"decoder": 5}}, "can keep 1 to 4 layers of the decoder, not 5"),
            ({"stacks": ("decoder",), "keep": {"decoder": 0}}, "can keep 1 to 4 layers of the decoder, not 0"),
            ({"stacks": ("encoder", "decoder"), "keep": {}, "total": 1}, "can keep 2 to 7 layers in total, not 1"),
            (
                {"stacks": ("decoder",), "keep": {"decoder": 1}, "protected": frozenset(layer("decoder", 0, 3))},
                "can keep 2 to 4 layers of the decoder .the others are protected., not 1",
            ),
        ],
    )
    def test_numbers_that_cant_be_met(self, arguments, words):
        with pytest.raises(UserError, match=words):
            Budget(self.UNITS, **arguments)

    def test_no_such_stack(self):
        units = [unit for unit in self.UNITS if unit[0] == "decoder"]
        with pytest.raises(UserError, match="this model has no encoder, only decoder"):
            Budget(tuple(units), ("encoder",), {})


def test_equal_scores_drop_what_is_later():
    asked = Asked(translation_model())
    with torch.no_grad():
        for number in range(4):
            for parameter in asked.model.decoder.layers[number].parameters():
                parameter.zero_()  # post-norm: every layer gives zeros, whatever comes in
    assert asked.removed("sleb", keep={"decoder": 2}, ends=(0, 0)) == layer("decoder", 3, 2)
    assert asked.removed("search", keep={"decoder": 2}) == layer("decoder", 2, 3)
