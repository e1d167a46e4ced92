"""Training a pruned model from a full checkpoint with fairseq-train, and using what it saves."""

import contextlib
import os
import re
import subprocess
import sys
import time

import pytest
import torch
from fairseq.dataclass.configs import EMAConfig
from fairseq.models.ema.ema import EMA

from fairseq_layerdrop import LayerDropTransformerModel
from fairseq_layerdrop.plan import parse, transformer_structure
from fairseq_layerdrop.surgery.checkpoint_file import CheckpointError, load_checkpoint
from fairseq_layerdrop.surgery.state import slice_state_dict, state_structure
from tests.commands import (
    LAYERDROP_TRANSLATION,
    NEEDS_FAIRSEQ_MAIN,
    ROOT,
    STOCK,
    TRANSLATION,
    USER_DIR,
    ends_in_one_line,
    generate,
    layerdrop,
    run,
    said,
    train_on_two,
    train_translation,
)
from tests.models.test_layerdrop_models import tiny
from tests.outputs import load, outputs

HALF, SUB_LAYERS = "decoder=keep:0,2,5", "encoder=drop:1,3.ffn/decoder=drop:0.ffn,2,4.self_attn,5.encoder_attn"
SIX = transformer_structure({"encoder": 6, "decoder": 6})
RESETS = ("--reset-optimizer", "--reset-lr-scheduler", "--reset-dataloader", "--reset-meters")


def tuned(folder):
    return load_checkpoint(folder / "checkpoint_last.pt")


def sentences(done):
    return re.findall(r"^H-\d+\t.*$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("layerdrop", ["0", "0.5"])
def test_saves_what_loads_by_itself(translation_data, checkpoint, tmp_path, layerdrop):
    """Sub-layers on two processes; a second start goes on. (test_data_parallel has torch's DistributedDataParallel.)"""
    flags = (
        "--prune-layers", SUB_LAYERS, "--finetune-from-model", checkpoint, "--ddp-backend", "legacy_ddp",
        "--encoder-layerdrop", layerdrop, "--decoder-layerdrop", layerdrop,
    )  # fmt: skip
    first = train_on_two(translation_data, tmp_path, 2, *flags)
    assert "decoder 5 of 6 layers (0-1,3-5 without 0.ffn,4.self_attn,5.encoder_attn)" in said(first[0])
    again = train_on_two(translation_data, tmp_path, 4, *flags)
    assert "Loaded checkpoint" in said(again[0]) and "pruned layers" not in said(again[0])
    saved = tuned(tmp_path)
    model = saved["cfg"]["model"]
    assert (model.encoder_layers, model.decoder_layers) == (5, 5)
    assert model.pruned_sublayers == "encoder=drop:2.ffn/decoder=drop:3.self_attn,4.encoder_attn,0.ffn"
    assert model.prune_layers is None and saved["cfg"]["task"]["prune_layers"] is None
    assert state_structure(saved["model"]) == parse(SUB_LAYERS).resolve(SIX).pruned
    (entry,) = saved["task_state"]["pruning_history"]
    assert entry["checkpoint"] == "checkpoint_last.pt" and entry["updates"] == 4
    done = generate(translation_data, tmp_path / "checkpoint_last.pt", "--user-dir", USER_DIR)
    assert len(sentences(done)) == 16
    hub = LayerDropTransformerModel.from_pretrained(str(tmp_path), "checkpoint_last.pt", str(translation_data))
    assert isinstance(hub.translate("w1 w2 w3"), str)


@NEEDS_FAIRSEQ_MAIN
def test_stock_architecture_needs_no_plugin_afterwards(translation_data, stock_checkpoint, tmp_path):
    run(
        "fairseq-train", translation_data, *LAYERDROP_TRANSLATION, "--arch", "transformer_tiny", *TRANSLATION,
        "--max-update", "2", "--save-dir", tmp_path, "--prune-layers", HALF, "--finetune-from-model", stock_checkpoint,
    )  # fmt: skip
    last = tmp_path / "checkpoint_last.pt"
    stock = generate(translation_data, last, cwd=tmp_path, PYTHONPATH="", **STOCK)
    assert len(sentences(stock)) == 16
    assert sentences(stock) == sentences(generate(translation_data, last, *LAYERDROP_TRANSLATION))


def test_restore_file_with_resets(translation_data, checkpoint, tmp_path):
    """Learning rate 0: the weights are the full model's."""
    train_translation(
        translation_data, tmp_path, 1, "--prune-layers", HALF, "--restore-file", checkpoint, *RESETS,
        "--optimizer", "sgd", "--lr", "0",
    )  # fmt: skip
    expected = slice_state_dict(load_checkpoint(checkpoint)["model"], parse(HALF).resolve(SIX))
    saved = tuned(tmp_path)["model"]
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[key], expected[key]) for key in saved if not key.endswith("_float_tensor"))
    assert len(tuned(tmp_path)["task_state"]["pruning_history"]) == 1


def test_resumes_after_a_kill(translation_data, checkpoint, tmp_path):
    flags = ("--prune-layers", HALF, "--finetune-from-model", str(checkpoint), "--save-interval-updates", "20")
    process = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys; from tests.commands import train_translation;"
            "train_translation(sys.argv[1], sys.argv[2], 100_000, *sys.argv[3:])",
            translation_data, tmp_path, *flags,
        ],
        cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    done_before = None
    while process.poll() is None and done_before is None:
        time.sleep(0.01)
        with contextlib.suppress(CheckpointError):  # not there yet, or fairseq is still copying it
            done_before = tuned(tmp_path)["optimizer_history"][-1]["num_updates"]
    os.killpg(process.pid, 9)
    process.wait()
    again = train_translation(translation_data, tmp_path, done_before + 2, *flags)
    assert "Loaded checkpoint" in said(again) and "pruned layers" not in said(again)
    assert tuned(tmp_path)["optimizer_history"][-1]["num_updates"] == done_before + 2
    assert len(tuned(tmp_path)["task_state"]["pruning_history"]) == 1


def test_of_an_exported_model_needs_no_plan(translation_data, checkpoint, tmp_path):
    """The history of the export goes on, and a further pruning is added to it."""
    small = tmp_path / "small.pt"
    layerdrop("export", checkpoint, "--prune-layers", HALF, "-o", small)
    train_translation(translation_data, tmp_path / "a", 1, "--decoder-layers", "3", "--finetune-from-model", small)
    assert len(tuned(tmp_path / "a")["task_state"]["pruning_history"]) == 1
    train_translation(
        translation_data, tmp_path / "b", 1, "--decoder-layers", "3", "--restore-file", small, *RESETS,
        "--prune-layers", "decoder=drop:1.ffn",
    )  # fmt: skip
    names = [entry["checkpoint"] for entry in tuned(tmp_path / "b")["task_state"]["pruning_history"]]
    assert names == ["checkpoint_last.pt", "small.pt"]


@pytest.mark.parametrize("fp32", [(), ("--ema-fp32",)])
def test_averages_are_pruned_too(translation_data, tmp_path, fp32):
    """With decay 1 the average of the small model stays what it was in the full one."""
    ema = ("--store-ema", *fp32, "--lr", "0.1")
    train_translation(translation_data, tmp_path / "full", 3, *ema, "--ema-decay", "0.5")
    full = tuned(tmp_path / "full")
    train_translation(
        translation_data, tmp_path / "half", 2, *ema, "--ema-decay", "1", "--prune-layers", HALF,
        "--finetune-from-model", tmp_path / "full" / "checkpoint_last.pt",
    )  # fmt: skip
    averages = tuned(tmp_path / "half")["extra_state"]
    expected = slice_state_dict(full["extra_state"]["ema"], parse(HALF).resolve(SIX))
    for kept in [averages["ema"], *([averages["ema_fp32_params"]] if fp32 else [])]:
        assert kept.keys() == expected.keys()
        assert all(torch.equal(kept[key], expected[key]) for key in kept if not key.endswith("_float_tensor"))
    assert not torch.equal(
        averages["ema"]["decoder.layers.1.fc1.weight"], tuned(tmp_path / "half")["model"]["decoder.layers.1.fc1.weight"]
    )


@pytest.mark.parametrize("fp32", [False, True])
def test_averages_of_what_is_shared(fp32):
    """After two updates d²w₀ + d(1-d)w₁ + (1-d)w₂, of layers that share weights and of tied embeddings too."""
    model, values = tiny(decoder_share_layers="2", share_all_embeddings=True), []
    average = EMA(model, EMAConfig(store_ema=True, ema_decay=0.5, ema_fp32=fp32))
    for update in range(3):
        values.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        if update:
            average.step(model, update)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(update)))
    found = average.get_model().state_dict()
    for name, _ in model.named_parameters(remove_duplicate=False):
        expected = values[0][name] / 4 + values[1][name] / 4 + values[2][name] / 2
        torch.testing.assert_close(found[name], expected, msg=name)
    assert found["decoder.layers.0.fc1.weight"].data_ptr() == found["decoder.layers.1.fc1.weight"].data_ptr()


def test_a_model_without_sub_layers_from_scratch(translation_data, tmp_path):
    train_translation(translation_data, tmp_path, 1, "--pruned-sublayers", "decoder=drop:1.ffn")
    assert state_structure(tuned(tmp_path)["model"])["decoder"][1].names == ("self_attn", "encoder_attn")
    assert torch.isfinite(outputs(*load(tmp_path / "checkpoint_last.pt", translation_data))).all()


class TestRestart:
    """Going on in a folder whose model was pruned otherwise ends in one line, before anything is trained."""

    @pytest.fixture(scope="class")
    def folder(self, translation_data, checkpoint, tmp_path_factory):
        out = tmp_path_factory.mktemp("tuned")
        train_translation(translation_data, out, 1, "--prune-layers", HALF, "--finetune-from-model", checkpoint)
        return out

    @pytest.mark.parametrize(
        "flags, words",
        [
            (("--prune-layers", "decoder=keep:0-2"), "pruned otherwise: encoder 6 of 6 layers (0-5), decoder 3 of 6"),
            (("--prune-layers", "decoder=drop:1.ffn"), "pruned otherwise: encoder 6 of 6 layers (0-5), decoder 3 of 6"),
            ((), "decoder 3 of 6 layers (0,2,5), from checkpoint_last.pt (sha256:"),
        ],
    )
    def test_with_another_plan(self, translation_data, checkpoint, folder, flags, words):
        done = train_translation(
            translation_data, folder, 3, *flags, "--finetune-from-model", checkpoint, check=False
        )  # fmt: skip
        ends_in_one_line(done, words, "repeat its --prune-layers")
        assert tuned(folder)["optimizer_history"][-1]["num_updates"] == 1

    def test_without_a_full_model_is_told(self, translation_data, tmp_path):
        done = train_translation(translation_data, tmp_path, 1, "--prune-layers", HALF)
        assert "the pruned model is trained from scratch" in said(done)


class TestMistakes:
    @pytest.mark.parametrize("plan", [(), ("--prune-layers", HALF)])
    def test_checkpoint_of_another_width(self, translation_data, checkpoint, tmp_path, plan):
        flags = ("--encoder-embed-dim", "32", "--decoder-embed-dim", "32", "--finetune-from-model", checkpoint)
        done = train_translation(translation_data, tmp_path, 1, *flags, *plan, check=False)
        ends_in_one_line(done, "embeddings are 32 wide here, 64 in the checkpoint")
        assert "pruned layers" not in said(done)

    def test_weights_that_mean_something_else(self, translation_data, checkpoint, tmp_path):
        """They fit, so that it may be meant."""
        flags = ("--decoder-attention-heads", "4", "--finetune-from-model", checkpoint)
        told = said(train_translation(translation_data, tmp_path, 1, *flags))
        assert told.count("is that meant?") == 1
        assert "was trained with --decoder-attention-heads 2, and this one has 4; is that meant?" in told

    def test_restore_file_without_resets(self, translation_data, checkpoint, tmp_path):
        flags = ("--prune-layers", HALF, "--restore-file", checkpoint)
        done = train_translation(translation_data, tmp_path, 9, *flags, check=False)
        ends_in_one_line(done, "the optimizer state of a full model doesn't fit", "--reset-optimizer")

    def test_in_the_folder_of_the_full_model(self, translation_data, checkpoint):
        done = train_translation(translation_data, checkpoint.parent, 9, "--prune-layers", HALF, check=False)
        ends_in_one_line(done, "the optimizer state of a full model doesn't fit", "another --save-dir")

    def test_export_without_sub_layers(self, translation_data, checkpoint, tmp_path):
        """What the line advises works."""
        small = tmp_path / "small.pt"
        layerdrop("export", checkpoint, "--prune-layers", "decoder=drop:0,2.ffn", "-o", small)
        flags = ("--finetune-from-model", small)
        done = train_translation(translation_data, tmp_path, 1, *flags, check=False)
        advice = "--encoder-layers 6 --decoder-layers 5 --pruned-sublayers decoder=drop:1.ffn"
        ends_in_one_line(done, advice)
        train_translation(translation_data, tmp_path, 1, *flags, *advice.split())
        assert state_structure(tuned(tmp_path)["model"]) == state_structure(load_checkpoint(small)["model"])

    def test_sub_layers_of_a_stock_architecture(self, translation_data, stock_checkpoint, tmp_path):
        done = run(
            "fairseq-train", translation_data, *LAYERDROP_TRANSLATION, "--arch", "transformer_tiny", *TRANSLATION,
            "--save-dir", tmp_path, "--prune-layers", "drop:1.ffn", "--finetune-from-model", stock_checkpoint,
            check=False,
        )  # fmt: skip
        ends_in_one_line(
            done, "sub-layers and heads can be left out of layerdrop_ architectures only; give --arch layerdrop_"
        )

    @pytest.mark.parametrize(
        "flags, words",
        [
            (("--prune-layers", "decoder=drop:0-5.encoder_attn"), "no decoder layer keeps its encoder_attn"),
            (("--pruned-sublayers", "decoder=drop:1-1"), "pruned_sublayers drops only sub-layers"),
            (("--prune-layers", HALF, "--finetune-from-model", "none.pt"), "no such checkpoint: none.pt"),
            (("--pruned-sublayers", "decoder=drop:1.fnn"), "unknown sub-layer 'fnn'"),
        ],
    )
    def test_flags(self, translation_data, tmp_path, flags, words):
        ends_in_one_line(train_translation(translation_data, tmp_path, 1, *flags, check=False), words)

    @pytest.mark.parametrize(
        "flags",
        [
            ("--decoder-layerdrop", "0.1"),
            ("--arch", "transformer_tiny", "--decoder-layerdrop", "0.1"),  # fairseq's issue 3875
            ("--encoder-share-layers", "2"),
            ("--pruned-sublayers", "decoder=drop:1.ffn"),
            ("--prune-layers", HALF),
        ],
    )
    def test_fully_sharded(self, translation_data, tmp_path, flags):
        none = ("--encoder-layerdrop", "0", "--decoder-layerdrop", "0", "--ddp-backend", "fully_sharded")
        done = train_translation(translation_data, tmp_path, 1, *none, *flags, check=False)
        ends_in_one_line(done, "doesn't train with --ddp-backend fully_sharded; give pytorch_ddp or legacy_ddp")
