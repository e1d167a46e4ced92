"""Encoders of transformers as fairseq's RoBERTa (Liu et al. 2019, 1907.11692)."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..families.encoders import ENCODERS, HEAD, Encoder
from ..families.names import renamed
from . import shapes
from .folder import ImportFolderError
from .model import ACTIVATIONS, Imported, activation, check_rows, check_shapes, refuse, with_version
from .tokens import Vocabulary, read_vocabulary

_STACK = "encoder.sentence_encoder"
_LM_HEAD = "encoder.lm_head"
# The logit of symbols that a model hasn't got.
_NEVER = -1e4


def _kind(config: Mapping, family: Encoder) -> str:
    """What the folder's model has above its encoder: ``Model`` for nothing, ``MaskedLM`` or ``SequenceClassification``.

    Raises:
        ImportFolderError: a head that fairseq has no place for.
    """
    [name] = (config.get("architectures") or [f"{family.model}Model"])[:1]
    kind = str(name).removeprefix(family.model).removeprefix("For")
    kinds = {"Model": "Model", "MaskedLM": "MaskedLM", "PreTraining": "MaskedLM", "LMHeadModel": "MaskedLM"}
    kinds["SequenceClassification"] = "SequenceClassification"
    if kind not in kinds:
        raise ImportFolderError(
            f"fairseq has no place for the head of a {name} (architectures); there is one for {family.model}Model, "
            f"{family.model}ForMaskedLM and {family.model}ForSequenceClassification"
        )
    return kinds[kind]


def _weights(weights: Mapping[str, torch.Tensor], family: Encoder, kind: str) -> dict[str, torch.Tensor]:
    """*weights* under fairseq's names, without those of other heads.

    Raises:
        ImportFolderError: one has no place.
    """
    old = {"gamma": "weight", "beta": "bias"}  # TensorFlow's, in BERT's oldest files
    keys = {key: f"{head}.{old.get(last, last)}" for key in weights for head, _, last in [key.rpartition(".")]}
    plain = {keys[key].removeprefix(f"{family.prefix}."): tensor for key, tensor in weights.items()}
    unused = dict.fromkeys(family.classifier) | {"pooler.dense": None}
    names = {**family.base, **(dict.fromkeys(family.heads) if kind == "SequenceClassification" else family.heads)}
    names = {**unused, **names, **(family.classifier if kind == "SequenceClassification" else {})}
    found, unknown = renamed(plain, names)
    if unknown:
        raise ImportFolderError(f"fairseq's RoBERTa has no place for {unknown[0]}")
    return found


def _with_positions(found: dict[str, torch.Tensor], first: int) -> None:
    """Let the table of positions be fairseq's: a text begins at row 2, and has the type of its tokens in it."""
    key, types = f"{_STACK}.embed_positions.weight", found.pop(f"{_STACK}.token_types.weight", None)
    table = found.get(key)
    if table is None or table.dim() != 2 or (types is not None and types.shape[1:] != table.shape[1:]):
        raise ImportFolderError("the weights don't go with config.json: they lack a table of positions of their width")
    typed = types is not None and bool(types[0].any())
    if typed or first != 2:
        found[key] = torch.cat([table.new_zeros(2, table.shape[1]), table[first:] + (types[0] if typed else 0)])


def _with_head(found: dict[str, torch.Tensor], symbols: Vocabulary, tied: bool) -> None:
    """Complete the masked language model's head; where the folder has none, it gives the products with embeddings."""
    words = found[f"{_STACK}.embed_tokens.weight"]
    width = words.shape[1]
    if f"{_LM_HEAD}.dense.weight" not in found:
        found[f"{_LM_HEAD}.dense.weight"] = torch.eye(width, dtype=words.dtype)
        found[f"{_LM_HEAD}.layer_norm.weight"] = words.new_ones(width)
        for name in ("dense.bias", "layer_norm.bias"):
            found[f"{_LM_HEAD}.{name}"] = words.new_zeros(width)
        found[f"{_LM_HEAD}.bias"] = words.new_zeros(len(words))
    elif f"{_LM_HEAD}.bias" in found:
        found[f"{_LM_HEAD}.bias"] = symbols.rows(found[f"{_LM_HEAD}.bias"], _NEVER)
    if tied or f"{_LM_HEAD}.weight" not in found:
        found[f"{_LM_HEAD}.weight"] = words
    else:
        found[f"{_LM_HEAD}.weight"] = symbols.rows(found[f"{_LM_HEAD}.weight"])


def _labels(config: Mapping, classes: int) -> list[str]:
    named = config.get("id2label") or {}
    return [str(named.get(str(number), f"LABEL_{number}")) for number in range(classes)]


def import_encoder(config: Mapping, weights: Mapping[str, torch.Tensor], folder: Path) -> Imported:
    """A model of one of :data:`ENCODERS`.

    The type of a text's first tokens is added to the positions, so that the function is the same for one text; a
    second segment has no type of its own.

    Args:
        config: what its ``config.json`` holds.
        weights: its state dict; isn't changed.
        folder: has its tokenizer.

    Raises:
        ImportFolderError: fairseq can't be this model, or the folder isn't whole.
    """
    model_type = config["model_type"]
    family = ENCODERS[model_type]

    def given(name):
        return family.setting(config, name)

    kind = _kind(config, family)
    gelu = given("hidden_act") == "gelu" or not family.gelu_head or kind == "SequenceClassification"
    refuse(
        [
            activation(given("hidden_act")),
            (not gelu, f"head of a masked language model with gelu and layers with {given('hidden_act')} (hidden_act)"),
            (config.get("is_decoder"), "decoder of this kind (is_decoder)"),
            (given("hidden_size") % given("num_attention_heads"), "heads of different widths (num_attention_heads)"),
        ],
        model_type,
    )
    found = _weights(weights, family, kind)
    words = check_rows(found.get(f"{_STACK}.embed_tokens.weight"), config)
    symbols = read_vocabulary(folder, config, len(words)).with_mask()
    found[f"{_STACK}.embed_tokens.weight"] = symbols.rows(words)
    _with_positions(found, config.get("pad_token_id", 1) + 1 if family.after_pad else 0)
    had_head, tied = f"{_LM_HEAD}.dense.weight" in found, bool(config.get("tie_word_embeddings", True))
    _with_head(found, symbols, tied)
    classes = {}
    if kind == "SequenceClassification":
        output = found.get(f"classification_heads.{HEAD}.out_proj.weight")
        classes = {HEAD: len(output) if output is not None else 0}
    eps = family.eps or given("layer_norm_eps")
    settings = {
        "arch": "layerdrop_roberta",
        "encoder_layers": given("num_hidden_layers"),
        "encoder_embed_dim": given("hidden_size"),
        "encoder_ffn_embed_dim": given("intermediate_size"),
        "encoder_attention_heads": given("num_attention_heads"),
        "activation_fn": ACTIVATIONS[given("hidden_act")],
        "pooler_activation_fn": family.pooler,
        "dropout": given("hidden_dropout_prob"),
        "attention_dropout": given("attention_probs_dropout_prob"),
        "pooler_dropout": given("classifier_dropout") or 0.0,
        "max_positions": len(found[f"{_STACK}.embed_positions.weight"]) - 2,
        "encoder_normalize_before": family.pre_norm,
        "layernorm_embedding": True,
        "untie_weights_roberta": not tied and had_head,
        "layer_norm_eps": eps,
    }
    check_shapes(found, shapes.roberta(settings, len(symbols.order), classes))
    notes = []
    if not had_head:
        notes.append("it has no head of a masked language model: fairseq's gives products with the embeddings")
    if family.setting(config, "type_vocab_size") not in (None, 1) and not family.after_pad:
        notes.append("fairseq's RoBERTa has one segment: of two texts, the second is read as the first is")
    task = {"_name": "masked_lm", "tokens_per_sample": settings["max_positions"]}
    if classes:
        regression = config.get("problem_type") == "regression" or classes[HEAD] == 1
        task = {
            "_name": "sentence_prediction", "num_classes": classes[HEAD], "classification_head_name": HEAD,
            "init_token": 0, "regression_target": regression, "max_positions": settings["max_positions"],
            "separator_token": 2 if family.after_pad else None,
        }  # fmt: skip
    return Imported(
        settings,
        with_version(found, _STACK),
        {"dict.txt": symbols, **({"input0/dict.txt": symbols} if classes else {})},
        task,
        "sentence_prediction" if classes else "masked_lm",
        _labels(config, classes[HEAD]) if classes else (),
        notes,
    )
