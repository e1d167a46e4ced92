"""Subwords that nobody joins, letters that ROUGE doesn't know and sentences that don't fit, in what generates."""

import json
import random
import re
from pathlib import Path

import pytest
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from fairseq_layerdrop.analysis.point import MeasureSettings, measure_point
from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import read_plan
from tests.commands import (
    LAYERDROP_TRANSLATION,
    TRANSLATION,
    USER_DIR,
    ends_in_one_line,
    layerdrop,
    run,
    said,
    train_translation,
)

QUICK = {"beam": 1, "max_len_a": 0, "max_len_b": 5, "min_len": 1, "lenpen": 1, "unkpen": 0, "unnormalized": False}
SHORT = ("--beam", "1", "--max-len-b", "5")
GENERATION = {**QUICK, "no_repeat_ngram_size": 0, "match_source_len": False, "temperature": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Parallel text in SentencePiece's pieces, of Cyrillic letters on the target side."""
    text = tmp_path_factory.mktemp("pieces")
    rng = random.Random(0)
    for split, count in {"train": 40, "valid": 8}.items():
        words = [
            [f"▁{rng.choice('абвг')} {rng.choice('дежз')}" for _ in range(rng.randint(2, 6))] for _ in range(count)
        ]
        for side in "ab":
            (text / f"{split}.{side}").write_text("".join(f"{' '.join(line)}\n" for line in words))
    run(
        "fairseq-preprocess", "--source-lang", "a", "--target-lang", "b", "--joined-dictionary", "--destdir",
        text / "data-bin", "--trainpref", text / "train", "--validpref", text / "valid",
    )  # fmt: skip
    return text / "data-bin"


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train_translation(data, out, 1)
    return out / "checkpoint_last.pt"


class TestSweep:
    @pytest.fixture
    def measure(self, data, trained):
        def with_settings(metric, remove_bpe=None, overrides="{}", **words):
            how = MeasureSettings(
                str(data), "valid", None, 400, None, metric, GENERATION, remove_bpe, 2, 1, 1, True, overrides, **words
            )
            return measure_point(str(trained), None, how)

        return with_settings

    @pytest.mark.parametrize(
        "settings, words",
        [
            ({"metric": "sacrebleu"}, "give --remove-bpe sentencepiece"),
            ({"metric": "sacrebleu", "remove_bpe": "subword_nmt"}, "give --remove-bpe sentencepiece"),
            ({"metric": "sacrebleu", "remove_bpe": "letter"}, "the dictionary has no subwords that letter joins"),
            ({"metric": "rouge", "remove_bpe": "sentencepiece"}, "give --tokenizer unicode"),
            ({"metric": "loss", "overrides": "{'max_source_positions': 6}"}, "of 8 samples of 'valid' are too long"),
        ],
    )
    def test_wrong_numbers_are_refused(self, measure, settings, words):
        with pytest.raises(UserError, match=words):
            measure(**settings)

    def test_tokenizers(self, measure):
        assert "tok:char" in measure("sacrebleu", "sentencepiece", tokenize="char")["signature"]
        assert "without stems" in measure("rouge", "sentencepiece", tokenizer="unicode")["signature"]
        assert "tok:13a" in measure("sacrebleu", "none")["signature"]

    def test_a_wrong_tokenizer_is_told_of_first(self, data, trained, tmp_path):
        done = layerdrop("sweep", data, "--path", trained, "-o", tmp_path, "--tokenize", "zh", "--cpu", check=False)
        ends_in_one_line(done, "--tokenize is for sacrebleu, not for loss")
        assert not list(tmp_path.iterdir())


class TestSelect:
    @pytest.fixture
    def select(self, data, trained, tmp_path):
        def ask(*flags, check=True):
            return layerdrop(
                "select", data, "--path", trained, "--cpu", "--method", "search", "--keep", "decoder=5",
                "-o", tmp_path / "plan.json", *flags, check=check,
            )  # fmt: skip

        return ask

    def test_subwords(self, select):
        ends_in_one_line(select("--metric", "bleu", *SHORT, check=False), "give --remove-bpe sentencepiece")

    def test_tokenizers(self, select, tmp_path):
        joined = ("--remove-bpe", "sentencepiece")
        select("--metric", "bleu", "--tokenize", "char", *SHORT, *joined)
        assert read_plan(tmp_path / "plan.json").origin["generation"]["tokenize"] == "char"
        done = select("--metric", "rouge", "--tokenize", "char", "--force", *joined, check=False)
        ends_in_one_line(done, "--tokenize is for sacrebleu, not for rouge")
        done = select("--metric", "loss", "--tokenizer", "unicode", "--force", check=False)
        ends_in_one_line(done, "--tokenizer is for search --metric bleu or rouge")


class TestEvalRouge:
    @pytest.fixture
    def train(self, data, tmp_path):
        def with_flags(*flags, check=True):
            return run(
                "fairseq-train", data, "--user-dir", USER_DIR, "--task", "layerdrop_summarization", "--arch",
                "layerdrop_transformer_tiny", *(flag for flag in TRANSLATION if flag != "--disable-validation"),
                "--max-update", "1", "--eval-rouge", "--eval-rouge-args", json.dumps(GENERATION), *flags,
                "--save-dir", tmp_path, check=check,
            )  # fmt: skip

        return with_flags

    @pytest.mark.parametrize(
        "flags, words",
        [
            ((), "--eval-rouge: rouge-score knows only a to z and 0 to 9"),
            (("--eval-rouge-remove-bpe", "subword_nmt"), "give --eval-rouge-remove-bpe sentencepiece"),
        ],
    )
    def test_refused_before_the_first_update(self, train, tmp_path, flags, words):
        ends_in_one_line(train(*flags, check=False), words)
        assert not list(tmp_path.iterdir())

    def test_unicode(self, train):
        assert re.search(r"valid on 'valid'.*\brougeL [\d.]+", said(train("--eval-rouge-tokenizer", "unicode")))

    def test_words_are_not_joined(self, translation_data, tmp_path):
        done = run(
            "fairseq-train", translation_data, "--user-dir", USER_DIR, "--task", "layerdrop_question_answering",
            "--arch", "layerdrop_transformer_tiny", *TRANSLATION, "--eval-rouge", "--save-dir", tmp_path, check=False,
        )  # fmt: skip
        ends_in_one_line(done, "the dictionary has no subwords that sentencepiece joins; say what does, or none")


def test_eval_bleu_of_subwords_is_told(data, translation_data, caplog):
    """fairseq would score them as words; of words, and where they are joined, there is nothing to tell."""
    for folder, flags, told in (
        (data, (), "--eval-bleu scores subwords as words; give --eval-bleu-remove-bpe sentencepiece"),
        (data, ("--eval-bleu-remove-bpe", "sentencepiece"), None),
        (translation_data, (), None),
    ):
        caplog.clear()
        given = [str(folder), *LAYERDROP_TRANSLATION, "--arch", "layerdrop_transformer_tiny", "--eval-bleu", *flags]
        training = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), given))
        tasks.setup_task(training.task).build_model(training.model)
        assert [record.message for record in caplog.records if "--eval-bleu" in record.message] == [told] * bool(told)
