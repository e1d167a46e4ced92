"""Data and checkpoints that several tests use."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.commands import TRANSLATION, run, train_translation, write_sentences

settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def translation_data(tmp_path_factory) -> Path:
    """Binarised parallel text, a -> b with a joined dictionary: 80 training, 20 validation and 16 test pairs."""
    text = tmp_path_factory.mktemp("parallel")
    for seed, (split, count) in enumerate({"train": 80, "valid": 20, "test": 16}.items()):
        write_sentences(text / f"{split}.a", count, 10 * seed)
        write_sentences(text / f"{split}.b", count, 10 * seed)
    out = text / "data-bin"
    run(
        "fairseq-preprocess", "--source-lang", "a", "--target-lang", "b", "--joined-dictionary", "--destdir", out,
        "--trainpref", text / "train", "--validpref", text / "valid", "--testpref", text / "test",
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def lm_data(tmp_path_factory) -> Path:
    """Binarised running text: 80 training, 20 validation and 16 test lines."""
    text = tmp_path_factory.mktemp("running")
    for seed, (split, count) in enumerate({"train": 80, "valid": 20, "test": 16}.items()):
        write_sentences(text / split, count, seed)
    out = text / "data-bin"
    run(
        "fairseq-preprocess", "--only-source", "--destdir", out,
        "--trainpref", text / "train", "--validpref", text / "valid", "--testpref", text / "test",
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def stock_checkpoint(translation_data, tmp_path_factory) -> Path:
    """A 6 + 6-layer model trained by stock fairseq, without the plugin."""
    out = tmp_path_factory.mktemp("stock")
    run(
        "fairseq-train", translation_data, "--task", "translation", "--arch", "transformer_tiny", *TRANSLATION,
        "--max-tokens", "200", "--max-update", "20", "--save-dir", out,
    )  # fmt: skip
    return out / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def checkpoint(translation_data, tmp_path_factory) -> Path:
    """A 6 + 6-layer model trained with the plugin for four updates, seed 3."""
    out = tmp_path_factory.mktemp("ours")
    train_translation(translation_data, out, 4, "--seed", "3")
    return out / "checkpoint_last.pt"
