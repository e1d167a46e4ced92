"""fairseq's own commands with layerdrop_translation, on a checkpoint of stock fairseq and on ours."""

import re

import pytest
import torch
from fairseq.models.transformer import TransformerModel

from fairseq_layerdrop import LayerDropTransformerModel
from fairseq_layerdrop.evaluation import read_generation_log
from fairseq_layerdrop.plan import PlanError
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import (
    EVALUATE,
    LAYERDROP_TRANSLATION,
    NEEDS_FAIRSEQ_MAIN,
    STOCK,
    ends_in_one_line,
    generate,
    run,
    said,
    train_on_two,
    train_translation,
)


def hypotheses(done):
    """Hypotheses with their scores, tokens' scores too, in the order printed."""
    return re.findall(r"^[HDP]-\d+\t.*$", done.stdout, re.MULTILINE)


def pruned_line(done):
    (line,) = re.findall(r"pruned layers: (.*)", said(done))
    return line


@NEEDS_FAIRSEQ_MAIN
class TestStockCheckpoint:
    def test_same_hypotheses_and_scores_as_stock_pruning(self, translation_data, stock_checkpoint):
        overrides = "{'encoder_layers_to_keep':'0,2,4','decoder_layers_to_keep':'0,2,4'}"
        stock = generate(translation_data, stock_checkpoint, "--model-overrides", overrides, **STOCK)
        spec = "encoder=keep:0,2,4/decoder=keep:0,2,4"
        ours = generate(translation_data, stock_checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", spec)
        assert len(hypotheses(stock)) == 3 * 16
        assert hypotheses(ours) == hypotheses(stock)

    def test_whole_model_is_stocks(self, translation_data, stock_checkpoint):
        stock = generate(translation_data, stock_checkpoint, **STOCK)
        assert hypotheses(generate(translation_data, stock_checkpoint, *LAYERDROP_TRANSLATION)) == hypotheses(stock)

    def test_one_sided_and_non_contiguous_where_stock_fails(self, translation_data, stock_checkpoint):
        overrides = "{'decoder_layers_to_keep':'0,1,3'}"
        stock = generate(translation_data, stock_checkpoint, "--model-overrides", overrides, check=False, **STOCK)
        assert stock.returncode and "Missing key(s)" in stock.stderr
        ours = generate(
            translation_data, stock_checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", "decoder=keep:0,1,3"
        )
        assert len(hypotheses(ours)) == 3 * 16
        assert pruned_line(ours).startswith("kept encoder 6 of 6 layers (0-5), decoder 3 of 6 layers (0-1,3); ")

    def test_validate(self, translation_data, stock_checkpoint):
        """fairseq-validate takes the task from the checkpoint; the plan must get through all the same."""
        command = (
            "fairseq-validate",
            translation_data,
            "--path",
            stock_checkpoint,
            "--valid-subset",
            "valid",
            *EVALUATE,
        )
        whole = run(*command, "--task", "translation", **STOCK)
        pruned = run(*command, *LAYERDROP_TRANSLATION, "--prune-layers", "decoder=keep:1@bottom")
        assert "decoder 1 of 6 layers (0)" in pruned_line(pruned)
        losses = [re.search(r"\| loss ([\d.]+)", said(done))[1] for done in (whole, pruned)]
        assert losses[0] != losses[1]

    @pytest.mark.parametrize("model", [TransformerModel, LayerDropTransformerModel])
    def test_from_pretrained(self, translation_data, stock_checkpoint, model):
        hub = model.from_pretrained(
            str(stock_checkpoint.parent), stock_checkpoint.name, str(translation_data), prune_layers="decoder=keep:0,5"
        )
        assert (len(hub.models[0].encoder.layers), len(hub.models[0].decoder.layers)) == (6, 2)
        assert isinstance(hub.translate("w1 w2 w3"), str)

    def test_checkpoint_with_args_instead_of_cfg(self, translation_data, stock_checkpoint, tmp_path):
        """As fairseq wrote them before 0.10."""
        state = load_checkpoint(stock_checkpoint)
        torch.save({**state, "args": state["cfg"]["model"], "cfg": None}, tmp_path / "old.pt")
        command = (
            "fairseq-validate",
            translation_data,
            "--path",
            tmp_path / "old.pt",
            "--valid-subset",
            "valid",
            *EVALUATE,
        )
        done = run(*command, *LAYERDROP_TRANSLATION, "--prune-layers", "keep:3@every_other")
        assert "encoder 3 of 6 layers (0,2,4), decoder 3 of 6 layers (0,2,4)" in pruned_line(done)

    def test_from_pretrained_refuses_by_exception(self, translation_data, stock_checkpoint):
        with pytest.raises(PlanError, match="has layers 0-5, not 6") as caught:
            TransformerModel.from_pretrained(
                str(stock_checkpoint.parent), stock_checkpoint.name, str(translation_data), prune_layers="keep:6-6"
            )
        assert isinstance(caught.value, ValueError)


class TestTraining:
    def test_a_restarted_run_ends_as_an_unbroken_one(self, translation_data, checkpoint, tmp_path):
        """The same draws, dropout and batches, and so the same parameters bit for bit (an epoch has six updates)."""
        train_translation(translation_data, tmp_path, 2, "--seed", "3")
        resumed = train_translation(translation_data, tmp_path, 4, "--seed", "3")
        assert "Loaded checkpoint" in said(resumed)
        whole, again = (load_checkpoint(path)["model"] for path in (checkpoint, tmp_path / "checkpoint_last.pt"))
        assert whole.keys() == again.keys()
        assert all(torch.equal(whole[key], again[key]) for key in whole if not key.endswith("_float_tensor"))

    def test_a_checkpoint_of_another_depth_ends_in_one_line(self, translation_data, checkpoint, tmp_path):
        done = train_translation(
            translation_data, tmp_path, 2, "--decoder-layers", "4", "--prune-layers", "decoder=keep:0,2",
            "--finetune-from-model", checkpoint, check=False,
        )  # fmt: skip
        ends_in_one_line(done, "the plan is for 4 decoder layers, but the checkpoint has 6", "needs --decoder-layers 6")

    def test_two_processes(self, translation_data, tmp_path):
        """fairseq's own two-process training runs and saves; test_data_parallel compares what two ranks draw."""
        done = train_on_two(translation_data, tmp_path, 4, "--ddp-backend", "legacy_ddp")
        assert "num_updates=4" in said(done[0])
        assert all(torch.isfinite(t).all() for t in load_checkpoint(tmp_path / "checkpoint_last.pt")["model"].values())

    def test_settings_are_saved(self, checkpoint):
        model = load_checkpoint(checkpoint)["cfg"]["model"]
        assert (model.encoder_layerdrop, model.decoder_layerdrop, model.encoder_layers) == (0.5, 0.5, 6)
        assert model.seed == 3


class TestOurCheckpoint:
    def test_model_overrides(self, translation_data, checkpoint):
        done = generate(
            translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--model-overrides", "{'prune_layers':'keep:1@top'}"
        )
        assert "encoder 1 of 6 layers (5), decoder 1 of 6 layers (5)" in pruned_line(done)

    @pytest.mark.parametrize(
        "overrides, words",
        [
            ("{'prune_layers':3}", "'3' must start with keep: or drop:"),
            ("[1]", "--model-overrides must be a dict in Python, not '[1]'"),
            ("{", "--model-overrides must be a dict in Python, not '{'"),
        ],
    )
    def test_wrong_model_overrides(self, translation_data, checkpoint, overrides, words):
        done = generate(
            translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--model-overrides", overrides, check=False
        )
        ends_in_one_line(done, words)

    def test_the_log_tells_programs(self, translation_data, checkpoint, tmp_path):
        """As JSON, what it tells people in words; logs of older versions have the words alone."""
        done = generate(translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", "decoder=keep:0,3")
        for name, text in {"new": said(done), "old": re.sub(r".*pruned layers as JSON.*\n", "", said(done))}.items():
            (tmp_path / name).write_text(text)
        new, old = (read_generation_log(tmp_path / name).pruning for name in ("new", "old"))
        assert new == old and new.depths == {"encoder": (6, 6), "decoder": (2, 6)}
        assert "as JSON" in said(done) and "as JSON" not in (tmp_path / "old").read_text()

    def test_generate(self, translation_data, checkpoint):
        done = generate(translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", "drop:3@top")
        assert pruned_line(done).startswith("kept encoder 3 of 6 layers (0-2), decoder 3 of 6 layers (0-2); ")

    @NEEDS_FAIRSEQ_MAIN
    def test_ensemble_shares_the_plan(self, translation_data, checkpoint, stock_checkpoint):
        done = generate(
            translation_data,
            f"{checkpoint}:{stock_checkpoint}",
            *LAYERDROP_TRANSLATION,
            "--prune-layers",
            "decoder=keep:1@top",
        )
        assert len(re.findall("pruned layers: kept .*decoder 1 of 6 layers .5.;", said(done))) == 2

    def test_interactive(self, translation_data, checkpoint):
        done = run(
            "fairseq-interactive", translation_data, "--path", checkpoint, *LAYERDROP_TRANSLATION,
            "--prune-layers", "decoder=keep:0-2",
            "--cpu", "--source-lang", "a", "--target-lang", "b", stdin="w1 w2 w3\n",
        )  # fmt: skip
        assert "decoder 3 of 6 layers (0-2)" in pruned_line(done)
        assert re.search(r"^H-0\t", done.stdout, re.MULTILINE)

    def test_validate(self, translation_data, checkpoint):
        done = run(
            "fairseq-validate", translation_data, "--path", checkpoint, *LAYERDROP_TRANSLATION,
            "--prune-layers", "keep:2@every_other",
            "--valid-subset", "valid", *EVALUATE,
        )  # fmt: skip
        assert pruned_line(done).startswith("kept encoder 2 of 6 layers (0,3), decoder 2 of 6 layers (0,3); ")

    def test_stock_layers_to_keep_excludes_prune_layers(self, translation_data, checkpoint):
        done = generate(
            translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", "keep:0-0", "--model-overrides",
            "{'decoder_layers_to_keep':'0,2'}", check=False,
        )  # fmt: skip
        ends_in_one_line(done, "--decoder-layers-to-keep and --prune-layers exclude each other")
