"""Data and checkpoints that several tests use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

import fairseq_layerdrop.register  # noqa: F401 - tests load checkpoints by torch.load
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
def shared(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function that gives a folder of a name, which the first of all workers that asks for it fills."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        made, done = root / f"shared-{name}", root / f"shared-{name}.done"
        with FileLock(root / f"shared-{name}.lock"):
            if not done.exists():
                made.mkdir()
                fill(made)
                done.touch()
        return made

    return folder


def _binarise(text: Path, *flags) -> None:
    """80 training, 20 validation and 16 test lines, and with the *flags* of fairseq-preprocess ``data-bin`` of them."""
    endings = (".a", ".b") if "--source-lang" in flags else ("",)
    for number, (split, count) in enumerate({"train": 80, "valid": 20, "test": 16}.items()):
        for ending in endings:
            write_sentences(text / f"{split}{ending}", count, 10 * number if ending else number)
    run(
        "fairseq-preprocess", *flags, "--destdir", text / "data-bin",
        "--trainpref", text / "train", "--validpref", text / "valid", "--testpref", text / "test",
    )  # fmt: skip


@pytest.fixture(scope="session")
def translation_data(shared) -> Path:
    """Binarised parallel text, a -> b with a joined dictionary: 80 training, 20 validation and 16 test pairs."""
    flags = ("--source-lang", "a", "--target-lang", "b", "--joined-dictionary")
    return shared("parallel", lambda text: _binarise(text, *flags)) / "data-bin"


@pytest.fixture(scope="session")
def lm_data(shared) -> Path:
    """Binarised running text: 80 training, 20 validation and 16 test lines."""
    return shared("running", lambda text: _binarise(text, "--only-source")) / "data-bin"


@pytest.fixture(scope="session")
def sentence_data(lm_data, shared) -> Path:
    """The running text of *lm_data*, in whose folder each line is also a sentence with a label: whether it is long."""

    def label(labels: Path) -> None:
        for split in ("train", "valid"):
            lengths = [len(line.split()) for line in (lm_data.parent / split).read_text().splitlines()]
            (labels / f"{split}.label").write_text("".join(f"{int(length > 6)}\n" for length in lengths))
        sources = (("input0", lm_data.parent, "", ("--srcdict", lm_data / "dict.txt")), ("label", labels, ".label", ()))
        for name, folder, ending, known in sources:
            run(
                "fairseq-preprocess", "--only-source", "--destdir", lm_data / name, *known,
                "--trainpref", f"{folder}/train{ending}", "--validpref", f"{folder}/valid{ending}",
            )  # fmt: skip

    shared("labels", label)
    return lm_data


@pytest.fixture(scope="session")
def masked_lm(lm_data, shared) -> Path:
    """A 6-layer RoBERTa without a classification head, trained for four updates, seed 3."""
    return shared("masked_lm", lambda out: train_masked_lm(lm_data, out, 4, "--seed", "3")) / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def classifier(sentence_data, masked_lm, shared) -> Path:
    """It with a classification head, fine-tuned whole for four updates."""
    start = ("--finetune-from-model", masked_lm)
    return shared("classifier", lambda out: train_classifier(sentence_data, out, 4, *start)) / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def stock_checkpoint(translation_data, shared) -> Path:
    """A 6 + 6-layer model trained by stock fairseq, without the plugin."""

    def train(out: Path) -> None:
        run(
            "fairseq-train", translation_data, "--task", "translation", "--arch", "transformer_tiny", *TRANSLATION,
            "--max-tokens", "200", "--max-update", "20", "--save-dir", out,
        )  # fmt: skip

    return shared("stock", train) / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def checkpoint(translation_data, shared) -> Path:
    """A 6 + 6-layer model trained with the plugin for four updates, seed 3."""
    return shared("ours", lambda out: train_translation(translation_data, out, 4, "--seed", "3")) / "checkpoint_last.pt"
