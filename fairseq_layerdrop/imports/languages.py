"""Language models of transformers as fairseq's ``transformer_lm``."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..families.languages import LANGUAGE_MODELS, LanguageModel
from ..families.names import renamed
from . import shapes
from .folder import ImportFolderError
from .model import ACTIVATIONS, Imported, activation, check_rows, check_shapes, refuse, with_version
from .tokens import read_vocabulary

_WORDS, _OUTPUT = "decoder.embed_tokens.weight", "decoder.output_projection.weight"
_POSITIONS = "decoder.embed_positions.weight"
# The logit of symbols that a model hasn't got: exp of it is 0 beside any other.
_NEVER = -1e3


def never_predicted(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor | None:
    """A row of the output matrix behind a layer norm that always gives the logit -1,000; None where there is none.

    The norm gives g * n + b with n that sums to 0, so c / g times it is c * sum(b / g), whatever n is.

    Args:
        weight: the norm's g, of shape `C`.
        bias: its b, likewise.
    """
    ratio = bias.double() / weight.double()
    if not ratio.isfinite().all() or ratio.sum().abs() <= 1e-3 * ratio.abs().sum():
        return None
    return (_NEVER / ratio.sum() / weight.double()).to(weight.dtype)


def _in_rows(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The matrices of a GPT-2's layers as fairseq has them: ``out x in``, one for each projection."""
    made = {}
    for key, tensor in found.items():
        if ".layers." in key and tensor.dim() == 2:
            tensor = tensor.t().contiguous()
        if ".qkv_proj." in key:
            made |= {key.replace("qkv", name): part for name, part in zip("qkv", tensor.chunk(3))}
        else:
            made[key] = tensor
    return made


def _weights(config: Mapping, weights: Mapping[str, torch.Tensor], family: LanguageModel) -> dict[str, torch.Tensor]:
    plain = {key.removeprefix(f"{family.prefix}."): tensor for key, tensor in weights.items()}
    found, unknown = renamed(plain, {**family.base, family.output: "decoder.output_projection"})
    if unknown:
        raise ImportFolderError(f"fairseq's transformer_lm has no place for {unknown[0]}")
    return _in_rows(found) if family.columns else found


def import_language_model(config: Mapping, weights: Mapping[str, torch.Tensor], folder: Path) -> Imported:
    """A model of one of :data:`LANGUAGE_MODELS`.

    Args:
        config: what its ``config.json`` holds.
        weights: its state dict; isn't changed.
        folder: has its tokenizer.

    Raises:
        ImportFolderError: fairseq can't be this model, or the folder isn't whole.
    """
    model_type = config["model_type"]
    family = LANGUAGE_MODELS[model_type]

    def given(name):
        return family.setting(config, name)

    [architecture] = (config.get("architectures") or [f"{family.model}Model"])[:1]
    if architecture not in {f"{family.model}{kind}" for kind in ("Model", *family.heads)}:
        raise ImportFolderError(
            f"fairseq has no place for the head of a {architecture} (architectures), only for "
            f"{family.model}{family.heads[0]}"
        )
    width = given("hidden_size")
    refuse(
        [
            activation(given("hidden_act")),
            (given("enable_bias") is False, "layers without biases (enable_bias)"),
            (given("layer_norm_elementwise_affine") is False, "norms without weights (layer_norm_elementwise_affine)"),
            (given("scale_attn_weights") is False, "attention that isn't scaled (scale_attn_weights)"),
            (given("scale_attn_by_inverse_layer_idx"), "attention scaled by depth (scale_attn_by_inverse_layer_idx)"),
            (width % given("num_attention_heads"), "heads of different widths (num_attention_heads)"),
        ],
        model_type,
    )
    found = _weights(config, weights, family)
    words = check_rows(found.get(_WORDS), config)
    tied = bool(config.get("tie_word_embeddings", True)) or _OUTPUT not in found
    symbols, notes = read_vocabulary(folder, config, len(words)), []
    never: torch.Tensor | float | None = 0.0
    if None in symbols.order:
        norm = [found.get(f"decoder.layer_norm.{name}") for name in ("weight", "bias")]
        never = None if None in norm else never_predicted(*norm)
        if never is None:
            never = 0.0
            notes.append("the symbols of fairseq that it lacks have the logit 0; probabilities are smaller by them")
    output = symbols.rows(words if tied else found[_OUTPUT], never)
    found |= {_WORDS: output if tied else symbols.rows(words), _OUTPUT: output}
    learned = family.first_position is not None
    table = found.get(_POSITIONS)
    if learned and (table is None or table.dim() != 2):
        raise ImportFolderError("the weights don't go with config.json: they lack a table of positions")
    if learned and family.first_position == 0:
        found[_POSITIONS] = torch.cat([table.new_zeros(2, table.shape[1]), table])
    pre_norm = given("do_layer_norm_before") is not False
    settings = {
        "arch": "layerdrop_transformer_lm",
        "decoder_layers": given("num_hidden_layers"),
        "decoder_embed_dim": width,
        "decoder_input_dim": given("word_embed_proj_dim") or width,
        "decoder_output_dim": given("word_embed_proj_dim") or width,
        "decoder_ffn_embed_dim": given("intermediate_size") or 4 * width,
        "decoder_attention_heads": given("num_attention_heads"),
        "activation_fn": ACTIVATIONS[given("hidden_act")],
        "dropout": given("hidden_dropout_prob"),
        "attention_dropout": given("attention_probs_dropout_prob"),
        "activation_dropout": config.get("activation_dropout", 0.0),
        "max_target_positions": len(found[_POSITIONS]) - 2 if learned else given("max_position_embeddings"),
        "decoder_learned_pos": learned,
        "decoder_normalize_before": pre_norm,
        "no_decoder_final_norm": bool(config.get("_remove_final_layer_norm")),
        "no_scale_embedding": not (family.scales and config.get("scale_embedding", True)),
        "share_decoder_input_output_embed": tied,
        "layer_norm_eps": given(family.eps) if family.eps else None,
    }
    check_shapes(found, shapes.language_model(settings, len(symbols.order)))
    longest = settings["max_target_positions"]
    task = {"_name": "language_modeling", "tokens_per_sample": longest, "max_target_positions": longest}
    found = with_version(found, "decoder")
    if not learned:
        found["decoder.embed_positions._float_tensor"] = torch.zeros(1)  # official fairseq 0.12.2 misses it
    return Imported(settings, found, {"dict.txt": symbols}, task, "cross_entropy", notes=notes)
