"""``fairseq-layerdrop glue``: a fine-tuned model by GLUE's metrics."""

import json
import re

import pytest
from fairseq_cli import validate

from fairseq_layerdrop.analysis.glue import check_libraries
from tests.commands import EVALUATE, USER_DIR, ends_in_one_line, layerdrop

pytest.importorskip("sklearn")


@pytest.fixture
def glue(sentence_data, classifier):
    def ask(*arguments, path=classifier, check=True):
        return layerdrop("glue", sentence_data, "--path", path, "--task", "SST-2", "--cpu", *arguments, check=check)

    return ask


def test_the_accuracy_is_that_of_fairseq_validate(glue, logged, sentence_data, classifier):
    log = logged(
        validate.cli_main, sentence_data, "--path", classifier, "--user-dir", USER_DIR, "--task",
        "layerdrop_sentence_prediction", "--criterion", "sentence_prediction", "--valid-subset", "valid", *EVALUATE,
    )  # fmt: skip
    found = json.loads(glue("--json").stdout)
    assert found["scores"] == {"accuracy": pytest.approx(float(re.search(r"\| accuracy ([\d.]+)", log)[1]), abs=0.06)}
    assert (found["examples"], found["task"]) == (20, "SST-2") and found["seconds"] > 0
    assert re.search(
        rf"accuracy +{found['scores']['accuracy']:.2f}\n20 examples in .* s, [\d,]+ parameters", glue().stdout
    )


def test_mistakes(glue, masked_lm):
    ends_in_one_line(glue("--task", "STS-B", check=False), "isn't fine-tuned on STS-B")
    ends_in_one_line(glue("--task", "MNLI", check=False), "isn't fine-tuned on MNLI")
    ends_in_one_line(glue("--task", "RTE", check=False), "is no data of RTE: it has the label '0'")
    ends_in_one_line(glue("--repeats", "0", check=False), "--repeats must be at least 1")
    ends_in_one_line(glue(path=masked_lm, check=False), "is no fine-tuned model: it has no classification head")


def test_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"isn't installed; pip install 'fairseq-layerdrop\[glue\]'"):
        check_libraries()
