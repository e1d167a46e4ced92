"""fairseq's own commands with layerdrop_language_modeling."""

import re

import pytest

from fairseq_layerdrop import LayerDropTransformerLanguageModel
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import EVALUATE, STOCK, TRAIN, USER_DIR, ends_in_one_line, run, said, train_lm

OURS = ("--user-dir", USER_DIR, "--task", "layerdrop_language_modeling")
SIZE = ("--decoder-layers", "6", "--tokens-per-sample", "32", "--max-tokens", "128", "--max-update", "10")


@pytest.fixture(scope="module")
def checkpoint(lm_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("lm")
    train_lm(lm_data, out, 10, "--seed", "5")
    return out / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def stock_checkpoint(lm_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("stock_lm")
    run(
        "fairseq-train", lm_data, "--task", "language_modeling", "--arch", "transformer_lm_gpt2_tiny", *TRAIN, *SIZE,
        "--save-dir", out,
    )  # fmt: skip
    return out / "checkpoint_last.pt"


def evaluate(data, checkpoint, *flags, **kwargs):
    return run(
        "fairseq-eval-lm", data, "--path", checkpoint, "--gen-subset", "valid", "--tokens-per-sample", "32", *EVALUATE,
        *flags, **kwargs,
    )  # fmt: skip


def loss(done):
    return re.search(r"Loss \(base 2\): ([\d.]+)", said(done))[1]


def test_seed_is_saved(checkpoint):
    assert load_checkpoint(checkpoint)["cfg"]["model"]["seed"] == 5


class TestEvalLm:
    def test_pruned(self, lm_data, checkpoint):
        whole, pruned = (
            evaluate(lm_data, checkpoint, *OURS),
            evaluate(lm_data, checkpoint, *OURS, "--prune-layers", "keep:1,4"),
        )
        assert "pruned layers: kept decoder 2 of 6 layers (1,4); " in said(pruned)
        assert loss(whole) != loss(pruned)

    @pytest.mark.parametrize("which", ["checkpoint", "stock_checkpoint"])
    def test_model_overrides(self, lm_data, request, which):
        overrides = "{'prune_layers':'keep:1,4'}"
        done = evaluate(lm_data, request.getfixturevalue(which), *OURS, "--model-overrides", overrides)
        assert "pruned layers: kept decoder 2 of 6 layers (1,4); " in said(done)

    def test_stock_checkpoint_as_stock_prunes_it(self, lm_data, stock_checkpoint):
        stock = evaluate(lm_data, stock_checkpoint, "--model-overrides", "{'decoder_layers_to_keep':'0,2,4'}", **STOCK)
        ours = evaluate(lm_data, stock_checkpoint, *OURS, "--prune-layers", "keep:3@every_other")
        assert loss(ours) == loss(stock)

    @pytest.mark.parametrize(
        "spec, words",
        [
            ("drop:6@top", "the decoder has 6 layers, so drop 1 to 5"),
            ("encoder=keep:1-1", "this model has no encoder"),
            ("keep:1,1", "layer 1 more than once"),
        ],
    )
    def test_wrong_spec(self, lm_data, checkpoint, spec, words):
        ends_in_one_line(evaluate(lm_data, checkpoint, *OURS, "--prune-layers", spec, check=False), words)


class TestBlocks:
    """fairseq-eval-lm cuts the text as the model was trained with, 32 tokens here, unless it is told otherwise."""

    @pytest.fixture
    def evaluate(self, lm_data, request):
        def with_flags(*flags, which="checkpoint", task="layerdrop_language_modeling", check=True):
            return run(
                "fairseq-eval-lm", lm_data, "--path", request.getfixturevalue(which), "--gen-subset", "valid",
                "--user-dir", USER_DIR, "--task", task, "--cpu", "--num-workers", "0", *flags, check=check,
            )  # fmt: skip

        return with_flags

    @pytest.mark.parametrize("which", ["checkpoint", "stock_checkpoint"])
    def test_the_checkpoints_own(self, evaluate, which):
        done = evaluate(which=which)
        assert "blocks of 32 tokens, as the model was trained with" in said(done)
        assert loss(done) == loss(evaluate("--tokens-per-sample", "32", which=which))

    def test_with_context(self, evaluate):
        """Each block with its context is as long; stock fairseq is told the length."""
        stock = evaluate("--context-window", "8", "--tokens-per-sample", "32", task="language_modeling")
        assert loss(evaluate("--context-window", "8")) == loss(stock)

    @pytest.mark.parametrize(
        "flags, words",
        [
            (
                ("--tokens-per-sample", "40"),
                "blocks, up to 40 tokens long, don't fit the model, which takes 32",
            ),
            (
                ("--sample-break-mode", "eos", "--model-overrides", "{'max_target_positions': 9}"),
                "which takes 9; give --tokens-per-sample 9 --sample-break-mode none",
            ),
            (("--context-window", "32"), "--context-window 32 leaves nothing of the model's blocks of 32 tokens"),
        ],
    )
    def test_what_does_not_fit(self, evaluate, flags, words):
        ends_in_one_line(evaluate(*flags, check=False), words)

    def test_what_is_to_be_left_out(self, evaluate):
        done = evaluate("--tokens-per-sample", "40", "--skip-invalid-size-inputs-valid-test")
        assert "samples have invalid sizes and will be skipped" in said(done)

    def test_start_symbols(self, evaluate):
        assert "trained without --add-bos-token; this runs it otherwise" in said(evaluate("--add-bos-token"))


@pytest.mark.parametrize("which", ["checkpoint", "stock_checkpoint"])
def test_validate(lm_data, request, which):
    done = run(
        "fairseq-validate", lm_data, "--path", request.getfixturevalue(which), *OURS, "--prune-layers", "drop:2@bottom",
        "--valid-subset", "valid", *EVALUATE,
    )  # fmt: skip
    assert "pruned layers: kept decoder 4 of 6 layers (2-5); " in said(done)


def test_training_a_pruned_model(lm_data, checkpoint, tmp_path):
    done = run(
        "fairseq-train", lm_data, *OURS, "--arch", "layerdrop_transformer_lm_tiny", *TRAIN, *SIZE,
        "--prune-layers", "keep:0,5", "--finetune-from-model", checkpoint, "--save-dir", tmp_path,
    )  # fmt: skip
    assert "pruned layers: kept decoder 2 of 6 layers (0,5); " in said(done)
    saved = load_checkpoint(tmp_path / "checkpoint_last.pt")["cfg"]
    assert saved["model"]["decoder_layers"] == 2 and saved["task"]["prune_layers"] is None
    evaluate(lm_data, tmp_path / "checkpoint_last.pt", *OURS)


def test_from_pretrained(lm_data, checkpoint):
    hub = LayerDropTransformerLanguageModel.from_pretrained(
        str(checkpoint.parent), checkpoint.name, str(lm_data), prune_layers="keep:0-2"
    )
    assert len(hub.models[0].decoder.layers) == 3
    assert hub.score("w1 w2 w3")["positional_scores"].numel() == 3
