"""Logs of runs that left something out, and what fairseq writes elsewhere: refused or read by all readers."""

import re

import pytest

from fairseq_layerdrop.evaluation import (
    LogError,
    Metric,
    read_eval_lm_log,
    read_generation_log,
    read_validation_log,
    tokenised_bleu,
)
from fairseq_layerdrop.reports.depth_table import measure
from tests.commands import (
    LAYERDROP_TRANSLATION,
    NEEDS_FAIRSEQ_MAIN,
    USER_DIR,
    ends_in_one_line,
    layerdrop,
    run,
    said,
    train_lm,
)

# 20 sentences: 16 are a multiple of 8.
VALID = ("--cpu", "--num-workers", "0", "--max-tokens", "400", "--gen-subset", "valid")
SHORT = ("--beam", "2", "--max-len-b", "8")
STOCK_TASK = ("--user-dir", USER_DIR, "--task", "translation")
STOCK_LM_TASK = ("--user-dir", USER_DIR, "--task", "language_modeling")
LM = ("--user-dir", USER_DIR, "--task", "layerdrop_language_modeling")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def translate(translation_data, checkpoint, folder):
    """Translates the validation set into a log with a name."""

    def into(name, *flags):
        (folder / name).write_text(
            said(run("fairseq-generate", translation_data, "--path", checkpoint, *VALID, *SHORT, *flags))
        )
        return folder / name

    return into


@pytest.fixture(scope="module")
def whole(translate):
    return translate("whole.log", *LAYERDROP_TRANSLATION)


class TestGeneration:
    def test_our_task_leaves_nothing_out(self, whole):
        assert len(read_generation_log(whole).hypotheses) == 20

    @pytest.mark.parametrize(
        "flags, words",
        [
            pytest.param(
                STOCK_TASK,
                r"has 16 of 20 sentences: .* give fairseq-generate --required-batch-size-multiple 1",
                marks=NEEDS_FAIRSEQ_MAIN,
            ),
            (
                (*LAYERDROP_TRANSLATION, "--max-source-positions", "6", "--skip-invalid-size-inputs-valid-test"),
                "samples were too long and left out; give --truncate-source",
            ),
        ],
        ids=["multiple", "skipped"],
    )
    def test_a_part_is_refused(self, translate, flags, words):
        log = translate("part.log", *flags)
        with pytest.raises(LogError, match=words):
            read_generation_log(log)
        done = layerdrop("score", log, check=False)
        ends_in_one_line(done, *re.findall(r"[a-z ]{9,}", words)[:1])

    def test_a_shard(self, whole, tmp_path):
        text = whole.read_text()
        assert "'distributed_world_size': 1," in text
        (tmp_path / "log").write_text(text.replace("'distributed_world_size': 1,", "'distributed_world_size': 2,"))
        with pytest.raises(LogError, match="is of one of 2 shards of the data"):
            read_generation_log(tmp_path / "log")

    def test_gaps_tell_without_fairseqs_lines(self, whole, tmp_path):
        lines = [line for line in whole.read_text().split("\n") if not re.search(r"examples|^[A-Z]-7\t", line)]
        (tmp_path / "log").write_text("\n".join(lines).replace("Translated 20", "Translated 19"))
        with pytest.raises(LogError, match="has 19 of 20 sentences"):
            read_generation_log(tmp_path / "log")

    def test_runs_that_share_a_log(self, whole, tmp_path):
        """Whole or not, the first one's sentences would be taken."""
        text = whole.read_text()
        for first in (text, text[: text.index("Translated")]):
            (tmp_path / "log").write_text(first + text)
            with pytest.raises(LogError, match="is of several runs or subsets; give each a log of its own"):
                read_generation_log(tmp_path / "log")

    @pytest.mark.parametrize("kind", ["H", "T"])
    def test_lines_belong_to_their_sentences(self, whole, tmp_path, kind):
        (tmp_path / "log").write_text(re.sub(rf"(?m)^{kind}-7\t.*\n", "", whole.read_text()))
        with pytest.raises(LogError, match=f"has not every line of sentence 7: D- and {kind}- are needed"):
            read_generation_log(tmp_path / "log")


class TestResultsPath:
    """fairseq's own lines go into the file or to the console, by who began to log."""

    OF_SENTENCES = re.compile(r"[A-Z]-\d+\t|Generate ")

    @pytest.fixture(scope="class")
    def results(self, translate, folder):
        translate("console.log", *LAYERDROP_TRANSLATION, "--results-path", folder / "results")
        return folder / "results" / "generate-valid.txt"

    @pytest.fixture(scope="class")
    def bare(self, results, folder):
        lines = [line for line in results.read_text().split("\n") if self.OF_SENTENCES.match(line)]
        (folder / "bare").write_text("".join(f"{line}\n" for line in lines))
        return folder / "bare"

    def test_it_scores_as_the_log(self, results, bare, whole):
        log = read_generation_log(whole)
        for file in (results, bare):
            read = read_generation_log(file)
            assert (read.hypotheses, read.references) == (log.hypotheses, log.references)
            scored = layerdrop("score", file, "--metric", "bleu").stdout
            assert f"{tokenised_bleu(log.tokenised, log.references).score:.2f}" in scored
        assert (read.seconds, read.tokens, read.pruning) == (None, None, None)

    def test_mistakes(self, bare, whole, tmp_path):
        lines = whole.read_text().split("\n")
        (tmp_path / "console").write_text("\n".join(line for line in lines if not self.OF_SENTENCES.match(line)))
        done = layerdrop("score", tmp_path / "console", check=False)
        ends_in_one_line(done, "with --results-path they are in its generate-….txt")
        with pytest.raises(LogError, match="tells no time and no plan; give the whole log"):
            measure([bare], Metric("sacrebleu"))
        text = bare.read_text()
        cut = text[: text.index("Generate valid with beam=2")]
        for name, part in {"killed": cut, "killed in a sentence": cut[: cut.rindex("\nP-") + 1]}.items():
            (tmp_path / name).write_text(part)
            with pytest.raises(LogError, match="no log of a finished fairseq-generate"):
                read_generation_log(tmp_path / name)

    def test_without_references_no_score_ends_it(self, bare, tmp_path):
        lines = bare.read_text().split("\n")
        (tmp_path / "sources").write_text("\n".join(line for line in lines if not line.startswith(("T-", "Generate"))))
        read = read_generation_log(tmp_path / "sources")
        assert len(read.hypotheses) == 20 and read.references == []


class TestLanguageModel:
    @pytest.fixture(scope="class")
    def trained(self, lm_data, tmp_path_factory):
        out = tmp_path_factory.mktemp("bos")
        train_lm(lm_data, out, 1, "--add-bos-token")
        return out / "checkpoint_last.pt"

    @pytest.fixture
    def evaluate(self, lm_data, trained, tmp_path):
        def into_log(*flags, check=True):
            done = run("fairseq-eval-lm", lm_data, "--path", trained, *VALID, *flags, check=check)
            (tmp_path / "log").write_text(said(done))
            return tmp_path / "log"

        return into_log

    @pytest.mark.parametrize("flags", [("--tokens-per-sample", "32"), ("--context-window", "8")])
    def test_tokens_are_those_of_the_text(self, evaluate, lm_data, flags):
        """Words and line ends, without the <s> of each block."""
        lines = (lm_data.parent / "valid").read_text().splitlines()
        count = sum(len(line.split()) + 1 for line in lines)
        log = evaluate(*LM, "--add-bos-token", *flags)
        assert read_eval_lm_log(log).tokens == count
        told = layerdrop("score", log, "--metric", "perplexity", "--words", count).stdout
        by_token, by_word = (re.search(rf"perplexity by {unit} +([\d.]+)", told)[1] for unit in ("token", "word"))
        assert by_token == by_word

    @pytest.mark.parametrize(
        "flags, words",
        [
            ((), "samples were too long and left out; give --tokens-per-sample what the model takes"),
            (("--tokens-per-sample", "32", "--remove-bpe"), "give fairseq-eval-lm no --remove-bpe"),
        ],
        ids=["all", "joined"],
    )
    def test_what_is_no_score_of_the_text_is_refused(self, evaluate, flags, words):
        log = evaluate(*STOCK_LM_TASK, "--add-bos-token", *flags)
        with pytest.raises(LogError, match=words):
            read_eval_lm_log(log)
        ends_in_one_line(layerdrop("score", log, "--metric", "perplexity", check=False), words)

    def test_runs_that_share_a_log(self, evaluate, tmp_path):
        text = evaluate(*LM, "--add-bos-token", "--tokens-per-sample", "32").read_text()
        for first in (text, text[: text.index("Loss (base 2)")]):
            (tmp_path / "log").write_text(first + text)
            with pytest.raises(LogError, match="is of several runs or subsets"):
                read_eval_lm_log(tmp_path / "log")

    def test_nothing_was_scored(self, tmp_path):
        (tmp_path / "log").write_text(
            "Evaluated 0 tokens in 0.0s (0.00 tokens/s)\nLoss (base 2): 0.0000, Perplexity: 1.00\n"
        )
        with pytest.raises(LogError, match="no tokens were scored"):
            read_eval_lm_log(tmp_path / "log")


def test_validation_of_a_part(tmp_path):
    (tmp_path / "log").write_text(
        "3 samples have invalid sizes and will be skipped, max_positions=32\nvalid on 'valid' subset | loss 3.000\n"
    )
    with pytest.raises(LogError, match="3 samples were too long and left out"):
        read_validation_log(tmp_path / "log")


def test_validation_of_several_subsets(tmp_path):
    lines = [f"valid on '{subset}' subset | loss {loss}" for subset, loss in (("valid", 3.0), ("test", 4.0))]
    (tmp_path / "log").write_text("\n".join(lines))
    with pytest.raises(LogError, match="is of several runs or subsets"):
        read_validation_log(tmp_path / "log")
