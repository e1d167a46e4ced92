"""Choosing by data in an encoder alone: a masked language model and a classifier."""

import math

import pytest
import torch
from fairseq.criterions.masked_lm import MaskedLmConfig, MaskedLmLoss
from fairseq.criterions.sentence_prediction import SentencePredictionConfig, SentencePredictionCriterion

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import transformer_structure
from fairseq_layerdrop.running.engine import Engine
from fairseq_layerdrop.running.measures import Distance, loss, tokens
from tests.models.test_layerdrop_models import FakeTask, build, settings
from tests.running.models import PAD, SYMBOLS, shaken, without

STRUCTURE = transformer_structure({"encoder": 3})
KINDS = ("masked_lm", "classifier")


@pytest.fixture(scope="module")
def model():
    arch = "layerdrop_roberta_tiny"
    cfg = settings(arch, encoder_layers=3, encoder_embed_dim=16, encoder_ffn_embed_dim=24)
    made = build(cfg, arch, SYMBOLS)
    made.register_classification_head("topic", num_classes=3)
    return shaken(made, 0)


@pytest.fixture(params=KINDS)
def asked(request):
    """Criterion, batches, and the symbol of targets that don't count."""
    task = FakeTask(SYMBOLS)
    task.label_dictionary = task.source_dictionary
    inputs = [torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, PAD, PAD]]), torch.tensor([[0, 9, 10, 2]])]
    if request.param == "masked_lm":
        targets, pad = [torch.full_like(row, PAD) for row in inputs], PAD
        targets[0][:, 1], targets[1][0, 1:3] = torch.tensor([11, 12]), torch.tensor([4, 5])
        criterion = MaskedLmLoss(MaskedLmConfig(tpu=False), task)
    else:
        targets, pad = [torch.tensor([[2], [PAD]]), torch.tensor([[0]])], None  # a label may have the number of padding
        criterion = SentencePredictionCriterion(SentencePredictionConfig(classification_head_name="topic"), task)
    samples = [
        {
            "net_input": {"src_tokens": source, "src_lengths": source.ne(PAD).sum(1)},
            "target": target, "ntokens": int(source.ne(PAD).sum()), "nsentences": len(source),
        }
        for source, target in zip(inputs, targets)
    ]  # fmt: skip
    return criterion.eval(), samples, pad


@pytest.mark.parametrize(
    "dropped",
    [
        [("encoder", 1, None)],
        [("encoder", 0, None), ("encoder", 2, None)],
        [("encoder", 0, "ffn"), ("encoder", 1, "self_attn"), ("encoder", 1, "ffn")],
    ],
)
def test_loss_is_that_of_the_pruned_model(model, asked, dropped):
    criterion, samples, pad = asked
    engine = Engine(model, STRUCTURE, samples)
    kept = [unit for unit in engine.units(dropped[0][2] is not None) if unit not in dropped]
    pruned = without(model, STRUCTURE, dropped)
    with torch.no_grad():
        nats = sum(float(criterion(pruned, sample)[0]) for sample in samples)
    assert engine.score(kept, loss(model, criterion), 0) == pytest.approx(nats / math.log(2), rel=1e-5)
    assert sum(tokens(sample, pad) for sample in samples) == (4 if pad else 3)


def test_states_are_those_of_the_model(model, asked):
    _, samples, _ = asked
    engine = Engine(model, STRUCTURE, samples)
    for states, sample in engine.hidden(engine.units(sublayers=False), "encoder"):
        with torch.no_grad():
            own = model(sample["net_input"]["src_tokens"], return_all_hiddens=True)[1]["inner_states"]
        assert len(states) == 4 and all(map(torch.equal, states, own))


def test_distance_is_of_the_masked_symbols(model, asked):
    _, samples, pad = asked
    engine = Engine(model, STRUCTURE, samples)
    if pad is None:
        with pytest.raises(UserError, match="this one predicts labels"):
            Distance(engine, "kl", pad)
        return
    every, dropped = engine.units(sublayers=False), [("encoder", 1, None)]
    distance = Distance(engine, "kl", pad)
    assert engine.score(every, distance, 0) == pytest.approx(0, abs=1e-6)
    found = engine.score([unit for unit in every if unit not in dropped], distance, 0)
    pruned, expected = without(model, STRUCTURE, dropped), 0.0
    for sample in samples:
        wanted = sample["target"].ne(PAD)
        with torch.no_grad():
            full, small = (torch.log_softmax(one(**sample["net_input"])[0][wanted], -1) for one in (model, pruned))
        expected += float((full.exp() * (full - small)).sum())
    assert found == pytest.approx(expected, rel=1e-4)
