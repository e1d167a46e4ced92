"""Every change to fairseq that this package makes while it runs.

:data:`FIXES` lists them; :func:`apply_fixes` applies each once. fairseq has no hooks in these places, so they wrap its
functions; the function as it was is the wrapper's ``__wrapped__``.
"""

import functools
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.data import bucket_pad_length_dataset, data_utils
from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.models.ema import ema
from omegaconf import DictConfig, OmegaConf, open_dict

from .models import LayerDropRobertaModel, LayerDropTransformerLanguageModel, LayerDropTransformerModel
from .numpy_fixes import count_in_integers, gives_interpolation, lower_percentiles, refuse_wrapped
from .plan import parse
from .surgery.checkpoint_file import load_checkpoint
from .surgery.config import IMPORTANCE_SETTING
from .surgery.plain_data import allow_fairseq_types
from .surgery.state import has_structure, learned_importance, slice_state_dict
from .tasks import prunable_task

logger = logging.getLogger(__name__)

_OUR_MODELS = (LayerDropRobertaModel, LayerDropTransformerLanguageModel, LayerDropTransformerModel)
_MARK = "fairseq_layerdrop_fix"  # of our functions
_ISSUES = "https://github.com/facebookresearch/fairseq/issues"


@dataclass(frozen=True)
class Fix:
    """A change to fairseq.

    Attributes:
        name: for logs.
        owner: module or class whose function is wrapped.
        function: name of the function, or of another attribute.
        wrap: from the function to what takes its place.
        why: what is wrong without it, in a sentence.
        issue: where fairseq's users tell of it; empty where they don't.
        needed: whether the fairseq that is installed needs it.
    """

    name: str
    owner: object
    function: str
    wrap: Callable[[Any], Any]
    why: str
    issue: str = ""
    needed: Callable[[Any], bool] = lambda function: True


def _load_for_pruning(load):
    """``load_checkpoint_to_cpu`` that knows ``prune_layers`` and notes learned importances.

    fairseq-validate and ``from_pretrained`` build the task that a checkpoint names, with the caller's options laid
    over it by name. A checkpoint from stock fairseq names a stock task, which has no ``prune_layers``.
    """

    @functools.wraps(load)
    def load_checkpoint_to_cpu(path, arg_overrides=None, *args, **kwargs):
        try:
            state = load(path, arg_overrides, *args, **kwargs)
        except Exception:  # damaged bytes make torch raise almost anything
            if os.path.isfile(path):
                load_checkpoint(path)  # tells what is wrong with the file
            raise
        importance = learned_importance(state.get("model") or {})
        if importance:  # models are built before they see their weights
            with open_dict(state["cfg"]):
                setattr(state["cfg"].model, IMPORTANCE_SETTING, importance)
        prune_layers = (arg_overrides or {}).get("prune_layers")
        if prune_layers is not None:
            parse(prune_layers)
            if state.get("args") is not None:
                state["args"].task = prunable_task(state["args"].task)
            cfg = state["cfg"]
            with open_dict(cfg):
                cfg.task._name = prunable_task(cfg.task._name)
                # for the task that the checkpoint names, and for one that the caller brings
                cfg.task.prune_layers = cfg.model.prune_layers = prune_layers
        return state

    return load_checkpoint_to_cpu


def _broadcast_plain_data(broadcast):
    """``_broadcast_object_slow`` that sends configurations as plain data, which every process may read."""

    @functools.wraps(broadcast)
    def broadcast_object_slow(obj, src_rank, group, dist_device):
        sends = distributed_utils.get_rank(group) == src_rank
        is_state = isinstance(obj, Mapping) and isinstance(obj.get("cfg"), DictConfig)
        plain = {**obj, "cfg": OmegaConf.to_container(obj["cfg"])} if is_state else obj
        with torch.serialization.safe_globals([distributed_utils._TensorPlaceholder]):
            received = broadcast(plain, src_rank, group, dist_device)
        if sends:
            return obj
        if isinstance(received, dict) and isinstance(received.get("cfg"), dict):
            received["cfg"] = OmegaConf.create(received["cfg"], flags={"allow_objects": True})
        return received

    return broadcast_object_slow


def _copy_whole(copy):
    """``PathManager.copy`` whose copy takes its place whole."""

    @functools.wraps(copy)
    def copy_and_rename(src_path, dst_path, overwrite=False):
        if not overwrite or not PathManager.supports_rename(dst_path):
            return copy(src_path, dst_path, overwrite)
        copied = copy(src_path, f"{dst_path}.tmp", overwrite)
        if copied:
            PathManager.rename(f"{dst_path}.tmp", dst_path)
        return copied

    return staticmethod(copy_and_rename)


def _is_ours(average: ema.EMA) -> bool:
    """Whether an average is of a model of ours, or of a stock model that our tasks pruned."""
    return isinstance(average.model, _OUR_MODELS) or hasattr(average.model, "prune_plan")


def _slice_averages(build):
    """``EMA.build_fp32_params`` that takes a pruned model's own layers out of a full model's averages."""

    @functools.wraps(build)
    def build_fp32_params(self, state_dict=None):
        plan = getattr(self.model, "prune_plan", None)
        if plan is not None and state_dict is not None and has_structure(state_dict, plan.full):
            state_dict = slice_state_dict(state_dict, plan)
        build(self, state_dict)

    return build_fp32_params


def _keep_versions(restore):
    """``EMA.restore`` that tells the model its version, without which it drops a pre-norm stack's last norm."""

    @functools.wraps(restore)
    def restore_with_versions(self, state_dict, build_fp32_params=False):
        if _is_ours(self):
            versions = {key: value for key, value in self.model.state_dict().items() if key.endswith("version")}
            state_dict = {**versions, **state_dict}
        restore(self, state_dict, build_fp32_params)

    return restore_with_versions


def _decay_once(step):
    """``EMA._step_internal`` in which a tensor of several names decays once: shared layers, tied embeddings."""

    @functools.wraps(step)
    def step_once(self, new_model, updates=None):
        if not _is_ours(self):
            step(self, new_model, updates)
            return
        averages = self.fp32_params if self.config.ema_fp32 else self.model.state_dict()
        before = {key: averages[key].clone() for key in _of_several_names(averages) if key not in self.skip_keys}
        step(self, new_model, updates)
        values = new_model.state_dict()
        for key, average in before.items():
            averages[key].copy_(average.mul(self.decay).add(values[key].to(average), alpha=1 - self.decay))

    return step_once


def _of_several_names(tensors: Mapping) -> list[str]:
    """Of the tensors that have several names in *tensors*, the first name of each."""
    names: dict[tuple, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            names.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), []).append(name)
    return [same[0] for same in names.values() if len(same) > 1]


def _trusts_torch(function: Callable) -> bool:
    """Whether a function leaves to torch what :func:`torch.load` may unpickle."""
    return "weights_only" not in str(function.__code__.co_consts)


FIXES = (
    Fix(
        "prune-on-load", checkpoint_utils, "load_checkpoint_to_cpu", _load_for_pruning,
        "A checkpoint of a stock task has no setting prune_layers, so that the option would be lost without a word.",
        f"{_ISSUES}/2507",
    ),
    Fix(
        "broadcast", distributed_utils, "_broadcast_object_slow", _broadcast_plain_data,
        "Since torch 2.6 no training on several processes can load a checkpoint: fairseq sends its configuration as "
        "objects that torch.load refuses.",
        f"{_ISSUES}/5610", _trusts_torch,
    ),
    Fix(
        "copy", PathManager, "copy", _copy_whole,
        "A training that is killed while it copies a checkpoint leaves a part of checkpoint_last.pt and can't go on.",
        f"{_ISSUES}/2684",
    ),
    Fix(
        "ema-slice", ema.EMA, "build_fp32_params", _slice_averages,
        "With --ema-fp32 a pruned model would take the averages of a full model's layers with other numbers.",
    ),
    Fix(
        "ema-version", ema.EMA, "restore", _keep_versions,
        "--store-ema leaves the version out of the averages, so that a pre-norm Transformer loses its last norms.",
    ),
    Fix(
        "ema-shared", ema.EMA, "_step_internal", _decay_once,
        "--store-ema decays a tensor once for each of its names, so that tied embeddings decay three times an update.",
    ),
    Fix(
        "numpy-compat", np, "compat", lambda _: SimpleNamespace(long=int),
        "NumPy 2 has no numpy.compat, which fairseq needs for --sample-break-mode eos and --num-batch-buckets, and to "
        "score with language models.",
        needed=lambda compat: compat is None,
    ),
    *(
        Fix(
            "numpy-percentile", module, "get_buckets", lower_percentiles,
            "Since NumPy 2.4 --num-batch-buckets fails: numpy.percentile lost the name of an argument.",
            needed=gives_interpolation,
        )
        for module in (data_utils, bucket_pad_length_dataset)
    ),
    Fix(
        "preprocess-offsets", MMapIndexedDatasetBuilder, "finalize", count_in_integers,
        "With NumPy 2, fairseq-preprocess --workers counts in 32 bits: beyond 2 GiB of data, offsets become negative, "
        "and the data is spoilt without an error.",
        needed=lambda _: (np.int32(1) * 1).dtype == np.int32,
    ),
    Fix(
        "read-offsets", MMapIndexedDataset, "_do_init", refuse_wrapped,
        "Data that was spoilt so is read without an error.",
    ),
)  # fmt: skip


def apply_fixes() -> None:
    """Apply all changes that the installed fairseq needs, each once; each is logged at level DEBUG."""
    allow_fairseq_types()
    for fix in FIXES:
        function = getattr(fix.owner, fix.function, None)
        if getattr(function, _MARK, None) or not fix.needed(function):
            continue
        wrapper = fix.wrap(function)
        setattr(getattr(wrapper, "__func__", wrapper), _MARK, fix.name)
        setattr(fix.owner, fix.function, wrapper)
        logger.debug(f"{fix.function}: {fix.name}. {fix.why}")
