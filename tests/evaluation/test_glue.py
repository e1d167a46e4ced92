import math

import pytest

from fairseq_layerdrop.corpora.glue import TASKS
from fairseq_layerdrop.evaluation.glue import METRICS, glue_scores, majority_scores

pytest.importorskip("sklearn")


def test_every_task_has_metrics():
    assert METRICS.keys() == TASKS.keys()


def test_by_formula():
    """A table of 4 true and 1 false positives, 2 false and 3 true negatives."""
    gold = ["1"] * 4 + ["0"] + ["1"] * 2 + ["0"] * 3
    predicted = ["1"] * 5 + ["0"] * 5
    assert glue_scores("MRPC", predicted, gold) == pytest.approx({"accuracy": 70, "F1": 100 * 8 / (8 + 1 + 2)})
    matthews = (4 * 3 - 1 * 2) / math.sqrt(5 * 6 * 4 * 5)
    assert glue_scores("CoLA", predicted, gold) == pytest.approx({"Matthews correlation": 100 * matthews})


def test_correlations():
    """Ranks agree though the values don't lie on a line."""
    found = glue_scores("STS-B", [1.0, 2.0, 10.0], [1.0, 2.0, 3.0])
    assert found["Spearman correlation"] == pytest.approx(100)
    assert found["Pearson correlation"] == pytest.approx(100 * 9 / math.sqrt(2 * (1 + 4 + 100 - 169 / 3)))


def test_a_constant_has_no_correlation():
    assert glue_scores("STS-B", [1.0, 1.0], [1.0, 2.0]) == {"Pearson correlation": 0, "Spearman correlation": 0}
    assert glue_scores("CoLA", ["1", "1"], ["1", "0"]) == {"Matthews correlation": 0}


def test_majority():
    assert majority_scores("RTE", ["entailment", "not_entailment"], ["not_entailment"] * 2 + ["entailment"]) == {
        "accuracy": 50
    }
    assert majority_scores("MRPC", ["1", "1", "0", "0"], ["1", "1", "0"]) == pytest.approx(
        {"accuracy": 50, "F1": 200 / 3}
    )
    assert majority_scores("STS-B", [1.0], [2.0]) == {}


def test_lengths():
    with pytest.raises(ValueError, match="1 predictions for 2 examples"):
        glue_scores("RTE", ["entailment"], ["entailment"] * 2)
