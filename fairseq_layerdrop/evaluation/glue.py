"""The metrics of GLUE's tasks (Wang et al. 2019, Table 1), by scikit-learn and SciPy.

They are no part of the package's own requirements: ``pip install 'fairseq-layerdrop[glue]'``.
"""

from collections.abc import Sequence
from typing import TypeVar

# The metrics of each task, the one to compare by first.
METRICS = {
    "CoLA": ("Matthews correlation",),
    "SST-2": ("accuracy",),
    "MRPC": ("accuracy", "F1"),
    "STS-B": ("Pearson correlation", "Spearman correlation"),
    "QQP": ("accuracy", "F1"),
    "MNLI": ("accuracy",),
    "QNLI": ("accuracy",),
    "RTE": ("accuracy",),
}

Label = TypeVar("Label", str, float)


def glue_scores(task: str, predicted: Sequence[Label], gold: Sequence[Label]) -> dict[str, float]:
    """A task's scores by name, all times 100. What always says the same has no correlation: 0.

    Args:
        task: name of the task.
        predicted: labels as the task's files write them, or for STS-B numbers.
        gold: the true labels, in the same order.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if len(predicted) != len(gold) or not gold:
        raise ValueError(f"{len(predicted)} predictions for {len(gold)} examples")
    known = {
        "accuracy": lambda: accuracy_score(gold, predicted),
        "F1": lambda: f1_score(gold, predicted, pos_label="1", zero_division=0.0),
        "Matthews correlation": lambda: matthews_corrcoef(gold, predicted),
        "Pearson correlation": lambda: pearsonr(gold, predicted).statistic,
        "Spearman correlation": lambda: spearmanr(gold, predicted).statistic,
    }
    constant = len(set(predicted)) == 1 or len(set(gold)) == 1
    return {
        name: 0.0 if constant and name.endswith("correlation") else 100 * float(known[name]()) for name in METRICS[task]
    }


def majority_scores(task: str, gold: Sequence[Label], train: Sequence[Label]) -> dict[str, float]:
    """The scores of always saying what is most frequent in training; for STS-B, which has no classes, none."""
    if task == "STS-B":
        return {}
    most = max(sorted(set(train)), key=list(train).count)
    return glue_scores(task, [most] * len(gold), gold)
