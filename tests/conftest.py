"""Data and checkpoints that several tests use."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.commands import (
    TRANSLATION,
    run,
    train_classifier,
    train_masked_lm,
    train_translation,
    write_sentences,
)

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
def sentence_data(lm_data) -> Path:
    """The running text of *lm_data*, in whose folder each line is also a sentence with a label: whether it is long."""
    text = lm_data.parent
    for split in ("train", "valid"):
        lengths = [len(line.split()) for line in (text / split).read_text().splitlines()]
        (text / f"{split}.label").write_text("".join(f"{int(length > 6)}\n" for length in lengths))
    for name, ending, known in (("input0", "", ("--srcdict", lm_data / "dict.txt")), ("label", ".label", ())):
        run(
            "fairseq-preprocess", "--only-source", "--destdir", lm_data / name, *known,
            "--trainpref", f"{text}/train{ending}", "--validpref", f"{text}/valid{ending}",
        )  # fmt: skip
    return lm_data


@pytest.fixture(scope="session")
def masked_lm(lm_data, tmp_path_factory) -> Path:
    """A 6-layer RoBERTa without a classification head, trained for four updates, seed 3."""
    out = tmp_path_factory.mktemp("masked_lm")
    train_masked_lm(lm_data, out, 4, "--seed", "3")
    return out / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def classifier(sentence_data, masked_lm, tmp_path_factory) -> Path:
    """It with a classification head, fine-tuned whole for four updates."""
    out = tmp_path_factory.mktemp("classifier")
    train_classifier(sentence_data, out, 4, "--finetune-from-model", masked_lm)
    return out / "checkpoint_last.pt"


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
