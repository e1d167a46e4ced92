"""Language models of fairseq as models of Hugging Face's transformers."""

import math
from argparse import Namespace
from collections.abc import Mapping

import torch

from ..surgery.architectures import ExportError
from ..surgery.config import FAIRSEQ_EPS, OUTPUT_BIAS_SETTING
from .generators import SPECIAL, plain, refuse, sinusoids
from .tokenizer_files import Ends, as_json, gpt2_tokenizer, word_tokenizer
from .transformers_folder import ACTIVATIONS, TransformersModel, dictionary_of


def _folded(state: dict[str, torch.Tensor], settings: Namespace) -> None:
    """Put the scale of embeddings, in place, into the table, and take it out of the last norm where that is tied."""
    scale = math.sqrt(settings.decoder_embed_dim)
    tied = settings.share_decoder_input_output_embed
    state["decoder.embed_tokens.weight"] = state["decoder.embed_tokens.weight"] * scale
    if tied:
        last = f"decoder.layers.{settings.decoder_layers - 1}.final_layer_norm"
        norm = "decoder.layer_norm" if settings.decoder_normalize_before else last
        for name in ("weight", "bias"):
            state[f"{norm}.{name}"] = state[f"{norm}.{name}"] / scale


def language_model(settings: Namespace, state: Mapping, folder: str, gpt2_bpe: str | None = None) -> TransformersModel:
    """A language model, as transformers has it: a BioGPT, or where its norms are others, an OPT.

    Args:
        settings: see :func:`translation_model`.
        state: likewise.
        folder: likewise.
        gpt2_bpe: likewise.

    Raises:
        ExportError: saying what transformers, or the folder, lacks.
    """
    pre_norm, last_norm = settings.decoder_normalize_before, not getattr(settings, "no_decoder_final_norm", False)
    bio_gpt, tied = pre_norm and last_norm, settings.share_decoder_input_output_embed
    scaled, width = not settings.no_scale_embedding, settings.decoder_embed_dim
    refuse(
        settings,
        [
            (settings.layernorm_embedding, "norms of a language model's embeddings (--layernorm-embedding)"),
            ({settings.decoder_input_dim, settings.decoder_output_dim} != {width}, "--decoder-input-dim"),
            (scaled and tied and pre_norm and not last_norm, "scaled and tied embeddings without a last norm"),
            (getattr(settings, OUTPUT_BIAS_SETTING, None), "biases of logits (--decoder-output-bias)"),
        ],
    )
    state, longest = plain(state), settings.max_target_positions or settings.tokens_per_sample
    output = state.pop("decoder.output_projection.weight")
    dictionary = dictionary_of(folder, "dict.txt", masks=False)
    if len(dictionary) != len(output):
        raise ExportError(f"the dictionary in '{folder}' has {len(dictionary)} symbols, but the model {len(output)}")
    key = "decoder.embed_positions.weight"
    state[key] = state[key][: longest + 2] if key in state else sinusoids(longest, width)
    if scaled and not bio_gpt:
        _folded(state, settings)
    config = {
        "vocab_size": len(output),
        "hidden_size": width,
        "num_hidden_layers": settings.decoder_layers,
        "num_attention_heads": settings.decoder_attention_heads,
        "max_position_embeddings": longest,
        "tie_word_embeddings": tied,
        **SPECIAL,
        "dtype": "float32",
    }
    inner, activation = len(state["decoder.layers.0.fc1.weight"]), ACTIVATIONS[settings.activation_fn]
    if bio_gpt:
        weights = {f"biogpt.{key.removeprefix('decoder.')}": tensor for key, tensor in state.items()}
        output_name = "output_projection.weight"
        config |= {
            "architectures": ["BioGptForCausalLM"], "model_type": "biogpt", "intermediate_size": inner,
            "hidden_act": activation, "hidden_dropout_prob": settings.dropout, "scale_embedding": scaled,
            "attention_probs_dropout_prob": settings.attention_dropout, "layer_norm_eps": FAIRSEQ_EPS,
        }  # fmt: skip
    else:
        weights = {f"model.{key}": tensor for key, tensor in state.items()}
        weights = {key.replace("decoder.layer_norm", "decoder.final_layer_norm"): weights[key] for key in weights}
        output_name = "lm_head.weight"
        config |= {
            "architectures": ["OPTForCausalLM"], "model_type": "opt", "ffn_dim": inner, "word_embed_proj_dim": width,
            "activation_function": activation, "dropout": settings.dropout,
            "attention_dropout": settings.attention_dropout, "do_layer_norm_before": pre_norm,
            "_remove_final_layer_norm": not last_norm,
        }  # fmt: skip
    if not tied:
        weights[output_name] = output
    ends: Ends = ("</s>", None)
    files = (
        gpt2_tokenizer(dictionary, longest, gpt2_bpe, ends) if gpt2_bpe else word_tokenizer(dictionary, longest, ends)
    )
    generation = {**SPECIAL, "bos_token_id": 2, "max_length": longest}
    return TransformersModel(config, weights, {**files, "generation_config.json": as_json(generation)})
