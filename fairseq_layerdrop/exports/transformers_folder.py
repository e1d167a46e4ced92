"""Folders that Hugging Face's transformers loads. The library isn't needed to write them."""

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from fairseq.data import Dictionary

from ..base.errors import UserError
from ..base.files import write_folder_atomically
from ..surgery.architectures import ExportError
from ..surgery.config import SUBLAYERS_SETTING
from .tokenizer_files import as_json, gpt2_tokenizer, sentencepiece_tokenizer, word_tokenizer

# fairseq's activations that transformers has too, by its names.
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "tanh": "tanh",
    "linear": "linear",
}


@dataclass(frozen=True)
class TransformersModel:
    """What such a folder holds.

    Attributes:
        config: the content of ``config.json``.
        weights: the state dict.
        files: content of the other files, by name.
        notes: what there is to tell of the model, in lines.
    """

    config: dict = field(repr=False)
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)
    notes: Sequence[str] = ()


def library():
    """safetensors' function that writes a file, and the error that it raises.

    Raises:
        ExportError: it isn't installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError as error:
        raise ExportError("safetensors isn't installed; pip install 'fairseq-layerdrop[huggingface]'") from error
    return save_file, SafetensorError


def check_whole_layers(settings: Namespace) -> None:
    """Refuse models without some sub-layers.

    Raises:
        ExportError: it is one.
    """
    if getattr(settings, SUBLAYERS_SETTING, None):
        raise ExportError("transformers can't take layers without some of their sub-layers or heads; drop whole layers")


def dictionary_of(folder: str, *names: str, masks: bool = True) -> Dictionary:
    """The first dictionary of these names in *folder*, as fairseq's tasks load it: with *masks*, with their symbol.

    Raises:
        ExportError: there is none, it is damaged, or transformers' tokenizers can't take it.
    """
    paths = [path for path in (os.path.join(folder, name) for name in names) if os.path.isfile(path)]
    if not paths:
        raise ExportError(f"no {names[0]} in '{folder}'; give the folder of the model's dictionaries with --data")
    try:
        dictionary = Dictionary.load(paths[0])
    except Exception as error:  # fairseq raises all kinds
        raise ExportError(f"{paths[0]} is not a dictionary: {str(error).splitlines()[0]}") from error
    if masks:
        dictionary.add_symbol("<mask>")
    if len(dictionary.indices) < len(dictionary):
        raise ExportError(f"{paths[0]} has symbols twice, which transformers' tokenizers can't take")
    return dictionary


def tokenizer_for(
    dictionary: Dictionary, longest: int, bpe_model: str | None, gpt2_bpe: str | None
) -> dict[str, bytes]:
    """The files of a tokenizer whose ids are those of *dictionary*.

    Args:
        dictionary: fairseq's.
        longest: number of tokens of the longest text that the model takes.
        bpe_model: SentencePiece model that cut the text into pieces, or None.
        gpt2_bpe: folder of GPT-2's byte-level BPE that did so, or None. With neither, it takes text in pieces, with
            spaces between them.

    Raises:
        ExportError: a file is wrong.
    """
    if bpe_model is not None:
        return sentencepiece_tokenizer(dictionary, longest, bpe_model)
    if gpt2_bpe is not None:
        return gpt2_tokenizer(dictionary, longest, gpt2_bpe)
    return word_tokenizer(dictionary, longest)


def _apart(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """*weights* with those that share memory copied, since safetensors takes none such."""
    seen: set[int] = set()
    apart = {}
    for key, tensor in weights.items():
        apart[key] = tensor.clone() if tensor.data_ptr() in seen else tensor.contiguous()
        seen.add(tensor.data_ptr())
    return apart


def write_model(model: TransformersModel, path) -> None:
    """Write a folder that transformers loads; it appears whole or not at all.

    Args:
        model: what to write.
        path: the folder; if it exists, it is replaced.

    Raises:
        UserError: it can't be written.
    """
    save_file, write_error = library()
    with write_folder_atomically(path) as folder:
        for name, content in {"config.json": as_json(model.config), **model.files}.items():
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).write_bytes(content)
        try:
            save_file(_apart(model.weights), Path(folder, "model.safetensors"), metadata={"format": "pt"})
        except write_error as error:
            raise UserError(f"cannot write {path}: {error}") from error
