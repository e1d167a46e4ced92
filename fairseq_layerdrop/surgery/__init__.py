"""Surgery: a plan applied to checkpoints, state dicts and configurations, by pure functions."""

from .average import average_checkpoints, last_epochs
from .build import build_pruned, remove_missing_sublayers, slice_on_load
from .checkpoint import (
    CheckpointError,
    allow_fairseq_types,
    copy_whole,
    load_checkpoint,
    save_checkpoint,
    trust_own_processes,
)
from .config import (
    DROPS,
    IMPORTANCE_SETTING,
    SUBLAYERS_SETTING,
    ConfigError,
    complete_architecture,
    copy_config,
    details,
    model_structure,
    prune_config,
    set_plan,
)
from .ctranslate2 import convert_to_ctranslate2, ctranslate2_limits, settings_for_ctranslate2
from .describe import Description, describe
from .export import (
    ExportError,
    details_of,
    export_checkpoint,
    flat_settings,
    plan_for,
    pruned_settings,
    structure_of,
    task_settings,
    weights_of,
)
from .history import KEY as HISTORY_KEY
from .history import fingerprint, history_entry, history_in_words, pruning_history
from .huggingface import huggingface_model, transformers_state_dict, write_huggingface
from .progress import has_ended, updates_of
from .state import (
    DepthError,
    has_structure,
    learned_importance,
    slice_state_dict,
    stacks_of,
    state_depths,
    state_structure,
)

__all__ = [
    "DROPS",
    "HISTORY_KEY",
    "IMPORTANCE_SETTING",
    "SUBLAYERS_SETTING",
    "CheckpointError",
    "ConfigError",
    "DepthError",
    "Description",
    "ExportError",
    "allow_fairseq_types",
    "average_checkpoints",
    "build_pruned",
    "complete_architecture",
    "convert_to_ctranslate2",
    "copy_config",
    "copy_whole",
    "ctranslate2_limits",
    "describe",
    "details",
    "details_of",
    "export_checkpoint",
    "fingerprint",
    "flat_settings",
    "has_ended",
    "has_structure",
    "history_entry",
    "history_in_words",
    "huggingface_model",
    "last_epochs",
    "learned_importance",
    "load_checkpoint",
    "model_structure",
    "plan_for",
    "prune_config",
    "pruned_settings",
    "pruning_history",
    "remove_missing_sublayers",
    "save_checkpoint",
    "set_plan",
    "settings_for_ctranslate2",
    "slice_on_load",
    "slice_state_dict",
    "stacks_of",
    "state_depths",
    "state_structure",
    "structure_of",
    "task_settings",
    "transformers_state_dict",
    "trust_own_processes",
    "updates_of",
    "weights_of",
    "write_huggingface",
]
