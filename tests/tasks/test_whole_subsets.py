"""Which sentences fairseq's batches have, where their number is to be a multiple of 8."""

import pytest
from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from tests.commands import NEEDS_FAIRSEQ_MAIN, USER_DIR

MULTIPLE = {"max_tokens": 400, "required_batch_size_multiple": 8}


def build(data, *flags):
    """A task of a training whose model is built, and its configuration."""
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, [str(data), "--user-dir", USER_DIR, "--max-tokens", "60", *flags])
    cfg = convert_namespace_to_omegaconf(args)
    utils.import_user_module(cfg.common)
    return tasks.setup_task(cfg.task), cfg


def batched(task, split) -> int:
    """How many samples of a split there are in its batches."""
    iterator = task.get_batch_iterator(dataset=task.dataset(split), **MULTIPLE)
    return sum(map(len, iterator.frozen_batches))


@pytest.mark.parametrize(
    "train_subset, from_checkpoint, count",
    [
        ("train", False, 20),
        pytest.param("valid", False, 16, marks=NEEDS_FAIRSEQ_MAIN),
        ("valid", True, 20),
    ],
)
def test_only_what_is_trained_on_is_left_out(translation_data, train_subset, from_checkpoint, count):
    task, cfg = build(
        translation_data, "--task", "layerdrop_translation", "--arch", "layerdrop_transformer_tiny",
        "--train-subset", train_subset,
    )  # fmt: skip
    task.build_model(cfg.model, from_checkpoint=from_checkpoint)
    task.load_dataset("valid")
    assert batched(task, "valid") == count


def test_masked_language_models(lm_data):
    task, cfg = build(
        lm_data, "--task", "layerdrop_masked_lm", "--arch", "layerdrop_roberta_tiny", "--criterion", "masked_lm",
        "--sample-break-mode", "eos",
    )  # fmt: skip
    task.build_model(cfg.model)
    task.load_dataset("valid")
    assert batched(task, "valid") == 20
