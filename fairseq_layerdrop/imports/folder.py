"""Reading a local folder of Hugging Face's transformers, without the library."""

import json
import os
from pathlib import Path

import torch

from ..base.errors import UserError
from ..surgery.checkpoint_file import load_tensors

# Files of weights, the first of those that are there being taken; an index names those with the parts.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


class ImportFolderError(UserError):
    """A folder that can't be imported."""


def read_json(path: Path) -> dict:
    """The content of a JSON file that holds an object.

    Raises:
        ImportFolderError: it can't be read, or is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ImportFolderError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # of JSON, or of UTF-8
        raise ImportFolderError(f"{path} is damaged: it isn't JSON") from error
    if not isinstance(content, dict):
        raise ImportFolderError(f"{path} is damaged: it isn't a JSON object")
    return content


def read_config(folder: Path) -> dict:
    """The settings of a model.

    Raises:
        ImportFolderError: there are none.
    """
    if not os.path.isdir(folder):
        raise ImportFolderError(f"no such folder: {folder}")
    path = folder / "config.json"
    if not os.path.isfile(path):
        raise ImportFolderError(f"{folder} has no config.json; give a model's folder of transformers")
    if os.path.isfile(folder / "adapter_config.json"):
        raise ImportFolderError(f"{folder} holds adapters (adapter_config.json); merge them into their model first")
    return read_json(path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportFolderError("safetensors isn't installed; pip install 'fairseq-layerdrop[huggingface]'") from error
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    except SafetensorError as error:
        raise ImportFolderError(f"{path} is damaged: {error}") from error


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not os.path.isfile(path):
        raise ImportFolderError(f"no such file of weights: {path}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ImportFolderError(f"cannot read {path}: {error.strerror}") from error
    weights = _read_safetensors(path) if path.suffix == ".safetensors" else load_tensors(path)
    if not isinstance(weights, dict) or not all(torch.is_tensor(value) for value in weights.values()):
        raise ImportFolderError(f"{path} holds no weights of a model")
    return weights


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a model by their names, mapped from the files where their formats allow.

    Raises:
        ImportFolderError: there are none, or some are missing or damaged.
        CheckpointError: a file holds more than data.
    """
    found = [name for name in _WEIGHTS if os.path.isfile(folder / name)]
    if not found:
        raise ImportFolderError(f"{folder} has no weights; one of {', '.join(_WEIGHTS)} should be there")
    if not found[0].endswith(".json"):
        return _read(folder / found[0])
    parts = read_json(folder / found[0]).get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise ImportFolderError(f"{folder / found[0]} is damaged: it has no weight_map")
    weights: dict[str, torch.Tensor] = {}
    for part in sorted(set(parts.values())):
        if os.path.basename(part) != part:
            raise ImportFolderError(f"{folder / found[0]} names a file outside of its folder, '{part}'")
        weights |= _read(folder / part)
    missing = sorted(parts.keys() - weights.keys())
    if missing:
        raise ImportFolderError(f"{folder / parts[missing[0]]} lacks {missing[0]}, which {found[0]} says it has")
    return weights
