"""Five ways to a pruned RoBERTa compute the same, bit for bit, with and without a classification head."""

import pytest
import torch

from fairseq_layerdrop.plan import ModelFacts, parse
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.state import state_structure
from tests.commands import (
    NEEDS_FAIRSEQ_MAIN,
    ROOT,
    layerdrop,
    run,
    train_classifier,
    train_masked_lm,
)
from tests.outputs import load, outputs
from tests.surgery.test_build import skip

WHOLE_LAYERS, SUB_LAYERS = "encoder=keep:0,2,5", "drop:0.ffn,1,2.self_attn,4.self_attn.head0"
TRAIN = {"masked_lm": train_masked_lm, "classifier": train_classifier}
HEADS = ModelFacts({"encoder": 2})

kinds = pytest.mark.parametrize("kind", TRAIN)
specs = pytest.mark.parametrize("spec", [WHOLE_LAYERS, SUB_LAYERS])


@pytest.fixture(scope="module")
def full(masked_lm, classifier):
    return {"masked_lm": masked_lm, "classifier": classifier}


@pytest.fixture(scope="module")
def expected(full, sentence_data):
    """The full model with what the spec drops skipped."""

    def skipped(kind, spec):
        model, task = load(full[kind], sentence_data)
        plan = parse(spec).resolve(state_structure(load_checkpoint(full[kind])["model"]), HEADS)
        return outputs(skip(model, plan), task)

    return {(kind, spec): skipped(kind, spec) for kind in TRAIN for spec in (WHOLE_LAYERS, SUB_LAYERS)}


@pytest.fixture(scope="module")
def exported(full, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    paths = {(kind, spec): folder / f"{kind}-{spec}.pt" for kind in TRAIN for spec in (WHOLE_LAYERS, SUB_LAYERS)}
    for (kind, spec), path in paths.items():
        layerdrop("export", full[kind], "--prune-layers", spec, "-o", path)
    return paths


@kinds
@specs
def test_prune_layers(full, sentence_data, expected, kind, spec):
    pruned = outputs(*load(full[kind], sentence_data, prune_layers=spec))
    assert torch.equal(pruned, expected[kind, spec])
    assert not torch.equal(pruned, outputs(*load(full[kind], sentence_data)))


@NEEDS_FAIRSEQ_MAIN
@kinds
@specs
def test_exported(sentence_data, expected, exported, kind, spec):
    assert torch.equal(outputs(*load(exported[kind, spec], sentence_data)), expected[kind, spec])


@NEEDS_FAIRSEQ_MAIN
def test_exported_in_stock_fairseq(sentence_data, expected, exported, tmp_path):
    paths = [exported[kind, WHOLE_LAYERS] for kind in TRAIN]
    run(
        "python", ROOT / "tests/outputs.py", sentence_data, tmp_path / "out.pt", *paths,
        cwd=tmp_path, PYTHONPATH="",
    )  # fmt: skip
    for kind, out in zip(TRAIN, torch.load(tmp_path / "out.pt"), strict=True):
        assert torch.equal(out, expected[kind, WHOLE_LAYERS])


@kinds
@specs
def test_after_fine_tuning_that_changes_nothing(full, sentence_data, expected, kind, spec, tmp_path):
    """One update at learning rate 0; the checkpoint that it saves loads by itself."""
    TRAIN[kind](
        sentence_data, tmp_path, 1, "--prune-layers", spec, "--finetune-from-model", full[kind],
        "--optimizer", "sgd", "--lr", "0",
    )  # fmt: skip
    assert torch.equal(outputs(*load(tmp_path / "checkpoint_last.pt", sentence_data)), expected[kind, spec])
