"""What a fine-tuned model is worth on a task of GLUE, and how fast it is."""

import importlib.util
import statistics
from collections.abc import Mapping

import torch

from ..base.errors import UserError
from ..corpora.glue import TASKS
from ..evaluation.cost import seconds
from ..evaluation.glue import glue_scores
from ..running.loading import Data, Loaded, left_out, load_data


@torch.inference_mode()
def _outputs(loaded: Loaded, samples: list[Mapping]) -> list[torch.Tensor]:
    """What the classification head says of each batch."""
    return [loaded.predict(sample)[0] for sample in samples]


def _labels(loaded: Loaded, batches: list[torch.Tensor]) -> list:
    """Labels by name, or numbers where the task is a regression."""
    values = [value for batch in batches for value in batch.view(-1).tolist()]
    if loaded.criterion.regression_target:
        return values
    dictionary = loaded.task.label_dictionary
    return [dictionary[value + dictionary.nspecial] for value in values]


def check_libraries() -> None:
    """Check that what computes the scores is there.

    Raises:
        UserError: it isn't installed.
    """
    if not all(map(importlib.util.find_spec, ("scipy", "sklearn"))):
        raise UserError("scikit-learn or SciPy isn't installed; pip install 'fairseq-layerdrop[glue]'")


def glue(path, data: Data, task: str, repeats: int = 3) -> dict:
    """Score a fine-tuned model by the metrics of one of GLUE's tasks, and time it.

    Args:
        path: its checkpoint.
        data: the examples.
        task: name of the task.
        repeats: passes to time.

    Returns:
        ``scores`` by name, number of ``examples`` and of ``parameters``, median ``seconds`` of a pass.

    Raises:
        UserError: the model or the data is wrong, or a sentence is too long for the model.
    """
    check_libraries()
    loaded, samples = load_data(path, data)
    if not loaded.classifies:
        raise UserError(f"{path} is no fine-tuned model: it has no classification head")
    known = TASKS[task]
    expected = (known.is_regression, len(known.labels) or 1)
    if (loaded.criterion.regression_target, loaded.task.cfg.num_classes) != expected:
        raise UserError(f"{path} isn't fine-tuned on {task}")
    outputs = _outputs(loaded, samples)
    predicted = outputs if loaded.criterion.regression_target else [output.argmax(dim=-1) for output in outputs]
    gold = _labels(loaded, [sample["target"] for sample in samples])
    missing, wanted = left_out(loaded, data.subset, samples, data.sentences)
    if missing:
        raise UserError(f"{missing} of {wanted} examples are too long; fine-tune with --shorten-method truncate")
    others = () if known.is_regression else sorted(set(gold) - set(known.labels))
    if others:
        raise UserError(f"{data.folder} is no data of {task}: it has the label '{others[0]}'")
    device = next(loaded.model.parameters()).device
    return {
        "scores": glue_scores(task, _labels(loaded, predicted), gold),
        "examples": len(gold),
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "seconds": statistics.median(seconds(lambda: _outputs(loaded, samples), device) for _ in range(repeats)),
    }
