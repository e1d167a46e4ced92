"""Where a pruned model comes from: noted in its checkpoint's ``task_state``, which fairseq saves and passes on."""

import hashlib
from collections.abc import Mapping

import torch

from ..plan import PlanError, plan_from_dict

HISTORY_KEY = "pruning_history"


def fingerprint(state_dict: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a state dict's names, types, shapes and values, as ``sha256:…``.

    It tells models apart, whatever file they are in: the same weights with and without optimizer state have the same.
    """
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        tensor = state_dict[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def history_in_words(history: list[dict]) -> list[str]:
    """One line for each time that a model was pruned."""
    lines = []
    for entry in history:
        try:
            plan = str(plan_from_dict(entry["plan"], HISTORY_KEY))
        except (PlanError, KeyError, TypeError):  # of another version, or foreign
            plan = "in a way that this version can't read"
        if isinstance(entry, dict):
            source = f"{entry.get('checkpoint')} ({str(entry.get('fingerprint'))[:19]})"
            lines.append(f"{plan}, from {source}" + (", averaged weights" if entry.get("ema") else ""))
    return lines
