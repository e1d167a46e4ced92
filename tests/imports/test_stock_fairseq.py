"""Imported models in stock fairseq, which has never heard of this package."""

import pytest
import torch

from tests.commands import NEEDS_FAIRSEQ_MAIN, ROOT, layerdrop, run
from tests.imports import test_encoders, test_languages
from tests.imports.folders import NEEDS_TRANSFORMERS, save
from tests.outputs import load, outputs, same_but_for_steps

pytestmark = [NEEDS_TRANSFORMERS, NEEDS_FAIRSEQ_MAIN]


@pytest.mark.parametrize("name", ["roberta", "opt", "gpt2"])
def test_same_outputs(tmp_path, name):
    if name == "roberta":
        model, special = test_encoders.build("Roberta", "ForMaskedLM")
    else:
        model, special, _ = test_languages.build(name)
    layerdrop("import", save(model, tmp_path / "hf", special), "-o", tmp_path / "out")
    checkpoint = tmp_path / "out/checkpoint.pt"
    run("python", ROOT / "tests/outputs.py", tmp_path / "out", tmp_path / "stock", checkpoint)
    [stock] = torch.load(tmp_path / "stock")
    ours = outputs(*load(checkpoint, tmp_path / "out", prune_layers="keep:0-3"))
    assert stock.std() > 0.01
    if name == "roberta":
        assert torch.equal(stock, ours)
    else:
        same_but_for_steps(stock, ours)
