"""Pruned RoBERTa encoders (Liu et al. 2019, 1907.11692) as models of Hugging Face's transformers.

transformers isn't needed to write them: a state dict's keys are renamed, and the settings become a ``config.json``.
"""

import os
import re
from argparse import Namespace
from collections.abc import Mapping

import torch

from ..surgery.architectures import ExportError
from ..surgery.config import norm_eps
from .roberta_weights import entries, transformers_state_dict
from .transformers_folder import ACTIVATIONS, TransformersModel, dictionary_of, tokenizer_for


def head_of(state_dict: Mapping, name: str | None) -> str | None:
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

    activation = given("activation_fn")
    reasons = [
        (activation not in ACTIVATIONS, f"the activation {activation}"),
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


def labels_of(folder: str, count: int) -> list[str]:
    """The names of a classifier's labels, by the dictionary of the data that it learned from."""
    dictionary = dictionary_of(folder, os.path.join("label", "dict.txt"))
    named = dictionary.symbols[dictionary.nspecial :][:count]
    return named + [f"LABEL_{number}" for number in range(len(named), count)]


def roberta_model(
    settings: Namespace,
    state_dict: Mapping,
    data: str | None = None,
    head: str | None = None,
    bpe_model: str | None = None,
    gpt2_bpe: str | None = None,
) -> TransformersModel:
    """A RoBERTa, as transformers has it.

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
    head = head_of(state_dict, head)
    _check(settings, head)
    rows = {re.sub(r"^(en|de)coder\.", "", key): tensor.shape for key, tensor in entries(state_dict)}
    vocabulary, width = rows["sentence_encoder.embed_tokens.weight"]
    folder = str(data or getattr(settings, "data", "")).split(os.pathsep)[0]
    dictionary = dictionary_of(folder, "dict.txt" if head is None else os.path.join("input0", "dict.txt"), "dict.txt")
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
        "hidden_act": ACTIVATIONS[settings.activation_fn],
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.attention_dropout,
        "classifier_dropout": settings.pooler_dropout,
        "max_position_embeddings": positions,
        "type_vocab_size": 1,
        "layer_norm_eps": norm_eps(settings),
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
        labels = [f"LABEL_{number}" for number in range(count)] if regression else labels_of(folder, count)
        config["problem_type"] = "regression" if regression else "single_label_classification"
        config["id2label"] = dict(enumerate(labels))
        config["label2id"] = {label: number for number, label in enumerate(labels)}
    files = tokenizer_for(dictionary, positions - dictionary.pad() - 1, bpe_model, gpt2_bpe)
    weights = transformers_state_dict(state_dict, head, pre_norm, config["tie_word_embeddings"])
    # in the precision that fairseq computes with
    weights = {key: tensor.to(torch.float32) for key, tensor in weights.items()}
    return TransformersModel(config, weights, files)
