"""fairseq's own commands with layerdrop_sentence_prediction: from a masked language model to a small classifier."""

import json
import re

import pytest
import torch
from fairseq.models.roberta import RobertaModel
from fairseq.tasks.sentence_prediction import SentencePredictionTask

from fairseq_layerdrop import LayerDropRobertaModel
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.tasks.layerdrop_sentence_prediction import (
    LayerDropSentencePredictionConfig,
    LayerDropSentencePredictionTask,
)
from tests.commands import (
    EVALUATE,
    NEEDS_FAIRSEQ_MAIN,
    USER_DIR,
    ends_in_one_line,
    layerdrop,
    run,
    said,
    train_classifier,
)

OURS = ("--user-dir", USER_DIR, "--task", "layerdrop_sentence_prediction", "--criterion", "sentence_prediction")
HALF = "encoder=keep:3@every_other"
RESETS = ("--reset-optimizer", "--reset-lr-scheduler", "--reset-dataloader", "--reset-meters")


@pytest.fixture(scope="module")
def small(sentence_data, masked_lm, tmp_path_factory):
    """The pruned masked language model, fine-tuned with a head of its own for two updates, and what was said."""
    out = tmp_path_factory.mktemp("small")
    done = train_classifier(sentence_data, out, 2, "--prune-layers", HALF, "--finetune-from-model", masked_lm)
    return out / "checkpoint_last.pt", done


def head(path):
    return {key: value for key, value in load_checkpoint(path)["model"].items() if key.startswith("classification")}


def test_fine_tuning_a_pruned_model(small):
    path, done = small
    assert "pruned layers: kept encoder 3 of 6 layers (0,2,4); " in said(done)
    saved = load_checkpoint(path)
    assert saved["cfg"]["model"].encoder_layers == 3 and saved["cfg"]["task"]["prune_layers"] is None
    assert {key.rpartition(".")[0] for key in head(path)} == {
        "classification_heads.length.dense", "classification_heads.length.out_proj",
    }  # fmt: skip
    told = json.loads(layerdrop("describe", path, "--json").stdout)
    assert told["depths"] == {"encoder": 3}
    assert [entry["checkpoint"] for entry in told["pruning_history"]] == ["checkpoint_last.pt"]


def test_goes_on(sentence_data, small, masked_lm):
    path, _ = small
    before = head(path)
    flags = ("--prune-layers", HALF, "--finetune-from-model", masked_lm)
    done = train_classifier(sentence_data, path.parent, 4, *flags)
    assert "Loaded checkpoint" in said(done) and "pruned layers" not in said(done)
    assert not all(torch.equal(before[key], value) for key, value in head(path).items())


def test_fine_tuning_it_further(sentence_data, small, tmp_path):
    """It tells its own shape, and its history stays; at learning rate 0 its head does too."""
    path, _ = small
    flags = ("--restore-file", path, *RESETS, "--optimizer", "sgd", "--lr", "0")
    done = train_classifier(sentence_data, tmp_path, 1, *flags, check=False)
    ends_in_one_line(done, "is pruned: encoder 3 of 6 layers (0,2,4)", "give --encoder-layers 3")
    train_classifier(sentence_data, tmp_path, 1, *flags, "--encoder-layers", "3")
    last = tmp_path / "checkpoint_last.pt"
    assert len(load_checkpoint(last)["task_state"]["pruning_history"]) == 1
    before = head(path)
    assert all(torch.equal(before[key], value) for key, value in head(last).items())


def test_validate(sentence_data, classifier):
    done = run(
        "fairseq-validate", sentence_data, "--path", classifier, *OURS, "--prune-layers", HALF, "--valid-subset",
        "valid", *EVALUATE,
    )  # fmt: skip
    assert "pruned layers: kept encoder 3 of 6 layers (0,2,4)" in said(done)
    assert 0 <= float(re.search(r"\| accuracy ([\d.]+)", said(done))[1]) <= 100


def test_group_by_length(sentence_data, masked_lm, tmp_path):
    """As many batches of the same examples with less to pad; the small model is one for stock fairseq too."""
    task = {}
    for grouped in (False, True):
        cfg = LayerDropSentencePredictionConfig(
            data=str(sentence_data), num_classes=2, init_token=0, group_by_length=grouped
        )
        cfg.regression_target, cfg.seed = False, 1
        task[grouped] = LayerDropSentencePredictionTask.setup_task(cfg)
        task[grouped].load_dataset("train")
    lengths, padded = {}, {}
    for grouped, one in task.items():
        dataset = one.dataset("train")
        batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=8)
        lengths[grouped] = [[dataset.num_tokens(index) for index in batch] for batch in batches]
        padded[grouped] = sum(len(batch) * max(batch) for batch in lengths[grouped])
        assert sorted(index for batch in batches for index in batch) == list(range(len(dataset)))
    plain, sorted_by = task[False].dataset("train"), task[True].dataset("train").ordered_indices().tolist()
    assert sorted_by == sorted(plain.ordered_indices().tolist(), key=plain.num_tokens)  # a stable sort
    assert lengths[True] == sorted(lengths[True]) and len(lengths[True]) == len(lengths[False])
    assert sum(map(sum, lengths[True])) <= padded[True] < 0.8 * padded[False]
    train_classifier(sentence_data, tmp_path, 2, "--group-by-length", "--finetune-from-model", masked_lm)
    layerdrop("export", tmp_path / "checkpoint_last.pt", "--prune-layers", HALF, "-o", tmp_path / "half.pt")
    hub = RobertaModel.from_pretrained(str(tmp_path), "half.pt", str(sentence_data), bpe=None)
    assert type(hub.task) is SentencePredictionTask and not hasattr(hub.task.cfg, "group_by_length")


class TestFromPretrained:
    """fairseq issue 2507."""

    def load(self, path, data, cls=LayerDropRobertaModel, **given):
        hub = cls.from_pretrained(str(path.parent), path.name, str(data), bpe=None, **given)
        return hub.eval()

    def predicted(self, hub):
        tokens = torch.tensor([0, 5, 6, 7, 2])
        return hub.predict("length", tokens)

    def test_pruned_and_fine_tuned(self, sentence_data, small):
        path, _ = small
        hub = self.load(path, sentence_data)
        assert len(hub.model.encoder.sentence_encoder.layers) == 3
        assert self.predicted(hub).exp().sum().item() == pytest.approx(1)

    @NEEDS_FAIRSEQ_MAIN
    def test_pruned_while_it_is_loaded(self, sentence_data, classifier, tmp_path):
        pruned = self.load(classifier, sentence_data, prune_layers=HALF)
        layerdrop("export", classifier, "--prune-layers", HALF, "-o", tmp_path / "half.pt")
        exported = self.load(tmp_path / "half.pt", sentence_data, RobertaModel)
        assert type(exported.model) is RobertaModel and type(exported.task) is SentencePredictionTask
        assert torch.equal(self.predicted(pruned), self.predicted(exported))
        assert not torch.equal(self.predicted(pruned), self.predicted(self.load(classifier, sentence_data)))

    def test_masked_language_model(self, lm_data, masked_lm):
        hub = self.load(masked_lm, lm_data, prune_layers=HALF)
        assert hub.extract_features(torch.tensor([0, 5, 2]), return_all_hiddens=True)[-1].shape == (1, 3, 64)
