"""layerdrop_summarization and layerdrop_question_answering with fairseq's own commands."""

import re

import pytest

from fairseq_layerdrop.evaluation import read_generation_log
from fairseq_layerdrop.evaluation.rouge import answer_rouge, summary_rouge
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from tests.commands import EVALUATE, TRANSLATION, USER_DIR, ends_in_one_line, generate, layerdrop, run, said

TASKS = {"layerdrop_summarization": summary_rouge, "layerdrop_question_answering": answer_rouge}


def train(task, data, out, *flags, check=True):
    return run(
        "fairseq-train", data, "--user-dir", USER_DIR, "--task", task, "--arch", "layerdrop_transformer_tiny",
        *(flag for flag in TRANSLATION if flag != "--disable-validation"), "--max-update", "2", "--save-dir", out,
        "--required-batch-size-multiple", "1", *flags, check=check,
    )  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_rouge_while_training_is_that_of_generating(translation_data, tmp_path, task):
    """The same model, decoded with the same settings; the best checkpoint is chosen by ROUGE."""
    settings = '{"beam": 2, "min_len": 3, "max_len_a": 0, "max_len_b": 12, "no_repeat_ngram_size": 3}'
    done = train(
        task, translation_data, tmp_path, "--eval-rouge", "--eval-rouge-args", settings,
        "--best-checkpoint-metric", "rouge1", "--maximize-best-checkpoint-metric", "--max-source-positions", "64",
        "--truncate-source", "--eval-rouge-remove-bpe", "@@ ", "--max-update", "30", "--lr", "0.01",
    )  # fmt: skip
    epochs = [
        dict(re.findall(r"\b(rouge\w+) ([\d.]+)", line)) for line in re.findall(r"valid on 'valid'.*", said(done))
    ]
    logged = max(epochs, key=lambda epoch: float(epoch["rouge1"]))
    generated = generate(
        translation_data, tmp_path / "checkpoint_best.pt", "--user-dir", USER_DIR, "--task", task, "--gen-subset",
        "valid", "--beam", "2", "--min-len", "3", "--max-len-b", "12", "--no-repeat-ngram-size", "3",
        "--remove-bpe", "@@ ",
    )  # fmt: skip
    (tmp_path / "log").write_text(said(generated))
    log = read_generation_log(tmp_path / "log")
    expected = TASKS[task](log.tokenised, log.references)
    assert expected["rouge1"] > 5
    assert {name: float(value) for name, value in logged.items()} == {
        name: pytest.approx(score, abs=0.006) for name, score in expected.items()
    }
    for words in map(str.split, log.tokenised):
        triples = list(zip(words, words[1:], words[2:]))
        assert len(set(triples)) == len(triples)
    assert min(len(line.split()) for line in log.tokenised) >= 3
    validated = run(
        "fairseq-validate", translation_data, "--path", tmp_path / "checkpoint_best.pt", "--user-dir", USER_DIR,
        "--task", task, "--valid-subset", "valid", *EVALUATE,
    )  # fmt: skip
    again = {name: float(value) for name, value in re.findall(r"\b(rouge\w+) ([\d.]+)", said(validated))}
    assert again == {name: pytest.approx(score, abs=0.006) for name, score in expected.items()}
    assert load_checkpoint(tmp_path / "checkpoint_best.pt")["extra_state"]["best"] == pytest.approx(
        expected["rouge1"], abs=0.006
    )


def test_prunes_and_exports(translation_data, tmp_path):
    train("layerdrop_summarization", translation_data, tmp_path)
    last = tmp_path / "checkpoint_last.pt"
    ours = ("--user-dir", USER_DIR, "--task", "layerdrop_summarization", "--prune-layers", "decoder=keep:2@every_other")
    assert "decoder 2 of 6 layers (0,3)" in said(generate(translation_data, last, *ours))
    layerdrop("export", last, *ours[-2:], "-o", tmp_path / "small.pt")
    assert load_checkpoint(tmp_path / "small.pt")["args"].task == "translation"


def test_mistake(translation_data, tmp_path):
    done = train(
        "layerdrop_summarization", translation_data, tmp_path, "--eval-rouge", "--eval-rouge-args", "beam", check=False
    )
    ends_in_one_line(done, "--eval-rouge-args must be a JSON object, not 'beam'")
