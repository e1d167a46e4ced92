"""Files from which Hugging Face's transformers loads tokenizers whose ids are those of a fairseq dictionary.

Each function returns the files' contents by their names. The tokenizers surround a text with ``<s>`` and ``</s>``, as
fairseq's RoBERTa has it.
"""

import io
import json
import os

import sentencepiece
from fairseq.data import Dictionary

from .export import ExportError

_SYMBOLS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def as_json(value) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _added(symbol: str) -> dict:
    """A symbol that is found in texts as it stands; ``<mask>`` takes the place of the space before it too."""
    lstrip = symbol == "<mask>"
    return {"content": symbol, "lstrip": lstrip, "normalized": False, "rstrip": False, "single_word": False}


def _settings(tokenizer: str, longest: int) -> dict[str, bytes]:
    mask = _added("<mask>")
    settings = {"tokenizer_class": tokenizer, "model_max_length": longest, "clean_up_tokenization_spaces": False}
    settings |= _SYMBOLS | {"mask_token": {"__type": "AddedToken", **mask, "special": True}}
    return {
        "tokenizer_config.json": as_json(settings),
        "special_tokens_map.json": as_json(_SYMBOLS | {"mask_token": mask}),
    }


def _pipeline(dictionary: Dictionary, model: dict, cut: dict, join: dict | None) -> dict[str, bytes]:
    """The ``tokenizer.json`` of a tokenizer that cuts a text with *cut*, and then each part with *model*."""
    added = [
        {"id": dictionary.index(symbol), **_added(symbol), "special": True} for symbol in sorted(set(_SYMBOLS.values()))
    ]
    surround = {
        "type": "RobertaProcessing",
        "sep": ["</s>", dictionary.eos()],
        "cls": ["<s>", dictionary.bos()],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    pipeline = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda symbol: symbol["id"]),
        "normalizer": None,
        "pre_tokenizer": cut,
        "post_processor": surround,
        "decoder": join,
        "model": model,
    }
    return {"tokenizer.json": as_json(pipeline)}


def word_tokenizer(dictionary: Dictionary, longest: int) -> dict[str, bytes]:
    """A tokenizer for text in the dictionary's symbols, with white space between them.

    Args:
        dictionary: fairseq's, with ``<mask>``.
        longest: number of tokens of the longest text that the model takes.
    """
    model = {"type": "WordLevel", "vocab": dictionary.indices, "unk_token": dictionary.unk_word}
    # What Python takes for white space, as fairseq does.
    spaces = {"type": "Split", "pattern": {"Regex": r"[\s\x1c-\x1f\x85]+"}, "behavior": "Removed", "invert": False}
    return _pipeline(dictionary, model, spaces, None) | _settings("PreTrainedTokenizerFast", longest)


def gpt2_tokenizer(dictionary: Dictionary, longest: int, folder: str) -> dict[str, bytes]:
    """RoBERTa's own tokenizer: the byte-level BPE of GPT-2, whose numbers of pieces are the dictionary's symbols.

    Args:
        dictionary: see :func:`word_tokenizer`.
        longest: likewise.
        folder: has the BPE's ``encoder.json`` and ``vocab.bpe``.

    Raises:
        ExportError: a file is missing or broken, or the dictionary hasn't got all pieces that texts can be cut into.
    """
    try:
        with open(os.path.join(folder, "encoder.json"), encoding="utf-8") as file:
            numbers = {str(number): piece for piece, number in json.load(file).items()}
        with open(os.path.join(folder, "vocab.bpe"), encoding="utf-8") as file:
            merges = file.read().split("\n")[1:-1]
        pairs = [(first, second) for first, second in map(str.split, merges)]
    except OSError as error:
        raise ExportError(f"cannot read {error.filename}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise ExportError(f"'{folder}' has no encoder.json and vocab.bpe in the format of GPT-2") from error
    vocabulary = {numbers.get(symbol, symbol): index for symbol, index in dictionary.indices.items()}
    pieces = {piece for piece in numbers.values() if len(piece) == 1}
    pieces.update(piece for first, second in pairs for piece in (first, second, first + second))
    missing = pieces - vocabulary.keys()
    if missing or len(vocabulary) < len(dictionary):
        raise ExportError(
            f"the dictionary is not all of the BPE in '{folder}' (it lacks {len(missing)} pieces), which transformers' "
            "tokenizer needs; make the data with the BPE's own dictionary (fairseq-preprocess --srcdict)"
        )
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "vocab": vocabulary,
        "merges": merges,
    }
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        **_pipeline(dictionary, model, by_bytes, by_bytes),
        **_settings("RobertaTokenizer", longest),
        "vocab.json": as_json(vocabulary),
        "merges.txt": "".join(f"{line}\n" for line in ("#version: 0.2", *merges)).encode(),
    }


def sentencepiece_tokenizer(dictionary: Dictionary, longest: int, path: str) -> dict[str, bytes]:
    """A tokenizer that cuts text with SentencePiece itself and looks the pieces up in the dictionary.

    This is transformers' BartphoTokenizer, which does exactly what fairseq does. The rules of a SentencePiece model
    can't be written as a ``tokenizer.json`` without differences in some texts.

    Args:
        dictionary: see :func:`word_tokenizer`.
        longest: likewise.
        path: of the SentencePiece model.

    Raises:
        ExportError: it can't be read, or it isn't the one that the dictionary's symbols come from.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
        model = sentencepiece.SentencePieceProcessor(model_proto=content)
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from error
    except RuntimeError as error:
        raise ExportError(f"{path} is not a SentencePiece model") from error
    symbols = dictionary.symbols[dictionary.nspecial :]
    if not {model.id_to_piece(number) for number in range(model.get_piece_size())} & set(symbols):
        raise ExportError(f"none of the dictionary's symbols is a piece of {path}; give the model that cut the text")
    if any(symbol.split() != [symbol] for symbol in symbols):
        raise ExportError("the dictionary has symbols with white space in them, which transformers can't take")
    listed = io.StringIO()
    dictionary.save(listed)
    return {
        **_settings("BartphoTokenizer", longest),
        "sentencepiece.bpe.model": content,
        "dict.txt": listed.getvalue().encode(),
    }
