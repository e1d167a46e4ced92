"""Folders of tiny random models of transformers, and the models that they are imported as."""

import functools
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from fairseq_layerdrop.imports.folder import read_config
from fairseq_layerdrop.imports.tokens import read_vocabulary
from tests.commands import layerdrop
from tests.outputs import load

NEEDS_TRANSFORMERS = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers: pip install 'fairseq-layerdrop[test]'"
)
SYMBOLS = 24
# Names of the special tokens of BERT's kin and of RoBERTa's, by their numbers.
BERT = {0: "[PAD]", 5: "[UNK]", 6: "[CLS]", 7: "[SEP]", 8: "[MASK]"}
ROBERTA = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", SYMBOLS - 1: "<mask>"}


@functools.cache
def transformers():
    """The library, without torchaudio, which it imports wherever there is one, also of another build than torch's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setitem(sys.modules, "torchaudio", None)
        library = importlib.import_module("transformers")
        library.utils.import_utils.is_torchaudio_available.cache_clear()  # ctranslate2 may have imported it
        assert library.RobertaForMaskedLM
    return library


def randomise(model, seed: int = 1):
    """*model*, its weights drawn: all norms and biases are far from what they begin as."""
    torch.manual_seed(seed)
    fixed = {name for name, module in model.named_modules() if "Sinusoidal" in type(module).__name__}
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0] in fixed:  # tables that aren't saved
            continue
        module, _, kind = name.lower().rpartition(".")
        is_norm = re.fullmatch(r"(.*norm.*|ln_\w)", module.rpartition(".")[2])
        mean = 1.0 if is_norm and kind == "weight" else 0.0
        torch.nn.init.normal_(parameter, mean=mean, std=0.1)
    return model.eval()


def write_tokenizer(folder: Path, special: dict[int, str], symbols: int = SYMBOLS) -> None:
    """A tokenizer of words, with special tokens at their numbers."""
    vocabulary = {special.get(number, f"w{number}"): number for number in range(symbols)}
    added = [{"id": number, "content": token, "special": True} for number, token in special.items()]
    content = {"version": "1.0", "added_tokens": added, "model": {"type": "WordLevel", "vocab": vocabulary}}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def save(model, folder: Path, special: dict[int, str], symbols: int = SYMBOLS, **options) -> Path:
    """A folder of *model*, with a tokenizer."""
    model.save_pretrained(folder, **options)
    write_tokenizer(folder, special, symbols)
    return folder


def imported(folder: Path, out: Path, **overrides):
    """The folder's model as fairseq loads it, and what it told."""
    done = layerdrop("import", folder, "-o", out)
    return load(out / "checkpoint.pt", out, **overrides)[0], done.stdout


def fairseq_ids(folder: Path, ids: torch.Tensor, size: int = SYMBOLS) -> torch.Tensor:
    """Numbers of tokens in fairseq, for those in the model of *folder*."""
    order = read_vocabulary(folder, read_config(folder), size).order
    places = {number: place for place, number in enumerate(order)}
    return torch.tensor([[places[number] for number in row] for row in ids.tolist()])


def in_their_order(folder: Path, logits: torch.Tensor, size: int = SYMBOLS) -> torch.Tensor:
    """Logits of fairseq's symbols in the order of the folder's."""
    order = read_vocabulary(folder, read_config(folder), size).order
    return logits[..., [order.index(number) for number in range(size)]]


def close(ours: torch.Tensor, theirs: torch.Tensor, within: float = 2e-6) -> None:
    """Assert that logits are equal, and tell models from each other."""
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=within)
