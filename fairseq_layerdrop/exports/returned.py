"""Imported models on their way back to transformers: under the class that they came from, with its tokenizer.

The folder that ``import`` wrote tells the class and the order of the symbols; the checkpoint may have been pruned and
trained since.
"""

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..families.encoders import ENCODERS, HEAD, Encoder
from ..families.languages import LANGUAGE_MODELS, LanguageModel
from ..families.names import Names, renamed, turned
from ..families.translators import NAMES, TRANSLATORS, Translator
from ..imports.folder import read_json
from ..imports.tokens import TOKENIZER_FILES, Vocabulary, read_vocabulary
from ..imports.translators import marian_positions, vocabularies_of
from ..surgery.architectures import ExportError
from ..surgery.config import norm_eps
from .transformers_folder import TransformersModel

_STACKS = ("encoder", "decoder")
_LM_HEAD = "encoder.lm_head"


def is_imported(folder) -> bool:
    """Whether *folder* is one that ``import`` wrote."""
    return all(os.path.isfile(os.path.join(folder, name)) for name in ("config.json", "checkpoint.pt"))


def _same(folder: Path, pairs: Mapping[str, tuple]) -> None:
    """Refuse a checkpoint that isn't of the folder's model.

    Args:
        folder: that of the import.
        pairs: by the names of transformers' settings, their values there and in the checkpoint.

    Raises:
        ExportError: a value differs.
    """
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise ExportError(f"the checkpoint isn't of the model in {folder}: {name} is {ours}, and there {theirs}")


def _under(names: Names, state: Mapping[str, torch.Tensor], what: str) -> dict[str, torch.Tensor]:
    found, unknown = renamed(state, names)
    if unknown:
        raise ExportError(f"transformers' {what} has no place for {unknown[0]}")
    return found


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """*state* without what fairseq notes of itself."""
    return {key: tensor for key, tensor in state.items() if not key.endswith(("version", "_float_tensor"))}


def _heads(family: Encoder, kind: str, tied: bool) -> dict[str, str]:
    """transformers' names of an encoder's heads, by fairseq's, in a model of this *kind*."""
    if kind == "ForMaskedLM":
        output = [theirs for theirs, ours in family.heads.items() if ours == _LM_HEAD][-1]
        return turned(family.heads) | ({} if tied else {"untied": output})
    if kind == "ForSequenceClassification":
        return {
            ours: f"{family.prefix}.{theirs}" if theirs.startswith("pooler") else theirs
            for ours, theirs in turned(family.classifier).items()
        }
    return {}


def _encoder(config: dict, settings: Namespace, state, folder: Path, head: str | None) -> tuple[dict, dict, list[str]]:
    family: Encoder = ENCODERS[config["model_type"]]
    stack, own, notes = "encoder.sentence_encoder", f"classification_heads.{head}.", []

    def given(name):
        return family.setting(config, name)

    _same(
        folder,
        {
            "hidden_size": (given("hidden_size"), settings.encoder_embed_dim),
            "num_attention_heads": (given("num_attention_heads"), settings.encoder_attention_heads),
            "layer_norm_eps": (family.eps or given("layer_norm_eps"), norm_eps(settings)),
        },
    )
    order, tied = read_vocabulary(folder, config, config["vocab_size"]).with_mask(), not settings.untie_weights_roberta
    words, places = state[f"{stack}.embed_tokens.weight"], state[f"{stack}.embed_positions.weight"]
    _check_rows(words, order, folder)
    alone = str((config.get("architectures") or ["Model"])[0]).endswith("Model")
    kind = "ForSequenceClassification" if head else "Model" if alone else "ForMaskedLM"
    if kind == "Model":
        notes.append(f"fairseq has no pooler: transformers' {family.model}Model begins a new one")
    begins = "" if kind == "Model" else f"{family.prefix}."
    names = {ours: f"{begins}{theirs}" for ours, theirs in turned(family.base).items()} | _heads(family, kind, tied)
    kept = {key: tensor for key, tensor in _plain(state).items() if key.startswith(f"{stack}.")}
    first = config.get("pad_token_id", 1) + 1 if family.after_pad else 0
    kept[f"{stack}.embed_tokens.weight"] = order.rows_back(words)
    kept[f"{stack}.embed_positions.weight"] = torch.cat([places.new_zeros(first, places.shape[1]), places[2:]])
    if f"{stack}.token_types" in names and config["model_type"] != "distilbert":
        types = config.get("type_vocab_size", 1 if family.after_pad else 2)
        kept[f"{stack}.token_types.weight"] = words.new_zeros(types, words.shape[1])
    if kind == "ForMaskedLM":
        kept |= {key: tensor for key, tensor in state.items() if key.startswith(_LM_HEAD)}
        output, bias = order.rows_back(kept.pop(f"{_LM_HEAD}.weight")), order.rows_back(kept[f"{_LM_HEAD}.bias"])
        kept |= {f"{_LM_HEAD}.bias": bias, **({} if tied else {"untied.weight": output, "untied.bias": bias})}
    if head:
        of_head = {key.removeprefix(own): tensor for key, tensor in state.items() if key.startswith(own)}
        kept |= {f"classification_heads.{HEAD}.{key}": tensor for key, tensor in of_head.items()}
        classes = len(of_head["out_proj.weight"])
        if len(config.get("id2label") or ()) != classes:
            config |= _labelled([f"LABEL_{number}" for number in range(classes)])
    config |= {
        "architectures": [f"{family.model}{kind}"],
        family.settings.get("num_hidden_layers", "num_hidden_layers"): settings.encoder_layers,
        "tie_word_embeddings": tied,
        "layer_norm_eps": norm_eps(settings),
    }
    return config, _under(names, kept, family.model), notes


def _labelled(labels: Sequence[str]) -> dict:
    """The settings of a classifier's labels."""
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _check_rows(words: torch.Tensor, order: Vocabulary, folder: Path) -> None:
    if len(words) != len(order.order):
        raise ExportError(f"the checkpoint has {len(words)} symbols, and the model in {folder} {len(order.order)}")


def _columns(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The matrices of layers as GPT-2 keeps them; see :mod:`~fairseq_layerdrop.imports.languages`."""
    made = {}
    for key, tensor in state.items():
        if ".k_proj." in key or ".v_proj." in key:
            continue
        if ".q_proj." in key:
            tensor = torch.cat([state[key.replace(".q_", f".{name}_")] for name in "qkv"])
            key = key.replace(".q_", ".qkv_")
        made[key] = tensor.t().contiguous() if ".layers." in key and tensor.dim() == 2 else tensor
    return made


def _language_model(config: dict, settings: Namespace, state, folder: Path, head) -> tuple[dict, dict, list[str]]:
    family: LanguageModel = LANGUAGE_MODELS[config["model_type"]]

    def given(name):
        return family.setting(config, name)

    _same(
        folder,
        {
            "hidden_size": (given("hidden_size"), settings.decoder_embed_dim),
            "num_attention_heads": (given("num_attention_heads"), settings.decoder_attention_heads),
            "layer norms' eps": (given(family.eps) if family.eps else 1e-5, norm_eps(settings)),
        },
    )
    order, state = read_vocabulary(folder, config, config["vocab_size"]), _plain(state)
    words, output = state["decoder.embed_tokens.weight"], state.pop("decoder.output_projection.weight")
    _check_rows(words, order, folder)
    state["decoder.embed_tokens.weight"] = order.rows_back(words)
    tied = settings.share_decoder_input_output_embed
    if family.first_position == 0:
        state["decoder.embed_positions.weight"] = state["decoder.embed_positions.weight"][2:]
    names = {ours: f"{family.prefix}.{theirs}" for ours, theirs in turned(family.base).items()}
    if not tied:
        state["decoder.output_projection.weight"] = order.rows_back(output)
        names["decoder.output_projection"] = family.output
    depth = family.settings["num_hidden_layers"]
    config |= {
        "architectures": [f"{family.model}{family.heads[0]}"],
        depth: settings.decoder_layers,
        "tie_word_embeddings": tied,
    }
    return config, _under(names, _columns(state) if family.columns else state, family.model), []


def _translator(config: dict, settings: Namespace, state, folder: Path, head) -> tuple[dict, dict, list[str]]:
    family: Translator = TRANSLATORS[config["model_type"]]
    pairs = {"d_model": (config.get("d_model", 1024), settings.encoder_embed_dim)}
    for stack in _STACKS:
        name = f"{stack}_attention_heads"
        pairs[name] = (config.get(name, 16), getattr(settings, name))
    _same(folder, pairs)
    state = _plain(state)
    encoder, decoder = (state.pop(f"{stack}.embed_tokens.weight") for stack in _STACKS)
    output = state.pop("decoder.output_projection.weight")
    one = config.get("share_encoder_decoder_embeddings", True)
    sizes = [config.get(name, config.get("vocab_size")) for name in ("src_vocab_size", "tgt_vocab_size")]
    if not one:
        sizes[1] = config.get("decoder_vocab_size") or sizes[1]
    source, target = vocabularies_of(config, folder, family, (sizes[0], sizes[1]))
    _check_rows(encoder, source, folder)
    _check_rows(output, target, folder)
    start, eos = config.get("decoder_start_token_id"), config.get("eos_token_id", 2)
    encoder, theirs, logits = source.rows_back(encoder), target.rows_back(decoder), target.rows_back(output)
    if start is not None and start != eos:
        theirs = theirs.clone()
        theirs[start], theirs[eos] = decoder[2], logits[eos]
    tables = {"encoder": encoder, "decoder": theirs, "output": logits}
    was_tied = config.get("tie_word_embeddings", family.defaults.get("tie_word_embeddings", True))
    tied = was_tied and torch.equal(theirs, logits) and (not one or torch.equal(encoder, logits))
    found = {} if config["model_type"] == "fsmt" else {"shared.weight": encoder}
    if not tied or not one:
        found |= {f"{stack}.embed_tokens.weight": tables[stack] for stack in _STACKS}
    if not tied:
        name = "decoder.output_projection" if config["model_type"] == "fsmt" else "lm_head"
        found[f"{name}.weight"] = logits
    if not one:
        found.pop("shared.weight")
    bias = state.pop("decoder.output_projection.bias", None)
    for key in (f"{stack}.embed_positions.weight" for stack in _STACKS):
        table = state.pop(key, None)
        if table is not None:
            table = table[2:] if family.first_position == 0 else table
            if config["model_type"] != "marian" or not torch.equal(table, marian_positions(*table.shape)):
                found[key] = table
    found |= _under({ours: ours for ours in turned(NAMES)}, state, family.classes[0])
    weights = {key if key.startswith("lm_head") else f"model.{key}": tensor for key, tensor in found.items()}
    if bias is not None:
        weights["final_logits_bias"] = target.rows_back(bias)[None]
    config |= {
        "architectures": [family.classes[0]],
        "encoder_layers": settings.encoder_layers,
        "decoder_layers": settings.decoder_layers,
        "tie_word_embeddings": tied,
        **({"num_hidden_layers": settings.encoder_layers} if "num_hidden_layers" in config else {}),
    }
    return config, weights, []


def returned(
    settings: Namespace,
    state: Mapping[str, torch.Tensor],
    folder,
    head: str | None = None,
    labels: Sequence[str] | None = None,
) -> TransformersModel:
    """An imported model, as transformers' class that it came from.

    Args:
        settings: the pruned model's, from :func:`~fairseq_layerdrop.surgery.pruned_settings`.
        state: its state dict.
        folder: the one that ``import`` wrote.
        head: name of its classification head; None where there is none.
        labels: names of its classes; None for those of the folder.

    Raises:
        ExportError: the checkpoint isn't of the model that was imported there.
        UserError: the folder can't be read.
    """
    folder = Path(folder)
    if not is_imported(folder):
        raise ExportError(f"{folder} is no folder that fairseq-layerdrop import wrote")
    config = read_json(folder / "config.json")
    kinds = ((ENCODERS, _encoder), (LANGUAGE_MODELS, _language_model), (TRANSLATORS, _translator))
    back = next((function for families, function in kinds if config.get("model_type") in families), None)
    if back is None:
        raise ExportError(f"{folder}/config.json is of no model that import takes")
    config, weights, notes = back(dict(config), settings, state, folder, head)
    if labels is not None:
        config |= _labelled(labels)
    config["dtype"] = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    config.pop("torch_dtype", None)
    names = (name for name in (*TOKENIZER_FILES, "generation_config.json") if (folder / name).is_file())
    return TransformersModel(config, weights, {name: (folder / name).read_bytes() for name in names}, notes)
