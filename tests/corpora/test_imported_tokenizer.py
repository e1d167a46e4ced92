"""GLUE's text in the symbols of an imported model."""

import json
import sys

import pytest
import torch
from fairseq.data import Dictionary

from fairseq_layerdrop.corpora import glue
from fairseq_layerdrop.corpora import imported as program
from fairseq_layerdrop.corpora.subwords import imported_encoder
from fairseq_layerdrop.corpora.text import CorpusError
from tests.commands import layerdrop
from tests.imports.folders import NEEDS_TRANSFORMERS, randomise, transformers
from tests.imports.test_encoders import SIZES

pytestmark = NEEDS_TRANSFORMERS

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "##s", "good", "not", ".", "is", "it", "the"]
TEXTS = ["The films is not good.", "it it, a FILM", "a [MASK] film", "xyz"]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A BERT with its word pieces, and the folder that it was imported to."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("imported")
    config = transformers().BertConfig(vocab_size=len(TOKENS), max_position_embeddings=16, **SIZES)
    randomise(transformers().BertModel(config)).save_pretrained(folder / "hf")
    made = tokenizers.BertWordPieceTokenizer(vocab={token: number for number, token in enumerate(TOKENS)})
    made.enable_truncation(3)
    made.enable_padding(length=20)
    made.save(str(folder / "hf/tokenizer.json"))
    layerdrop("import", folder / "hf", "-o", folder / "out")
    return folder


def test_same_tokens(imported):
    encode, symbols = imported_encoder(imported / "out")
    dictionary = Dictionary.load(str(imported / "out/dict.txt"))
    tokenizer = transformers().PreTrainedTokenizerFast(tokenizer_file=str(imported / "hf/tokenizer.json"))
    numbers = {number: dictionary.index({"[UNK]": "<unk>", "[MASK]": "<mask>"}.get(TOKENS[number], TOKENS[number]))
               for number in range(4, len(TOKENS))} | {1: dictionary.unk()}  # fmt: skip
    for text, line in zip(TEXTS, encode(TEXTS), strict=True):
        ids = dictionary.encode_line(line, append_eos=False, add_if_not_exist=False)
        expected = tokenizer(text, add_special_tokens=False, padding=False, truncation=False)["input_ids"]
        assert torch.equal(ids, torch.tensor([numbers[number] for number in expected], dtype=ids.dtype))
        assert set(line.split()) <= symbols
    assert next(encode(["The films is not good."])) == "the film ##s is not good ."


def test_glue(imported, tmp_path, monkeypatch):
    raw = tmp_path / "SST-2"
    raw.mkdir()
    for split in ("train", "dev"):
        (raw / f"{split}.tsv").write_text("sentence\tlabel\na good film .\t1\nnot good xyz\t0\n")
    command = ["glue", raw, tmp_path / "text", "--imported", imported / "out", "--dict", imported / "out/dict.txt"]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    glue.main()
    assert (tmp_path / "text/train.input0").read_text() == "a good film .\nnot good <unk>\n"


def test_any_text(imported, tmp_path, monkeypatch):
    (tmp_path / "text").write_text("The films.\nit\n")
    command = ["imported", imported / "out", tmp_path / "text", tmp_path / "pieces"]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    program.main()
    assert (tmp_path / "pieces").read_text() == "the film ##s .\nit\n"


def test_mistakes(imported, tmp_path):
    with pytest.raises(CorpusError, match=r"hasn't both tokenizer\.json and dictionaries"):
        imported_encoder(imported / "hf")
    for name in ("dict.txt", "config.json"):
        (tmp_path / name).write_bytes((imported / "out" / name).read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(CorpusError, match="is no tokenizer"):
        imported_encoder(tmp_path)
