"""Loss and distances, against numpy and by hand."""

import math

import numpy
import pytest
import torch

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.running.engine import Engine
from fairseq_layerdrop.running.measures import DISTANCES, Distance, loss
from tests.running.models import PAD, bits, criterion, language_model, logits, samples, translation_model, without


def softmax(z):
    e = numpy.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def numpy_kl(p, q):
    return (p * numpy.log(p / q)).sum(-1)


BY_HAND = {
    "js": lambda z0, z, p0, p, m: (numpy_kl(p0, m) + numpy_kl(p, m)) / 2,
    "js-reversed": lambda z0, z, p0, p, m: (numpy_kl(m, p0) + numpy_kl(m, p)) / 2,
    "kl": lambda z0, z, p0, p, m: numpy_kl(p0, p),
    "angular": lambda z0, z, p0, p, m: numpy.arccos(
        numpy.clip((z0 * z).sum(-1) / numpy.linalg.norm(z0, axis=-1) / numpy.linalg.norm(z, axis=-1), 0, 1)
    ),
    "norm": lambda z0, z, p0, p, m: ((z0 - z) ** 2).sum(-1),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_distances(name):
    rng = numpy.random.default_rng(1)
    z0, z = rng.normal(size=(2, 5, 7)).astype(numpy.float32)
    p0, p = softmax(z0.astype(float)), softmax(z.astype(float))
    expected = BY_HAND[name](z0.astype(float), z.astype(float), p0, p, (p0 + p) / 2)
    ours = DISTANCES[name](torch.from_numpy(z0), torch.from_numpy(z))
    numpy.testing.assert_allclose(ours.numpy(), expected, rtol=2e-4)
    assert float(DISTANCES[name](torch.from_numpy(z0), torch.from_numpy(z0)).abs().max()) < 2e-3


def test_the_two_forms_of_jensen_shannon():
    """The textbook's stays below ln 2, the official code's doesn't."""
    far = torch.tensor([[60.0, 0.0]]), torch.tensor([[0.0, 60.0]])
    assert float(DISTANCES["js"](*far)) == pytest.approx(math.log(2), rel=1e-5)
    assert float(DISTANCES["js-reversed"](*far)) == pytest.approx(30 - math.log(2), rel=1e-4)


@pytest.mark.parametrize("translation", [True, False])
def test_loss_is_the_cross_entropy_in_bits(translation):
    model, structure = translation_model() if translation else language_model()
    data = samples(translation)
    engine = Engine(model, structure, data)
    measure, count = loss(model, criterion()), sum(sample["ntokens"] for sample in data)
    dropped = [("decoder", 2, None)]
    for plan, expected in (
        (engine.units(False), bits(model, data)),
        ([u for u in engine.units(False) if u not in dropped], bits(without(model, structure, dropped), data)),
    ):
        assert engine.score(plan, measure, 0) / count == pytest.approx(expected, rel=1e-6)


def test_distance_with_an_adaptive_softmax():
    """The whole distributions are compared, not the bands of the targets alone."""
    model, structure = language_model(
        criterion="adaptive_loss", adaptive_softmax_cutoff="10,20", share_decoder_input_output_embed=False
    )
    data = samples(False)
    engine = Engine(model, structure, data)
    dropped = [("decoder", 1, "ffn")]
    kept = [unit for unit in engine.units(True) if unit not in dropped]
    small, expected = without(model, structure, dropped), 0.0
    with torch.inference_mode():
        for sample in data:
            wanted = sample["target"].ne(PAD)
            p, q = (
                one.decoder.adaptive_softmax.get_log_prob(one(**sample["net_input"])[0], None)[wanted].exp().double()
                for one in (model, small)
            )
            assert torch.allclose(p.sum(-1), torch.ones(1, dtype=torch.double), atol=1e-4)
            m = (p + q) / 2
            expected += float(((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2)
    assert engine.score(kept, Distance(engine, "js", PAD), 0) == pytest.approx(expected, rel=1e-4)


def test_the_full_models_outputs_must_fit():
    model, structure = language_model()
    engine = Engine(model, structure, samples(False), memory=2000)
    with pytest.raises(UserError, match=r"outputs for 27 tokens take 4\.22kB; look at fewer"):
        engine.score(engine.units(True), Distance(engine, "js", PAD), 0)


@pytest.mark.parametrize("name", ["js", "norm"])
def test_distance_of_a_plan(name):
    model, structure = translation_model()
    data = samples(True)
    engine = Engine(model, structure, data)
    dropped = [("decoder", 1, "ffn")]
    kept = [unit for unit in engine.units(True) if unit not in dropped]
    expected = 0.0
    for z0, z, sample in zip(logits(model, data), logits(without(model, structure, dropped), data), data):
        for row in range(len(z0)):
            wanted = sample["target"][row] != PAD
            distances = DISTANCES[name](z0[row][wanted], z[row][wanted])
            expected += float(distances.sum() if name == "js" else distances.sum().sqrt())
    assert engine.score(kept, Distance(engine, name, PAD), 0) == pytest.approx(expected, rel=1e-4)
    assert engine.score(engine.units(True), Distance(engine, name, PAD), 0) == pytest.approx(0, abs=1e-3)
