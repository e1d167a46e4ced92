"""The mixture over sub-networks: brute force, its identities, the order of tokens, and going on after a kill."""

import copy
import itertools
import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_layerdrop.analysis import sub_networks
from fairseq_layerdrop.analysis.codes import (
    Hypotheses,
    code_lengths,
    every_sub_network,
    expected_code_length,
    log_posterior,
    prefix_lengths,
    sampled_sub_networks,
    weight_within,
    wilson_error,
)
from fairseq_layerdrop.analysis.sub_networks import Parts, walk
from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import units_of
from tests.running.models import PAD, language_model, samples, translation_model

RUN = {"fingerprint": "sha256:1", "rate": 0.2}


def text(translation):
    """Three batches whose sentences are out of order: 4, 2 | 0 | 5, 1, 3."""
    data = samples(translation)
    for sample, numbers in zip(data, ([4, 2], [0], [5, 1, 3])):
        sample["id"] = torch.tensor(numbers)
    return data


def rates_of(structure, **given):
    return tuple(given.get(stack, 0.0) for stack, _, _ in units_of(structure, sublayers=False))


def by_hand(model, data):
    """Log-probabilities of the vocabulary at each target token, N x V, and the targets; sentence 0 first."""
    rows = []
    with torch.no_grad():
        for sample in data:
            said = torch.log_softmax(model(**sample["net_input"])[0].double(), -1)
            for number, one, target in zip(sample["id"], said, sample["target"]):
                rows.append((int(number), one[target.ne(PAD)], target[target.ne(PAD)]))
    rows.sort(key=lambda row: row[0])
    return torch.cat([said for _, said, _ in rows]), torch.cat([target for _, _, target in rows])


def only(model, units, kept):
    """A copy of *model* that has no layers but those kept, of a stack maybe none."""
    small = copy.deepcopy(model)
    for stack in {unit[0] for unit in units}:
        own = getattr(small, stack)
        own.layers = torch.nn.ModuleList(
            own.layers[number] for (name, number, _), keep in zip(units, kept) if keep and name == stack
        )
    return small


def a_text(seed=0, masks=5, tokens=700):
    """Log-probabilities and prior weights at random; more tokens than are looked at together."""
    rng = numpy.random.default_rng(seed)
    log_probs = -rng.exponential(1 + rng.random((masks, 1)), (masks, tokens)).astype(numpy.float32)
    full = -rng.exponential(1.0, tokens).astype(numpy.float32)
    return log_probs, full, numpy.log(rng.dirichlet(numpy.ones(masks)))


class TestHypotheses:
    def test_every_one(self):
        made = every_sub_network((0.2, 0.0, 0.5))
        assert made.kept.tolist() == [[a, True, b] for a, b in itertools.product([False, True], repeat=2)]
        assert made.log_weights == pytest.approx(numpy.log([0.1, 0.1, 0.4, 0.4]))
        assert made.draws is None

    @given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=7))
    def test_weights_sum_to_one(self, rates):
        made = every_sub_network(rates)
        assert len(made) == 2 ** len(rates)
        assert numpy.exp(made.log_weights).sum() == pytest.approx(1)

    def test_the_price_of_a_sub_network(self):
        """Twelve layers at p = 0.2: 2.68 nats for the full network, 11.00 with six layers dropped."""
        made = every_sub_network((0.2,) * 12)
        price = {int(kept.sum()): -weight for kept, weight in zip(made.kept, made.log_weights)}
        assert (price[12], price[9], price[6]) == pytest.approx((2.68, 6.84, 11.00), abs=0.005)

    def test_sampled(self):
        made = sampled_sub_networks((0.2, 0.0, 0.5), 4000, seed=1)
        exact = every_sub_network((0.2, 0.0, 0.5))
        assert made.kept.tolist() == exact.kept.tolist() and made.draws == 4000
        weights, expected = numpy.exp(made.log_weights), numpy.exp(exact.log_weights)
        assert (abs(weights - expected) < 4 * wilson_error(expected, 4000)).all()
        assert made.log_full == exact.log_full == pytest.approx(exact.log_weights[-1])
        assert weights.sum() == pytest.approx(1) and -made.log_weights.min() <= math.log(4000)
        again = sampled_sub_networks((0.2, 0.0, 0.5), 4000, seed=1)
        assert (again.log_weights == made.log_weights).all()
        assert (sampled_sub_networks((0.2, 0.0, 0.5), 4000, seed=2).log_weights != made.log_weights).any()

    @pytest.mark.parametrize("rates", [(0.0, 0.0), (0.2, 1.0), (-0.1,)])
    def test_no_prior(self, rates):
        for make in (every_sub_network, lambda given: sampled_sub_networks(given, 10, 1)):
            with pytest.raises(UserError, match="needs a LayerDrop rate above 0 and below 1"):
                make(rates)


class TestCodeLengths:
    def test_against_a_learner_who_goes_token_by_token(self):
        """Also: the sum of its prequential code lengths is the block's, for every beginning."""
        log_probs, full, log_weights = a_text()
        codes = code_lengths(log_probs, full, log_weights)
        probs, prior = numpy.exp(log_probs.astype(float)), numpy.exp(log_weights)
        posterior, lengths = prior.copy(), dict.fromkeys(("mixture", "static", "map", "full"), 0.0)
        for t in range(probs.shape[1]):
            lengths["mixture"] -= math.log(posterior @ probs[:, t])
            lengths["static"] -= math.log(prior @ probs[:, t])
            lengths["map"] -= math.log(probs[posterior.argmax(), t])
            lengths["full"] -= full[t]
            posterior *= probs[:, t]
            posterior /= posterior.sum()
            for name, length in lengths.items():
                assert getattr(codes, name)[t] == pytest.approx(length, rel=1e-6)
        assert numpy.exp(log_posterior(codes.totals, log_weights)) == pytest.approx(posterior, abs=1e-9)

    def test_in_hindsight(self):
        log_probs, full, log_weights = a_text()
        codes = code_lengths(log_probs, full, log_weights)
        for count in (1, 255, 256, 257, 700):
            totals = -log_probs[:, :count].astype(float).sum(axis=1)
            assert codes.best[count - 1] == pytest.approx(totals.min())
            assert codes.best_mask[count - 1] == totals.argmin()
            assert codes.bound[count - 1] == pytest.approx((totals - log_weights).min())
            least = totals.min()
            block = least - math.log(numpy.exp(log_weights) @ numpy.exp(least - totals))
            assert codes.mixture[count - 1] == pytest.approx(block)
        assert codes.totals == pytest.approx(totals)

    @given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 30))
    def test_bounds_and_identity(self, seed, masks, tokens):
        log_probs, full, log_weights = a_text(seed, masks, tokens)
        codes = code_lengths(log_probs, full, log_weights)
        tiny = 1e-9 * (1 + codes.static)
        assert (codes.mixture <= codes.bound + tiny).all() and (codes.best <= codes.mixture + tiny).all()
        assert (codes.regret <= -log_weights[codes.best_mask] + tiny).all()
        expected, gap = expected_code_length(codes.totals, log_weights)
        assert expected == pytest.approx(codes.mixture[-1] + gap, rel=1e-9) and gap >= -1e-9

    def test_a_single_hypothesis_is_the_full_network(self):
        _, full, _ = a_text()
        codes = code_lengths(full[None], full, numpy.zeros(1))
        for name in ("best", "static", "mixture", "map", "bound"):
            assert getattr(codes, name) == pytest.approx(codes.full)
        assert expected_code_length(codes.totals, numpy.zeros(1)) == pytest.approx((codes.full[-1], 0))

    def test_equal_hypotheses_leave_the_prior_as_it_is(self):
        """E_w[L] is the code length then, whatever the prior: the training's bound is tight."""
        _, full, log_weights = a_text()
        codes = code_lengths(numpy.tile(full, (5, 1)), full, log_weights)
        assert log_posterior(codes.totals, log_weights) == pytest.approx(log_weights)
        assert expected_code_length(codes.totals, log_weights) == pytest.approx((codes.full[-1], 0), abs=1e-6)


class TestWeightWithin:
    def test_of_all(self):
        hypotheses = every_sub_network((0.4, 0.5))
        weights, error = weight_within(numpy.array([0.3, 0.4, 0.1, 0.0]), hypotheses, (0, 0.1, 0.35, 1))
        assert weights == pytest.approx([0.3, 0.6, 0.8, 1]) and error is None

    def test_the_full_networks_own_weight_is_known(self):
        """It was drawn in 1 of 5 draws, and has the weight 0.25."""
        kept = numpy.array([[False, True], [True, False], [True, True]])
        hypotheses = Hypotheses(kept, numpy.log([0.6, 0.2, 0.2]), math.log(0.25), draws=5)
        weights, errors = weight_within(numpy.array([0.3, 0.1, 0.0]), hypotheses, (0, 0.1, 0.3))
        assert weights == pytest.approx([0.25, 0.25 + 0.75 / 4, 1])
        assert errors == pytest.approx([0.75 * 0.5 / 5, 0.75 * math.sqrt(0.75 + 0.25) / 5, 0.75 * 0.5 / 5])

    def test_no_draw_hits(self):
        kept, rates = numpy.zeros((1, 20), dtype=bool), numpy.full(20, 0.2)
        hypotheses = Hypotheses(kept, numpy.zeros(1), numpy.log1p(-rates).sum(), draws=9)
        weights, errors = weight_within(numpy.ones(1), hypotheses, (0.1,))
        assert weights == pytest.approx([0.8**20]) and errors == pytest.approx([(1 - 0.8**20) * 0.05])

    def test_none_but_the_full_network_is_drawn(self):
        hypotheses = sampled_sub_networks((1e-9,), 3, seed=1)
        weights, errors = weight_within(numpy.zeros(1), hypotheses, (0.1,))
        assert weights == pytest.approx([1]) and errors == pytest.approx([0], abs=1e-8)

    def test_wilson(self):
        """Half of the interval of the shares whose distance from q is at most their own standard error."""
        for count, draws in ((0, 9), (3, 9), (9, 9), (40, 100)):
            grid = numpy.linspace(0, 1, 200001)
            inside = grid[abs(grid - count / draws) <= numpy.sqrt(grid * (1 - grid) / draws) + 1e-12]
            expected = (inside.max() - inside.min()) / 2
            assert wilson_error(numpy.array(count / draws), draws) == pytest.approx(expected, abs=1e-5)


def test_prefix_lengths():
    lengths = prefix_lengths(5000)
    assert (lengths[0], lengths[-1]) == (1, 5000) and (numpy.diff(lengths) > 0).all() and len(lengths) <= 64
    assert prefix_lengths(1).tolist() == [1]


class TestWalk:
    def check(self, model, structure, data, hypotheses, folder):
        """Against models of which the dropped layers are really gone."""
        scores = walk(model, structure, data, hypotheses, PAD, Parts(folder, RUN))
        units = units_of(structure, sublayers=False)
        dense, targets = by_hand(model, data)

        def of_targets(said):
            return said.gather(-1, targets[:, None])[:, 0].numpy()

        assert scores.full == pytest.approx(of_targets(dense), abs=1e-4)
        for kept, log_probs, kl in zip(hypotheses.kept, scores.log_probs, scores.kl, strict=True):
            said, _ = by_hand(only(model, units, kept), data)
            assert log_probs == pytest.approx(of_targets(said), abs=1e-4)
            assert kl == pytest.approx(float((dense.exp() * (dense - said)).sum(-1).mean()), rel=1e-3, abs=1e-5)
            assert kept.all() == (kl < 1e-6)

    def test_language_model(self, tmp_path):
        model, structure = language_model(3)
        self.check(model, structure, text(False), every_sub_network((0.2,) * 3), tmp_path)

    def test_decoder(self, tmp_path):
        model, structure = translation_model(2, 3, decoder_normalize_before=True)
        self.check(model, structure, text(True), every_sub_network(rates_of(structure, decoder=0.3)), tmp_path)

    def test_both_stacks(self, tmp_path):
        model, structure = translation_model(2, 2)
        rates = rates_of(structure, encoder=0.1, decoder=0.3)
        self.check(model, structure, text(True), every_sub_network(rates), tmp_path)

    def test_adaptive_softmax(self, tmp_path):
        model, structure = language_model(
            2, criterion="adaptive_loss", adaptive_softmax_cutoff="10,20", share_decoder_input_output_embed=False
        )
        data, hypotheses = text(False), every_sub_network((0.5, 0.5))
        scores = walk(model, structure, data, hypotheses, PAD, Parts(tmp_path, RUN))
        rows = {}
        with torch.no_grad():
            for sample in data:
                said = model.get_normalized_probs(model(**sample["net_input"]), log_probs=True)
                for number, one, target in zip(sample["id"].tolist(), said, sample["target"]):
                    rows[number] = one.gather(-1, target[:, None])[:, 0][target.ne(PAD)]
        expected = torch.cat([rows[number] for number in sorted(rows)]).numpy()
        assert scores.full == pytest.approx(expected, abs=1e-4)
        assert scores.log_probs[-1] == pytest.approx(expected, abs=1e-4)

    def test_each_beginning_runs_once(self, tmp_path):
        model, structure = language_model(6)
        calls = []
        for layer in model.decoder.layers:
            layer.register_forward_hook(lambda *_: calls.append(1))
        walk(model, structure, text(False), every_sub_network((0.2,) * 6), PAD, Parts(tmp_path, RUN))
        assert len(calls) == 3 * (2**6 - 1)

    def test_chunks_of_tokens_change_nothing(self, tmp_path, monkeypatch):
        model, structure = translation_model(1, 2)
        hypotheses = every_sub_network(rates_of(structure, decoder=0.2))
        whole = walk(model, structure, text(True), hypotheses, PAD, Parts(tmp_path / "whole", RUN))
        monkeypatch.setattr(sub_networks, "_CHUNK", 2)
        parts = walk(model, structure, text(True), hypotheses, PAD, Parts(tmp_path / "parts", RUN))
        assert parts.log_probs == pytest.approx(whole.log_probs, abs=1e-5)
        assert parts.kl == pytest.approx(whole.kl, abs=1e-6)

    def test_sampled_is_near_exact(self, tmp_path):
        """Within five standard errors: the mean over the prior, and the weight of a ball."""
        model, structure = language_model(6)
        data, rates, draws = text(False), (0.3,) * 6, 400
        exact, drawn = every_sub_network(rates), sampled_sub_networks(rates, draws, seed=1)
        assert len(drawn) < len(exact)
        told, estimated = (
            walk(model, structure, data, hypotheses, PAD, Parts(tmp_path / str(len(hypotheses)), RUN))
            for hypotheses in (exact, drawn)
        )
        totals = -told.log_probs.astype(float).sum(axis=1)
        mean, _ = expected_code_length(totals, exact.log_weights)
        spread = math.sqrt(numpy.exp(exact.log_weights) @ (totals - mean) ** 2)
        found, _ = expected_code_length(-estimated.log_probs.astype(float).sum(axis=1), drawn.log_weights)
        assert abs(found - mean) < 5 * spread / math.sqrt(draws) and found != mean
        radius = [float(numpy.median(told.kl))]
        weight, _ = weight_within(told.kl, exact, radius)
        estimate, error = weight_within(estimated.kl, drawn, radius)
        assert abs(estimate - weight) < 5 * error
        assert 0.05 < weight < 0.95

    def test_goes_on(self, tmp_path):
        """Stopped after a batch, a run scores the rest alone, and ends as one that wasn't stopped."""
        model, structure = translation_model(1, 3)
        data, hypotheses = text(True), every_sub_network(rates_of(structure, decoder=0.2))
        whole = walk(model, structure, data, hypotheses, PAD, Parts(tmp_path / "whole", RUN))
        parts = Parts(tmp_path / "cut", RUN)
        model.decoder.layers[-1].register_forward_hook(stop := Stop(4 + 2))  # of 4 in each batch
        with pytest.raises(KeyboardInterrupt):
            walk(model, structure, data, hypotheses, PAD, parts)
        assert [number in parts for number in range(3)] == [True, False, False]
        stop.left = math.inf
        again = walk(model, structure, data, hypotheses, PAD, Parts(tmp_path / "cut", RUN))
        assert stop.calls == 6 + 2 * 4
        for name in ("log_probs", "full", "kl"):
            assert (getattr(again, name) == getattr(whole, name)).all()

    def test_no_probability(self, tmp_path):
        model, structure = language_model(2)
        with torch.no_grad():
            model.decoder.layers[0].fc2.bias[0] = math.nan
        with pytest.raises(UserError, match="gives a target token no probability"):
            walk(model, structure, text(False), every_sub_network((0.2, 0.2)), PAD, Parts(tmp_path, RUN))


class Stop:
    """A hook that interrupts after so many calls."""

    def __init__(self, left):
        self.left, self.calls = left, 0

    def __call__(self, *_):
        if self.calls == self.left:
            raise KeyboardInterrupt
        self.calls += 1


class TestParts:
    def test_another_run_is_refused(self, tmp_path):
        Parts(tmp_path / "0", RUN)
        Parts(tmp_path / "0", RUN)
        with pytest.raises(UserError, match=r"is of another run: its rate is 0\.2, not 0.3; give another DIR"):
            Parts(tmp_path / "0", {**RUN, "rate": 0.3})
        with pytest.raises(UserError, match="is of another run: it is of another checkpoint"):
            Parts(tmp_path / "0", {**RUN, "fingerprint": "sha256:2"})

    @pytest.mark.parametrize("words", ["", "[1]", "{}", '{"format": "other", "run": {}}'])
    def test_not_of_this_kind(self, tmp_path, words):
        (tmp_path / "run.json").write_text(words)
        with pytest.raises(UserError, match="doesn't describe parts of a mixture"):
            Parts(tmp_path, RUN)

    def test_damaged(self, tmp_path):
        parts = Parts(tmp_path, RUN)
        parts.write(0, kl=numpy.arange(3.0))
        assert parts.read(0, "kl")["kl"].tolist() == [0, 1, 2]
        whole = (tmp_path / "000000.npz").read_bytes()
        for broken in (b"", whole[:40], b"text"):
            (tmp_path / "000000.npz").write_bytes(broken)
            with pytest.raises(UserError, match=r"000000\.npz is damaged; remove it"):
                parts.read(0, "kl")

    def test_are_removed(self, tmp_path):
        parts = Parts(tmp_path / "0", RUN)
        parts.write(0, kl=numpy.zeros(1))
        parts.remove()
        assert not (tmp_path / "0").exists()

    def test_what_isnt_theirs_stays(self, tmp_path):
        parts = Parts(tmp_path / "0", RUN)
        parts.write(0, kl=numpy.zeros(1))
        (tmp_path / "0/.000001.npz.tmp").touch()
        parts.remove()
        assert [path.name for path in (tmp_path / "0").iterdir()] == [".000001.npz.tmp"]

    def test_a_folder_that_cant_be(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot write"):
            Parts(tmp_path / "file" / "0", RUN)
