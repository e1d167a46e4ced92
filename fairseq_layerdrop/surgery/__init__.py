"""Surgery: a plan applied to checkpoints, state dicts and configurations, by pure functions."""

from .build import build_pruned, slice_on_load
from .checkpoint import CheckpointError, allow_fairseq_types, load_checkpoint
from .config import ConfigError, copy_config, model_depths, prune_config, set_depths
from .describe import Description, describe
from .state import DepthError, slice_state_dict, state_depths

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DepthError",
    "Description",
    "allow_fairseq_types",
    "build_pruned",
    "copy_config",
    "describe",
    "load_checkpoint",
    "model_depths",
    "prune_config",
    "set_depths",
    "slice_on_load",
    "slice_state_dict",
    "state_depths",
]
