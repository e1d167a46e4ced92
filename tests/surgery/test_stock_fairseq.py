"""Exported models in stock fairseq: its commands and its hub load them as they are, without plugin or variable."""

import json
import re

import pytest
import torch

from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import EVALUATE, NEEDS_FAIRSEQ_MAIN, TRAIN, USER_DIR, generate, layerdrop, run, said, train_lm

pytestmark = NEEDS_FAIRSEQ_MAIN
PRUNE = ("--prune-layers", "keep:3@every_other")
TASKS = ("translation", "language_modeling", "masked_lm", "sentence_prediction")


@pytest.fixture(scope="module")
def full(translation_data, sentence_data, checkpoint, masked_lm, classifier, tmp_path_factory):
    """A full checkpoint of each kind of model, and its data; the translation's criterion is label-smoothed."""
    out = tmp_path_factory.mktemp("full")
    state = load_checkpoint(checkpoint)
    state["cfg"]["criterion"] = {"_name": "label_smoothed_cross_entropy", "label_smoothing": 0.2}
    torch.save(state, out / "smoothed.pt")
    train_lm(sentence_data, out, 2)
    checkpoints = (out / "smoothed.pt", out / "checkpoint_last.pt", masked_lm, classifier)
    return dict(zip(TASKS, zip(checkpoints, (translation_data, *[sentence_data] * 3))))


@pytest.fixture(scope="module")
def exported(full, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for task, (path, _) in full.items():
        layerdrop("export", path, *PRUNE, "-o", folder / f"{task}.pt")
    return folder


def losses(done):
    return re.search(r"(\| loss [\d.]+.*)\| wps|Loss .*", said(done))[0]


@pytest.mark.parametrize("task", TASKS)
def test_validate(full, exported, task):
    """By the criterion of the training; of a classifier's, fairseq-validate wants to be told."""
    path, data = full[task]
    command = ["fairseq-validate", data, *EVALUATE, *(("--criterion", task) if task == "sentence_prediction" else ())]
    stock = run(*command, "--path", exported / f"{task}.pt", "--task", task)
    ours = run(*command, "--path", path, "--user-dir", USER_DIR, "--task", f"layerdrop_{task}", *PRUNE)
    assert losses(stock) == losses(ours)
    assert task != "translation" or "nll_loss" in losses(stock)


def test_eval_lm(full, exported):
    path, data = full["language_modeling"]
    command = ("fairseq-eval-lm", data, *EVALUATE, "--sample-break-mode", "eos")
    stock = run(*command, "--path", exported / "language_modeling.pt")
    ours = run(*command, "--path", path, "--user-dir", USER_DIR, "--task", "layerdrop_language_modeling", *PRUNE)
    assert losses(stock) == losses(ours)


def test_overridden_settings(full, exported):
    overrides = ("--model-overrides", "{'max_source_positions': 4}")
    done = generate(full["translation"][1], exported / "translation.pt", *overrides, check=False)
    assert done.returncode and "since max_positions=(4, 1024)" in said(done)


def test_fine_tuning(full, exported, tmp_path):
    """At learning rate 0, by the loss of its one update."""
    size = ("--share-all-embeddings", "--encoder-layers", "3", "--decoder-layers", "3", "--dropout", "0")
    train = (
        "fairseq-train", full["translation"][1], "--arch", "transformer_tiny", *size, *TRAIN, "--max-tokens", "2000",
        "--lr", "0", "--max-update", "1",
    )  # fmt: skip
    path = exported / "translation.pt"
    starts = {
        "tuned": ("--finetune-from-model", path),
        "restored": ("--restore-file", path, "--reset-optimizer", "--reset-dataloader"),
        "random": (),
    }
    first = {name: losses(run(*train, "--save-dir", tmp_path / name, *flags)) for name, flags in starts.items()}
    assert first["tuned"] == first["restored"] != first["random"]


HUB = """
import json, sys
from fairseq.models.roberta import RobertaModel
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer_lm import TransformerLanguageModel
folder, parallel, running = sys.argv[1:]
told = [
    TransformerModel.from_pretrained(folder, "translation.pt", parallel, dropout=0.5).models[0].cfg.dropout,
    TransformerModel.from_pretrained(folder, "translation.pt", parallel).translate("w1 w2 w3", beam=3),
    TransformerLanguageModel.from_pretrained(folder, "language_modeling.pt", running).sample("w1 w2", max_len_b=4),
    list(RobertaModel.from_pretrained(folder, "masked_lm.pt", running, bpe=None).model.classification_heads),
    list(RobertaModel.from_pretrained(folder, "sentence_prediction.pt", running, bpe=None).model.classification_heads),
]
assert "fairseq_layerdrop" not in sys.modules
print(json.dumps(told))
"""


def test_hub(full, exported, tmp_path):
    data = [full[task][1] for task in ("translation", "masked_lm")]
    told = json.loads(run("python", "-c", HUB, exported, *data, cwd=tmp_path).stdout.splitlines()[-1])
    assert told[0] == 0.5 and told[1] and told[2].startswith("w1 w2") and told[3:] == [[], ["length"]]


def test_ctranslate2s_own_converter(full, exported, tmp_path):
    """It takes translation models; of a language model it wants a Namespace, which stock fairseq doesn't load."""
    pytest.importorskip("ctranslate2")
    command = ("ct2-fairseq-converter", "--output_dir", tmp_path / "ct2")
    done = run(*command, "--model_path", exported / "translation.pt", "--data_dir", full["translation"][1])
    assert (tmp_path / "ct2" / "model.bin").is_file(), said(done)
