"""Translation models of fairseq as models of Hugging Face's transformers."""

import os
from argparse import Namespace
from collections.abc import Mapping

import torch
from fairseq.data import Dictionary
from fairseq.data.data_utils import infer_language_pair

from ..surgery.architectures import ExportError
from ..surgery.config import OUTPUT_BIAS_SETTING
from .generators import SPECIAL, plain, refuse, sinusoids
from .tokenizer_files import Ends, as_json, gpt2_tokenizer, translation_tokenizer, word_tokenizer
from .transformers_folder import ACTIVATIONS, TransformersModel, dictionary_of

_STACKS = ("encoder", "decoder")
# The model_type of a translation model -> its class.
_CLASSES = {
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
    "m2m_100": "M2M100ForConditionalGeneration",
    "blenderbot": "BlenderbotForConditionalGeneration",
    "fsmt": "FSMTForConditionalGeneration",
    "marian": "MarianMTModel",
}


def _generation(longest: int) -> bytes:
    """What makes ``generate`` search as fairseq-generate does by default."""
    return as_json(
        {
            **SPECIAL,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": 2,
            "num_beams": 5,
            "early_stopping": True,
            "length_penalty": 1.0,
            "min_new_tokens": 2,  # with </s>: fairseq's --min-len 1
            "max_new_tokens": min(201, longest),  # with </s>: fairseq's --max-len-b 200
        }
    )


def _translation_class(settings: Namespace) -> str:
    """The model_type of the class that computes a translation model's function."""
    pre_norm, learned = settings.encoder_normalize_before, settings.encoder_learned_pos
    if settings.layernorm_embedding:
        return "mbart" if pre_norm else "bart"
    if pre_norm:
        return "blenderbot" if learned else "m2m_100"
    return "marian" if learned else "fsmt"


def _dictionaries(settings: Namespace, folder: str) -> tuple[Dictionary, Dictionary]:
    languages = [getattr(settings, f"{side}_lang", None) for side in ("source", "target")]
    if None in languages and os.path.isdir(folder):
        languages = list(infer_language_pair(folder))
    if None in languages:
        raise ExportError(f"no binarised data in '{folder}' that tells the languages; give its folder with --data")
    source, target = (dictionary_of(folder, f"dict.{language}.txt", masks=False) for language in languages)
    return source, target


def _tokenizers(source: Dictionary, target: Dictionary, longest: int, bpe_model, gpt2_bpe) -> dict[str, bytes]:
    """The tokenizer's files; where the target has another dictionary, one for it is in a folder ``target``."""
    ends: Ends = (None, "</s>")
    if bpe_model is not None:
        return translation_tokenizer(source, target, longest, bpe_model)

    def of(dictionary):
        if gpt2_bpe is not None:
            return gpt2_tokenizer(dictionary, longest, gpt2_bpe, ends)
        return word_tokenizer(dictionary, longest, ends)

    files = of(source)
    if source.symbols != target.symbols:
        files |= {f"target/{name}": content for name, content in of(target).items()}
    return files


def _tables(kind: str, encoder, decoder, output) -> tuple[dict[str, torch.Tensor], dict]:
    """The embeddings and the output matrix under the names of a class, and the settings that go with them."""
    same = [torch.equal(encoder, output), torch.equal(decoder, output)] if encoder.shape == output.shape else [False]
    if kind == "fsmt":  # tied, it would take one matrix for all three
        names, tied = ("encoder.embed_tokens", "decoder.embed_tokens", "decoder.output_projection"), False
        return (
            {f"model.{name}.weight": table for name, table in zip(names, (encoder, decoder, output))},
            {"tie_word_embeddings": tied, "src_vocab_size": len(encoder), "tgt_vocab_size": len(decoder)},
        )
    if all(same):
        return {"model.shared.weight": output}, {"tie_word_embeddings": True, "vocab_size": len(output)}
    found = {
        "model.encoder.embed_tokens.weight": encoder,
        "model.decoder.embed_tokens.weight": decoder,
        "lm_head.weight": output,
    }
    config = {"tie_word_embeddings": False, "vocab_size": len(encoder)}
    if kind == "marian":
        return found, config | {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": len(output)}
    return found | {"model.shared.weight": encoder}, config


def translation_model(
    settings: Namespace, state: Mapping, folder: str, bpe_model: str | None = None, gpt2_bpe: str | None = None
) -> TransformersModel:
    """A translation or summarization model, as transformers has it.

    Args:
        settings: the pruned model's, from :func:`~fairseq_layerdrop.surgery.pruned_settings`.
        state: its state dict.
        folder: with its dictionaries.
        bpe_model: SentencePiece model that cut the text into pieces, or None.
        gpt2_bpe: folder of GPT-2's byte-level BPE that did so, or None. With neither, the tokenizer takes text in
            pieces.

    Raises:
        ExportError: saying what transformers, or the folder, lacks.
    """
    kind = _translation_class(settings)
    encoder, decoder = (state[f"{stack}.embed_tokens.weight"] for stack in _STACKS)
    output = state.get("decoder.output_projection.weight", decoder)
    pairs = ("normalize_before", "learned_pos", "embed_dim")
    one_vocabulary = kind in ("fsmt", "marian") or len(encoder) == len(output)
    biased = getattr(settings, OUTPUT_BIAS_SETTING, None)
    refuse(
        settings,
        [
            *(
                (
                    getattr(settings, f"encoder_{name}") != getattr(settings, f"decoder_{name}"),
                    f"an encoder and a decoder that differ in --encoder-{name} and --decoder-{name}".replace("_", "-"),
                )
                for name in pairs
            ),
            (getattr(settings, "no_cross_attention", False), "decoders that don't attend (--no-cross-attention)"),
            (getattr(settings, "no_decoder_final_norm", False), "decoders without their last norm"),
            (settings.decoder_output_dim != settings.decoder_embed_dim, "--decoder-output-dim"),
            (not one_vocabulary, f"two vocabularies of different size in a {_CLASSES[kind]}, which this model is"),
            (biased and kind in ("fsmt", "m2m_100"), f"biases of logits in a {_CLASSES[kind]} (--decoder-output-bias)"),
        ],
    )
    state = plain({**state, "decoder.output_projection.weight": output})
    encoder, decoder = (state.pop(f"{stack}.embed_tokens.weight") for stack in _STACKS)
    weights, of_tables = _tables(kind, encoder, decoder, state.pop("decoder.output_projection.weight"))
    bias = state.pop("decoder.output_projection.bias", None)
    if bias is not None:
        weights["final_logits_bias"] = bias[None]
    longest = min(settings.max_source_positions, settings.max_target_positions)
    for stack in _STACKS if kind not in ("fsmt", "m2m_100") else ():
        key = f"{stack}.embed_positions.weight"
        table = state.pop(key, None)
        table = sinusoids(longest, encoder.shape[1]) if table is None else table[: longest + 2]
        weights[f"model.{key}"] = table if kind in ("bart", "mbart") else table[2:].clone()
    weights |= {f"model.{key}": tensor for key, tensor in state.items()}
    source, target = _dictionaries(settings, folder)
    for dictionary, table in ((source, encoder), (target, decoder)):
        if len(dictionary) != len(table):
            raise ExportError(f"a dictionary in '{folder}' has {len(dictionary)} symbols, but the model {len(table)}")
    config = {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "d_model": encoder.shape[1],
        **{f"{stack}_layers": getattr(settings, f"{stack}_layers") for stack in _STACKS},
        **{f"{stack}_attention_heads": getattr(settings, f"{stack}_attention_heads") for stack in _STACKS},
        **{f"{stack}_ffn_dim": len(state[f"{stack}.layers.0.fc1.weight"]) for stack in _STACKS},
        "activation_function": ACTIVATIONS[settings.activation_fn],
        "dropout": settings.dropout,
        "attention_dropout": settings.attention_dropout,
        "activation_dropout": settings.activation_dropout,
        "max_position_embeddings": longest,
        "scale_embedding": not settings.no_scale_embedding,
        "is_encoder_decoder": True,
        **SPECIAL,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
        **({"langs": ["source", "target"]} if kind == "fsmt" else {}),
        **of_tables,
        "dtype": "float32",
    }
    files = _tokenizers(source, target, longest, bpe_model, gpt2_bpe)
    notes = ["save_pretrained of a Marian loses its table of positions; keep this folder"] if kind == "marian" else []
    return TransformersModel(config, weights, {**files, "generation_config.json": _generation(longest)}, notes)
