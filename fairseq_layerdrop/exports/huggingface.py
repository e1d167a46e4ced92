"""Pruned RoBERTa encoders (Liu et al. 2019, 1907.11692) as models of Hugging Face's transformers.

transformers isn't needed to write them: a state dict's keys are renamed, and the settings become a ``config.json``.
"""

import os
import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_NAME_REGISTRY

from ..base.errors import UserError
from ..base.files import write_folder_atomically
from ..surgery.architectures import ExportError
from ..surgery.config import SUBLAYERS_SETTING
from ..surgery.export import export_checkpoint, pruned_settings
from .formats import Source
from .roberta_weights import entries, transformers_state_dict
from .standalone import told_of
from .tokenizer_files import as_json, gpt2_tokenizer, sentencepiece_tokenizer, word_tokenizer

# fairseq's activations that transformers has too, by its names.
_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "tanh": "tanh",
    "linear": "linear",
}


@dataclass(frozen=True)
class HuggingFaceModel:
    """What is written beside a model's weights, and what tells how to rename those.

    Attributes:
        config: what ``config.json`` holds.
        files: content of each of the tokenizer's files, by name.
        head: name of the classification head; None for a masked language model.
    """

    config: dict = field(repr=False)
    files: dict[str, bytes] = field(repr=False)
    head: str | None = None


def _library():
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError as error:
        raise ExportError("safetensors isn't installed; pip install 'fairseq-layerdrop[huggingface]'") from error
    return save_file, SafetensorError


def _head_of(state_dict: Mapping, name: str | None) -> str | None:
    """The classification head to export: the named one, or the only one; None where there is none."""
    heads = sorted({key.split(".")[1] for key in state_dict if key.startswith("classification_heads.")})
    if name is not None and name not in heads:
        there_are = f"only {', '.join(heads)}" if heads else "none; leave out --classification-head-name"
        raise ExportError(f"the model has no classification head '{name}', {there_are}")
    if name is None and len(heads) > 1:
        raise ExportError(f"choose one of the heads {', '.join(heads)} with --classification-head-name")
    return name or next(iter(heads), None)


def _check(settings: Namespace, head: str | None) -> None:
    def given(name, default=None):
        return getattr(settings, name, default)

    kind, activation = ARCH_MODEL_NAME_REGISTRY.get(settings.arch, settings.arch), given("activation_fn")
    if given(SUBLAYERS_SETTING):
        raise ExportError("transformers can't take layers without some of their sub-layers or heads; drop whole layers")
    if kind != "roberta":
        raise ExportError(f"--format huggingface takes models of the kind roberta, not {kind}")
    reasons = [
        (activation not in _ACTIVATIONS, f"the activation {activation}"),
        (not given("layernorm_embedding"), "embeddings without a norm (train with --layernorm-embedding)"),
        (not given("no_scale_embedding"), "scaled embeddings"),
        (not given("encoder_learned_pos"), "positions that aren't learned"),
        (given("no_token_positional_embeddings"), "models without positions (--no-token-positional-embeddings)"),
        (given("quant_noise_pq") or given("quant_noise_scalar"), "quantisation noise (--quant-noise-pq or -scalar)"),
        ((given("mha_heads_to_keep") or -1) != -1, "attentions that lost heads (--mha-heads-to-keep)"),
        ((given("ffn_blocks_to_remove") or -1) != -1, "layers that lost hidden units (--ffn-blocks-to-remove)"),
    ]
    if head is None:
        reasons += [(activation != "gelu", f"a masked language model with the activation {activation}, only with gelu")]
    else:
        pooler = given("pooler_activation_fn")
        reasons += [
            (pooler != "tanh", f"a classification head with --pooler-activation-fn {pooler}, only with tanh"),
            (given("spectral_norm_classification_head"), "--spectral-norm-classification-head"),
            (given("init_token", 0) != 0, "sentences that don't begin with <s> (train with --init-token 0)"),
        ]
    found = [what for is_so, what in reasons if is_so]
    if found:
        raise ExportError(f"transformers' RoBERTa can't take {'; nor '.join(found)}")


def _dictionary(folder: str, *names: str) -> Dictionary:
    """The first dictionary of these names in *folder*, with the symbol for masks, as fairseq's tasks load it."""
    paths = [path for path in (os.path.join(folder, name) for name in names) if os.path.isfile(path)]
    if not paths:
        raise ExportError(f"no {names[0]} in '{folder}'; give the folder of the model's dictionaries with --data")
    try:
        dictionary = Dictionary.load(paths[0])
    except Exception as error:  # fairseq raises all kinds
        raise ExportError(f"{paths[0]} is not a dictionary: {str(error).splitlines()[0]}") from error
    dictionary.add_symbol("<mask>")
    if len(dictionary.indices) < len(dictionary):
        raise ExportError(f"{paths[0]} has symbols twice, which transformers' tokenizers can't take")
    return dictionary


def _labels(folder: str, count: int) -> list[str]:
    """The names of a classifier's labels, by the dictionary of the data that it learned from."""
    dictionary = _dictionary(folder, os.path.join("label", "dict.txt"))
    named = dictionary.symbols[dictionary.nspecial :][:count]
    return named + [f"LABEL_{number}" for number in range(len(named), count)]


def huggingface_model(
    settings: Namespace,
    state_dict: Mapping,
    data: str | None = None,
    head: str | None = None,
    bpe_model: str | None = None,
    gpt2_bpe: str | None = None,
) -> HuggingFaceModel:
    """What to write for transformers beside the weights.

    A model is refused here, before any work, if transformers can't take it or would take it for another one.

    Args:
        settings: the pruned model's, from :func:`~fairseq_layerdrop.surgery.pruned_settings`.
        state_dict: the model's weights, whole or pruned.
        data: folder with its dictionaries; None for the one of the training.
        head: name of its classification head; None for the only one, or for a masked language model.
        bpe_model: SentencePiece model that cut the text into pieces, or None.
        gpt2_bpe: folder with the ``encoder.json`` and ``vocab.bpe`` that did so, or None. With neither, the tokenizer
            takes text in pieces, with spaces between them.

    Raises:
        ExportError: saying what transformers, or a folder, lacks.
    """
    _library()
    head = _head_of(state_dict, head)
    _check(settings, head)
    rows = {re.sub(r"^(en|de)coder\.", "", key): tensor.shape for key, tensor in entries(state_dict)}
    vocabulary, width = rows["sentence_encoder.embed_tokens.weight"]
    folder = str(data or getattr(settings, "data", "")).split(os.pathsep)[0]
    dictionary = _dictionary(folder, "dict.txt" if head is None else os.path.join("input0", "dict.txt"), "dict.txt")
    pairs = head is not None and os.path.isdir(os.path.join(folder, "input1"))
    if pairs and getattr(settings, "separator_token", None) != dictionary.eos():
        raise ExportError(
            "transformers' RoBERTa can't take pairs without two </s> between them (train with --separator-token 2)"
        )
    if len(dictionary) != vocabulary:
        raise ExportError(f"the dictionary in '{folder}' has {len(dictionary)} symbols, but the model {vocabulary}")
    positions = rows["sentence_encoder.embed_positions.weight"][0]
    pre_norm = bool(settings.encoder_normalize_before)
    kind = "RobertaPreLayerNorm" if pre_norm else "Roberta"
    config = {
        "architectures": [f"{kind}For{'MaskedLM' if head is None else 'SequenceClassification'}"],
        "model_type": "roberta-prelayernorm" if pre_norm else "roberta",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": settings.encoder_layers,
        "num_attention_heads": settings.encoder_attention_heads,
        "intermediate_size": rows["sentence_encoder.layers.0.fc1.weight"][0],
        "hidden_act": _ACTIVATIONS[settings.activation_fn],
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.attention_dropout,
        "classifier_dropout": settings.pooler_dropout,
        "max_position_embeddings": positions,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "bos_token_id": dictionary.bos(),
        "pad_token_id": dictionary.pad(),
        "eos_token_id": dictionary.eos(),
        "tie_word_embeddings": not settings.untie_weights_roberta,
        "dtype": "float32",
    }
    if head is not None:
        regression = getattr(settings, "regression_target", False) is True
        count, inner = rows[f"classification_heads.{head}.out_proj.weight"]
        if inner != width:
            raise ExportError(f"transformers' RoBERTa can't take a head of width {inner}, only of the model's {width}")
        labels = [f"LABEL_{number}" for number in range(count)] if regression else _labels(folder, count)
        config["problem_type"] = "regression" if regression else "single_label_classification"
        config["id2label"] = dict(enumerate(labels))
        config["label2id"] = {label: number for number, label in enumerate(labels)}
    longest = positions - dictionary.pad() - 1
    if bpe_model is not None:
        files = sentencepiece_tokenizer(dictionary, longest, bpe_model)
    elif gpt2_bpe is not None:
        files = gpt2_tokenizer(dictionary, longest, gpt2_bpe)
    else:
        files = word_tokenizer(dictionary, longest)
    return HuggingFaceModel(config, files, head)


def write_huggingface(checkpoint: dict, model: HuggingFaceModel, path) -> None:
    """Write a folder that transformers loads; it appears whole or not at all.

    Args:
        checkpoint: an exported one, from :func:`~fairseq_layerdrop.surgery.export_checkpoint`.
        model: from :func:`huggingface_model`.
        path: the folder to write; if it exists, it is replaced.

    Raises:
        ExportError: the checkpoint has a tensor that transformers' model has no place for.
        UserError: the folder can't be written.
    """
    save_file, write_error = _library()
    pre_norm, tied = model.config["model_type"] != "roberta", model.config["tie_word_embeddings"]
    weights = transformers_state_dict(checkpoint["model"], model.head, pre_norm, tied)
    # Copies, since layers that share a tensor are written one by one; in the precision that fairseq computes with.
    weights = {key: tensor.to(torch.float32, copy=True).contiguous() for key, tensor in weights.items()}
    with write_folder_atomically(path) as folder:
        for name, content in {"config.json": as_json(model.config), **model.files}.items():
            Path(folder, name).write_bytes(content)
        try:
            save_file(weights, Path(folder, "model.safetensors"), metadata={"format": "pt"})
        except write_error as error:
            raise UserError(f"cannot write {path}: {error}") from error


class HuggingFaceFormat:
    """A folder for transformers."""

    options = ("data", "classification_head_name", "bpe_model", "gpt2_bpe")
    files = (
        "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "vocab.json", "merges.txt", "sentencepiece.bpe.model", "dict.txt",
    )  # fmt: skip
    noun = "an exported model for transformers"

    def write(
        self, source: Source, path, data: str | None = None, classification_head_name: str | None = None,
        bpe_model: str | None = None, gpt2_bpe: str | None = None,
    ) -> list[str]:  # fmt: skip
        settings = pruned_settings(source.checkpoint, source.plan, sharing=False)
        model = huggingface_model(
            settings, source.checkpoint.weights, data, classification_head_name, bpe_model, gpt2_bpe
        )
        write_huggingface(export_checkpoint(source.checkpoint, source.plan, source.ema), model, path)
        [architecture] = model.config["architectures"]
        return [told_of(source, architecture)]
