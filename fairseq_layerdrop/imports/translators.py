"""Encoder-decoder models of transformers as fairseq's ``transformer``."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..families.names import renamed
from ..families.translators import NAMES, TRANSLATORS, Translator
from . import shapes
from .folder import ImportFolderError, read_json
from .model import ACTIVATIONS, Imported, activation, check_rows, check_shapes, refuse, with_version
from .tokens import Vocabulary, read_vocabulary

_SIZES = {"layers": 12, "attention_heads": 16, "ffn_dim": 4096}
_DEFAULTS = {
    "d_model": 1024,
    **{f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in _SIZES.items()},
    "activation_function": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "max_position_embeddings": 1024,
    "scale_embedding": False,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
_STACKS = ("encoder", "decoder")
_OUTPUT = "decoder.output_projection"
# What is added to the logit of symbols that a model hasn't got.
_NEVER = -1e4


def marian_positions(count: int, width: int) -> torch.Tensor:
    """Marian's sinusoids, of shape `count x width`: sines of all frequencies, then cosines."""
    places = torch.arange(count, dtype=torch.double)[:, None]
    angles = places / 10000 ** (2 * torch.arange((width + 1) // 2, dtype=torch.double) / width)
    return torch.cat([angles.sin(), angles.cos()[:, : width // 2]], dim=1).float()


def _tables(found: dict[str, torch.Tensor], tied: bool, one_vocabulary: bool) -> tuple[torch.Tensor, ...]:
    """The embeddings of encoder and decoder and the output matrix; where they are tied, they are the same tensor."""
    shared = found.pop("shared.weight", None)
    encoder, decoder = (found.pop(f"{stack}.embed_tokens.weight", shared) for stack in _STACKS)
    output = found.pop(f"{_OUTPUT}.weight", None)
    if tied and one_vocabulary:
        encoder = decoder = output = next((table for table in (shared, encoder, output) if table is not None), None)
    elif tied or output is None:
        output = decoder
    if any(table is None or table.dim() != 2 for table in (encoder, decoder, output)):
        raise ImportFolderError("the weights don't go with config.json: they lack a table of embeddings")
    return encoder, decoder, output


def _in_fairseqs_order(tables, vocabularies: tuple[Vocabulary, Vocabulary], start: int | None, eos: int):
    """The tables for fairseq, whose decoder always begins with ``</s>``: it takes the place of the one that starts."""
    encoder, decoder, output = tables
    source, target = vocabularies
    rows = {id(encoder): source.rows(encoder)}
    rows[id(output)] = rows[id(output)] if source is target and output is encoder else target.rows(output)
    theirs = rows[id(output)] if decoder is output else target.rows(decoder)
    if start is not None and start != eos:
        theirs = theirs.clone()
        theirs[2] = decoder[start]
    return rows[id(encoder)], theirs, rows[id(output)]


def _with_positions(found: dict[str, torch.Tensor], family: Translator, longest: int, width: int) -> None:
    """Let the tables of positions be fairseq's, whose texts begin at row 2; sinusoids of its own are in none."""
    for key in (f"{stack}.embed_positions.weight" for stack in _STACKS):
        table = found.pop(key, None)
        if family.positions == "sinusoidal":
            continue
        if table is None and family.positions == "marian":
            table = marian_positions(longest, width)
        if table is None or table.dim() != 2:
            raise ImportFolderError("the weights don't go with config.json: they lack a table of positions")
        zeros = table.new_zeros(2, table.shape[1])
        found[key] = torch.cat([zeros, table]) if family.first_position == 0 else table


def has_two_vocabularies(family: Translator, folder: Path) -> bool:
    """Whether source and target have symbols of their own."""
    return bool(family.files) and (folder / family.files[1][0]).is_file()


def vocabularies_of(
    config: Mapping, folder: Path, family: Translator, sizes: tuple[int, int]
) -> tuple[Vocabulary, Vocabulary]:
    """The symbols of source and target of a model with so many embeddings; the same object where they are one."""
    two = has_two_vocabularies(family, folder)
    source = read_vocabulary(folder, config, sizes[0], *(family.files[0] if two else ()))
    return source, read_vocabulary(folder, config, sizes[1], *family.files[1]) if two else source


def _generation(folder: Path) -> dict:
    path = folder / "generation_config.json"
    return read_json(path) if path.is_file() else {}


def _languages(folder: Path) -> tuple[str, str]:
    """What fairseq is to call source and target: as the tokenizer does, where it is for one pair."""
    path = folder / "tokenizer_config.json"
    known = read_json(path) if path.is_file() else {}
    source, target = (known.get(f"{side}_lang") for side in ("source", "target"))
    plain = all(isinstance(name, str) and name.isalnum() for name in (source, target)) and source != target
    return (source, target) if plain else ("source", "target")


def import_translator(config: Mapping, weights: Mapping[str, torch.Tensor], folder: Path) -> Imported:
    """A model of one of :data:`TRANSLATORS`.

    Args:
        config: what its ``config.json`` holds.
        weights: its state dict; isn't changed.
        folder: has its tokenizer.

    Raises:
        ImportFolderError: fairseq can't be this model, or the folder isn't whole.
    """
    model_type = config["model_type"]
    family = TRANSLATORS[model_type]
    given = {**_DEFAULTS, **family.defaults, **{name: value for name, value in config.items() if value is not None}}
    [architecture] = (config.get("architectures") or [family.classes[0]])[:1]
    if architecture not in family.classes:
        raise ImportFolderError(
            f"fairseq has no place for the head of a {architecture} (architectures), only for {family.classes[0]}"
        )
    refuse(
        [activation(given["activation_function"])]
        + [
            (
                given["d_model"] % given[f"{stack}_attention_heads"],
                f"heads of different widths ({stack}_attention_heads)",
            )
            for stack in _STACKS
        ],
        model_type,
    )
    plain = {key.removeprefix("model."): tensor for key, tensor in weights.items()}
    bias = plain.pop("final_logits_bias", None)
    buffers = ("embed_positions.weights", ".version")  # in older files
    plain = {key: tensor for key, tensor in plain.items() if not key.endswith(buffers)}
    found, unknown = renamed(plain, NAMES)
    if unknown:
        raise ImportFolderError(f"fairseq's transformer has no place for {unknown[0]}")
    one = given.get("share_encoder_decoder_embeddings", True) and not has_two_vocabularies(family, folder)
    tables = _tables(found, bool(given["tie_word_embeddings"]), one)
    check_rows(tables[0], config)
    source, target = vocabularies_of(config, folder, family, (len(tables[0]), len(tables[2])))
    width, longest = given["d_model"], given["max_position_embeddings"]
    start = given.get("decoder_start_token_id", _generation(folder).get("decoder_start_token_id"))
    encoder, decoder, output = _in_fairseqs_order(tables, (source, target), start, given["eos_token_id"])
    found |= {
        "encoder.embed_tokens.weight": encoder,
        "decoder.embed_tokens.weight": decoder,
        f"{_OUTPUT}.weight": output,
    }
    _with_positions(found, family, longest, width)
    biased = (bias is not None and bool(bias.any())) or None in target.order
    if biased:
        bias = tables[2].new_zeros(len(tables[2])) if bias is None else bias.flatten()
        found[f"{_OUTPUT}.bias"] = target.rows(bias, _NEVER)
    settings = {
        "arch": "layerdrop_transformer",
        **{
            f"{stack}_{name}": value
            for stack in _STACKS
            for name, value in {
                "layers": given[f"{stack}_layers"],
                "embed_dim": width,
                "ffn_embed_dim": given[f"{stack}_ffn_dim"],
                "attention_heads": given[f"{stack}_attention_heads"],
                "normalize_before": family.pre_norm,
                "learned_pos": family.positions != "sinusoidal",
            }.items()
        },
        "activation_fn": ACTIVATIONS[given["activation_function"]],
        "dropout": given["dropout"],
        "attention_dropout": given["attention_dropout"],
        "activation_dropout": given["activation_dropout"],
        "layernorm_embedding": family.embedding_norm,
        "no_scale_embedding": not given["scale_embedding"],
        "share_all_embeddings": encoder is decoder is output,
        "share_decoder_input_output_embed": decoder is output,
        "max_source_positions": len(found.get("encoder.embed_positions.weight", range(longest + 2))) - 2,
        "max_target_positions": len(found.get("decoder.embed_positions.weight", range(longest + 2))) - 2,
        "decoder_output_bias": biased,
    }
    check_shapes(found, shapes.transformer(settings, len(source.order), len(target.order)))
    found = with_version(found, *_STACKS)
    if family.positions == "sinusoidal":  # official fairseq 0.12.2 misses these
        found |= {f"{stack}.embed_positions._float_tensor": torch.zeros(1) for stack in _STACKS}
    languages = _languages(folder)
    task = {"_name": "translation", "source_lang": languages[0], "target_lang": languages[1]}
    task |= {name: settings[name] for name in ("max_source_positions", "max_target_positions")}
    dictionaries = {f"dict.{language}.txt": symbols for language, symbols in zip(languages, (source, target))}
    notes = _notes(config, model_type)
    return Imported(settings, found, dictionaries, task, "cross_entropy", notes=notes)


def _notes(config: Mapping, model_type: str) -> list[str]:
    """What a user of the model must know beside."""
    notes = []
    if model_type in ("mbart", "m2m_100"):
        notes.append("texts begin with the symbol of their language: give it in both, and --prefix-size 1 to generate")
    if config.get("forced_bos_token_id") not in (None, 0) and not notes:
        notes.append(f"transformers begins what it generates with the token {config['forced_bos_token_id']}")
    return notes
