"""``fairseq-layerdrop glue DATA --path CKPT --task MRPC``."""

import argparse
import importlib.util
import json
import statistics
from collections.abc import Mapping

import torch

from ..base.errors import UserError
from ..corpora.glue import TASKS
from ..evaluation.cost import seconds
from ..evaluation.glue import METRICS, glue_scores
from ..running.loading import Loaded, left_out
from .data_flags import add_data_arguments, at_least_one, load_data

HELP = "score a fine-tuned model by the own metrics of one of GLUE's tasks, and time it"


def add_arguments(parser) -> None:
    parser.add_argument("--path", metavar="CKPT", required=True, help="checkpoint of the fine-tuned model")
    parser.add_argument("--task", choices=METRICS, required=True, help="whose metrics")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="passes to time (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_data_arguments(parser, stores=False)


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


def measure(args) -> dict:
    """A model's scores on the data, the number of examples, and the median seconds of a pass over them.

    Raises:
        UserError: the model, the data or a flag is wrong, or a sentence is too long for the model.
    """
    check_libraries()
    at_least_one(args, "repeats")
    loaded, samples = load_data(args)
    if not loaded.classifies:
        raise UserError(f"{args.path} is no fine-tuned model: it has no classification head")
    task = TASKS[args.task]
    told = (loaded.criterion.regression_target, loaded.task.cfg.num_classes)
    if told != (task.is_regression, len(task.labels) or 1):
        raise UserError(f"{args.path} isn't fine-tuned on {args.task}")
    outputs = _outputs(loaded, samples)
    predicted = outputs if loaded.criterion.regression_target else [output.argmax(dim=-1) for output in outputs]
    gold = _labels(loaded, [sample["target"] for sample in samples])
    missing, wanted = left_out(loaded, args.gen_subset, samples, args.sentences)
    if missing:
        raise UserError(f"{missing} of {wanted} examples are too long; fine-tune with --shorten-method truncate")
    others = () if task.is_regression else sorted(set(gold) - set(task.labels))
    if others:
        raise UserError(f"{args.data} is no data of {args.task}: it has the label '{others[0]}'")
    device = next(loaded.model.parameters()).device
    return {
        "scores": glue_scores(args.task, _labels(loaded, predicted), gold),
        "examples": len(gold),
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "seconds": statistics.median(seconds(lambda: _outputs(loaded, samples), device) for _ in range(args.repeats)),
    }


def run(args: argparse.Namespace) -> None:
    found = measure(args)
    if args.json:
        print(json.dumps({"task": args.task, **found}, indent=1))
        return
    for name, score in found["scores"].items():
        print(f"{name:22}{score:.2f}")
    print(f"{found['examples']:,} examples in {found['seconds']:.2f} s, {found['parameters']:,} parameters")
