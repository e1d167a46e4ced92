"""Models that aren't Transformers."""

import pytest

from tests.commands import LAYERDROP_TRANSLATION, TRAIN, ends_in_one_line, generate, layerdrop, run, train_translation

WORDS = "lstm isn't a Transformer"


@pytest.fixture(scope="module")
def lstm(translation_data, tmp_path_factory):
    """A recurrent model, of stock fairseq; in its decoder are `layers`, too."""
    out = tmp_path_factory.mktemp("lstm")
    run(
        "fairseq-train", translation_data, "--task", "translation", "--arch", "lstm", *TRAIN, "--max-tokens", "1000",
        *(f"--{stack}-{size}=16" for stack in ("encoder", "decoder") for size in ("embed-dim", "hidden-size")),
        "--decoder-out-embed-dim", "16", "--encoder-layers", "2", "--decoder-layers", "2", "--max-update", "1",
        "--save-dir", out,
    )  # fmt: skip
    return out / "checkpoint_last.pt"


@pytest.mark.parametrize(
    "verb",
    [
        "describe CKPT",
        "export CKPT -o OUT",
        "export CKPT --prune-layers decoder=keep:1@top -o OUT",
        "export CKPT --format ctranslate2 -o OUT",
        "select DATA --path CKPT --method sleb --keep decoder=1 -o OUT.json --cpu",
        "sweep DATA --path CKPT -o OUT --cpu",
        "sensitivity DATA --path CKPT -o OUT --cpu",
        "mixture DATA --path CKPT -o OUT --cpu",
    ],
)
def test_verbs(translation_data, lstm, tmp_path, verb):
    places = {"CKPT": lstm, "DATA": translation_data, "OUT": tmp_path / "out", "OUT.json": tmp_path / "out.json"}
    done = layerdrop(*(places.get(word, word) for word in verb.split()), check=False)
    ends_in_one_line(done, WORDS)


def test_prune_layers(translation_data, lstm):
    plan = ("--prune-layers", "decoder=keep:1@top")
    ends_in_one_line(generate(translation_data, lstm, *LAYERDROP_TRANSLATION, *plan, check=False), WORDS)
    start = ("--arch", "layerdrop_transformer_tiny", "--finetune-from-model", lstm, *plan)
    done = train_translation(translation_data, lstm.parent / "small", 1, *start, check=False)
    ends_in_one_line(done, WORDS)
    assert "H-0" in generate(translation_data, lstm, *LAYERDROP_TRANSLATION).stdout  # whole, it works as ever
