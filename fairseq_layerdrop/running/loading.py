"""The model and the data that a method looks at, loaded as fairseq-validate does."""

import argparse
import ast
import hashlib
import itertools
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch
from fairseq import checkpoint_utils, utils
from fairseq.criterions import FairseqCriterion
from fairseq.data import data_utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig

from .. import register  # noqa: F401 - checkpoints name our models and tasks
from ..base.errors import UserError
from ..plan import Structure
from ..surgery.checkpoint import Checkpoint
from ..surgery.misfit import misfit


@dataclass(frozen=True)
class Data:
    """The data that models are run on, and how.

    Attributes:
        folder: binarised data.
        subset: for instance ``valid``.
        sentences: take the first sentences of the subset only; a language model's are its blocks.
        max_tokens: tokens of a batch at most; 4,000 where no size of a batch is given.
        batch_size: sentences of a batch at most.
        memory: bytes that stored hidden states may take.
        overrides: fairseq's ``--model-overrides``, a dict in Python.
        user_dir: a plugin to import first, where the checkpoint's task isn't one of ours.
        cpu: leave the GPU alone.
    """

    folder: str
    subset: str = "valid"
    sentences: int | None = None
    max_tokens: int | None = None
    batch_size: int | None = None
    memory: int = 2**30
    overrides: str = "{}"
    user_dir: str | None = None
    cpu: bool = False

    @property
    def most_tokens(self) -> int | None:
        """Tokens of a batch at most; None where sentences are counted alone."""
        return self.max_tokens or (None if self.batch_size else 4000)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint's model, in evaluation mode, with its task and criterion.

    Attributes:
        structure: the stacks of the whole model, each with its layers.
        fingerprint: SHA-256 of its weights.
        importance: the learned importance of each layer, by stack, where the training learned any.
    """

    model: BaseFairseqModel
    task: FairseqTask
    criterion: FairseqCriterion
    settings: DictConfig
    structure: Structure
    fingerprint: str
    importance: Mapping[str, tuple[float, ...]]

    @property
    def pad(self) -> int:
        return self.task.target_dictionary.pad()

    @property
    def translates(self) -> bool:
        """Whether it generates one text for another."""
        return len(self.structure) > 1

    @property
    def classifies(self) -> bool:
        """Whether targets are labels, and not symbols."""
        return hasattr(self.criterion, "classification_head_name")

    @property
    def target_pad(self) -> int | None:
        """Index of the targets that don't count; None where all do."""
        return None if self.classifies else self.pad

    @property
    def target(self) -> str:
        """What the loss is the mean over, in a word."""
        return "label" if self.classifies else "token"

    def predict(self, sample: Mapping):
        """What the model, as its criterion calls it, gives for a batch: logits first."""
        given = {}
        if self.classifies:
            given = {"features_only": True, "classification_head_name": self.criterion.classification_head_name}
        elif list(self.structure) == ["encoder"]:
            given = {"masked_tokens": sample["target"].ne(self.pad)}
        return self.model(**sample["net_input"], **given)


def _reason(error: Exception) -> str:
    """One line of an exception: of a state dict that doesn't fit, what doesn't."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return misfit(error) or lines[0]


def load(path, data, overrides: str = "{}", cpu: bool = False, prune_layers: str | None = None) -> Loaded:
    """Load a checkpoint for looking at *data*.

    Args:
        path: the checkpoint.
        data: a binarised folder.
        overrides: fairseq's ``--model-overrides``, a dict in Python.
        cpu: leave the GPU alone.
        prune_layers: what to keep of the model, as ``--prune-layers`` says; all by default.

    Raises:
        UserError: the checkpoint, the overrides or the plan are wrong.
    """
    checkpoint = Checkpoint.load(path)
    structure, weights, importance = checkpoint.structure, checkpoint.fingerprint, checkpoint.importance
    del checkpoint
    try:
        given = ast.literal_eval(overrides)
        arguments = {**given, "data": str(data)}
    except (ValueError, SyntaxError, TypeError) as error:
        raise UserError(f"--model-overrides must be a dict in Python, not '{overrides}'") from error
    if "prune_layers" in given:
        raise UserError("this looks at whole models; leave prune_layers out of --model-overrides")
    if prune_layers is not None:
        arguments["prune_layers"] = prune_layers
    try:
        (model,), settings, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides=arguments)
    except UserError:
        raise
    except Exception as error:  # fairseq's tasks raise almost anything for data that isn't theirs
        raise UserError(f"can't load {path} for the data in {data}: {_reason(error)}") from error
    model.eval()
    if torch.cuda.is_available() and not cpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        model.cuda()
    criterion = task.build_criterion(settings.criterion)
    criterion.eval()
    return Loaded(model, task, criterion, settings, structure, weights, importance)


def batches(
    loaded: Loaded, subset: str, max_tokens: int | None, batch_size: int | None, sentences: int | None = None
) -> list[Mapping]:
    """The batches of a subset, on the model's device, in the dataset's own order of batches.

    Args:
        loaded: the model and its task.
        subset: for instance ``valid``.
        max_tokens: tokens of a batch at most.
        batch_size: sentences of a batch at most.
        sentences: take the first sentences of the subset only; a language model's are its blocks.

    Raises:
        UserError: there is no such subset, or it is empty.
    """
    task, model = loaded.task, loaded.model
    try:
        task.load_dataset(subset, combine=False, epoch=1, task_cfg=loaded.settings.task)
    except ValueError as error:  # of numpy, for a file without any token
        if "mmap an empty file" not in str(error):
            raise
        raise UserError(f"the subset '{subset}' is empty") from error
    except (FileNotFoundError, KeyError) as error:
        raise UserError(f"no subset '{subset}' in {loaded.settings.task.data}") from error
    dataset = task.dataset(subset)
    if len(dataset) == 0:
        raise UserError(f"the subset '{subset}' is empty")
    dataset.set_epoch(1)  # as fairseq-validate does: a masked language model's masks depend on it
    with data_utils.numpy_seed(1):  # where a dataset shuffles sentences of one length
        indices = dataset.ordered_indices()
    limits = utils.resolve_max_positions(task.max_positions(), model.max_positions())
    indices = task.filter_indices_by_size(indices, dataset, limits, ignore_invalid_inputs=True)
    indices = [index for index in indices if sentences is None or index < sentences]
    if max_tokens is not None:
        longest = max((dataset.num_tokens(index) for index in indices), default=0)
        if longest > max_tokens:
            raise UserError(f"--max-tokens {max_tokens} is too few for a sentence of {longest}")
    chosen = dataset.batch_by_size(
        numpy.array(indices, dtype=numpy.int64), max_tokens=max_tokens, max_sentences=batch_size
    )
    samples = [dataset.collater([dataset[index] for index in batch]) for batch in chosen]
    if not samples:
        raise UserError(f"the subset '{subset}' has no sentence that fits the model")
    if "target" not in samples[0]:
        raise UserError(f"the subset '{subset}' has no labels")
    device = next(model.parameters()).device
    return [utils.move_to_cuda(sample) if device.type == "cuda" else sample for sample in samples]


def left_out(loaded: Loaded, subset: str, samples: Sequence[Mapping], sentences: int | None = None) -> tuple[int, int]:
    """How many samples of those that were asked for :func:`batches` left out as too long, and of how many."""
    whole = len(loaded.task.dataset(subset))
    wanted = min(whole, sentences or whole)
    return wanted - sum(int(sample["nsentences"]) for sample in samples), wanted


def check_whole(loaded: Loaded, subset: str, samples: Sequence[Mapping], sentences: int | None = None) -> None:
    """Refuse to measure a part of what was asked for.

    Raises:
        UserError: :func:`batches` left samples out.
    """
    missing, wanted = left_out(loaded, subset, samples, sentences)
    if missing:
        raise UserError(
            f"{missing} of {wanted} samples of '{subset}' are too long for the model; shorten them, or leave them out "
            "of the data"
        )


def be_quiet() -> None:
    """Let fairseq and hydra tell of what goes wrong alone."""
    for name in ("fairseq", "hydra"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")


def import_user_dir(path: str | None) -> None:
    """Import what ``--user-dir`` names.

    Raises:
        UserError: it can't be imported.
    """
    try:
        utils.import_user_module(argparse.Namespace(user_dir=path))
    except (ImportError, FileNotFoundError) as error:
        raise UserError(f"can't import --user-dir {path}: {str(error).splitlines()[0]}") from error


def load_data(path, data: Data) -> tuple[Loaded, list[Mapping]]:
    """The model of a checkpoint, and the batches of data to run it on.

    Raises:
        UserError: the checkpoint or the data are wrong.
    """
    import_user_dir(data.user_dir)
    loaded = load(path, data.folder, data.overrides, data.cpu)
    return loaded, batches(loaded, data.subset, data.most_tokens, data.batch_size, data.sentences)


def data_fingerprint(samples: Sequence[Mapping]) -> str:
    """SHA-256 of what is in the batches, as ``sha256:…``."""
    digest = hashlib.sha256()
    for tensor in itertools.chain.from_iterable(_tensors(sample) for sample in samples):
        digest.update(f"{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _tensors(sample: Mapping):
    yield from (value for _, value in sorted(sample["net_input"].items()) if torch.is_tensor(value))
    yield sample["target"]
