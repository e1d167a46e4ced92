"""Files from which Hugging Face's transformers loads tokenizers whose ids are those of a fairseq dictionary.

Each function returns the files' contents by their names. The tokenizers surround a text with ``<s>`` and ``</s>``, as
fairseq's RoBERTa has it, or end it, as its translations do, or begin it, as its language models do, with ``</s>``. In
a text, ``<mask>`` alone is a symbol, and takes the place of the space before it too; ``</s>``, say, is cut into pieces
as all text is.
"""

import io
import json
import os

import sentencepiece
from fairseq.data import Dictionary
from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

from ..surgery.architectures import ExportError

_SYMBOLS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}
# What stands before and after a text.
Ends = tuple[str | None, str | None]
AROUND: Ends = ("<s>", "</s>")
_MASK = {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}
# Begins the symbols' names for a tokenizer that takes them, written in a text, for symbols: no text has this character.
_NOT_IN_TEXTS = "\ufdd0"
# What Python takes for white space, as fairseq does.
_SPACE = r"[\s\x1c-\x1f\x85]"
# How GPT-2 cuts a text into words.
_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def as_json(value) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _settings(
    tokenizer: str, longest: int, symbols: dict = _SYMBOLS, ends: Ends = AROUND, masks: bool = True, **more
) -> dict[str, bytes]:
    if ends != AROUND:
        symbols = {role: symbol for role, symbol in symbols.items() if role not in ("cls_token", "sep_token")}
    settings = {"tokenizer_class": tokenizer, "model_max_length": longest, "clean_up_tokenization_spaces": False}
    settings |= {"model_input_names": ["input_ids", "attention_mask"], **symbols, **more}
    mask = {"mask_token": {"__type": "AddedToken", **_MASK, "special": True}} if masks else {}
    return {
        "tokenizer_config.json": as_json(settings | mask),
        "special_tokens_map.json": as_json(symbols | ({"mask_token": _MASK} if masks else {})),
    }


def _surrounded(dictionary: Dictionary, ends: Ends) -> dict:
    """The post-processor that puts *ends* around a text."""
    if ends == AROUND:
        return {
            "type": "RobertaProcessing",
            "sep": ["</s>", dictionary.eos()],
            "cls": ["<s>", dictionary.bos()],
            "trim_offsets": True,
            "add_prefix_space": False,
        }
    first, last = ([{"SpecialToken": {"id": end, "type_id": 0}}] if end else [] for end in ends)
    single = [*first, {"Sequence": {"id": "A", "type_id": 0}}, *last]
    pair = [*first, *({"Sequence": {"id": name, "type_id": 0}} for name in "AB"), *last]
    special = {end: {"id": end, "ids": [dictionary.index(end)], "tokens": [end]} for end in ends if end}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _split(pattern: dict, behavior: str) -> dict:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def _pipeline(
    dictionary: Dictionary, longest: int, model: dict, cut: list[dict], ends: Ends, join: dict | None = None
) -> dict[str, bytes]:
    """A tokenizer that cuts a text at its masks, then each part with each of *cut*, and then with *model*.

    Its file tells of no symbols to look for in texts, and its settings let transformers pass over those that it adds.
    """
    before_masks = rf"(?<!{_SPACE}){_SPACE}+(?=<mask>)"  # looks at each run of spaces once
    has_mask = "<mask>" in dictionary.indices
    masks = [_split({"Regex": before_masks}, "Removed"), _split({"String": "<mask>"}, "Isolated")] if has_mask else []
    pipeline = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*masks, *cut]},
        "post_processor": _surrounded(dictionary, ends),
        "decoder": join,
        "model": model,
    }
    settings = _settings("PreTrainedTokenizerFast", longest, ends=ends, masks=has_mask, split_special_tokens=True)
    return {"tokenizer.json": as_json(pipeline), **settings}


def word_tokenizer(dictionary: Dictionary, longest: int, ends: Ends = AROUND) -> dict[str, bytes]:
    """A tokenizer for text in the dictionary's symbols, with white space between them.

    Args:
        dictionary: fairseq's; where it has ``<mask>``, that is a symbol in a text, too.
        longest: number of tokens of the longest text that the model takes.
        ends: the symbols before and after a text.
    """
    model = {"type": "WordLevel", "vocab": dictionary.indices, "unk_token": dictionary.unk_word}
    return _pipeline(dictionary, longest, model, [_split({"Regex": f"{_SPACE}+"}, "Removed")], ends)


def gpt2_tokenizer(dictionary: Dictionary, longest: int, folder: str, ends: Ends = AROUND) -> dict[str, bytes]:
    """RoBERTa's own tokenizer: the byte-level BPE of GPT-2, whose numbers of pieces are the dictionary's symbols.

    Args:
        dictionary: see :func:`word_tokenizer`.
        longest: likewise.
        folder: has the BPE's ``encoder.json`` and ``vocab.bpe``.
        ends: see :func:`word_tokenizer`.

    Raises:
        ExportError: a file is missing or broken, the dictionary hasn't got all pieces that texts can be cut into, or
            the merges don't make a piece.
    """
    files = [os.path.join(folder, name) for name in ("encoder.json", "vocab.bpe")]
    try:
        with open(files[0], encoding="utf-8") as file:
            numbers = {str(number): piece for piece, number in json.load(file).items()}
        with open(files[1], encoding="utf-8") as file:
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
    bpe = get_encoder(*files).bpe
    unmade = next((piece for piece in sorted(pieces) if bpe(piece) != piece), None)
    if unmade is not None:  # by no training, which finds a piece by the merges before it
        raise ExportError(f"the merges in '{folder}' don't make the piece '{unmade}', as those of a trained BPE do")
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "ignore_merges": True,  # a mask is a piece without merges; all others are what their merges make
        "vocab": vocabulary,
        "merges": merges,
    }
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    mask = "<mask>|" if "<mask>" in dictionary.indices else ""
    words = _split({"Regex": mask + _GPT2_WORDS}, "Isolated")
    return _pipeline(dictionary, longest, model, [words, by_bytes], ends, by_bytes)


def _sentencepiece_model(dictionary: Dictionary, path: str) -> bytes:
    """The content of a SentencePiece model, checked against the dictionary."""
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
    return content


def sentencepiece_tokenizer(dictionary: Dictionary, longest: int, path: str) -> dict[str, bytes]:
    """A tokenizer that cuts text with SentencePiece itself and looks the pieces up in the dictionary.

    This is transformers' BartphoTokenizer, which does exactly what fairseq does. The rules of a SentencePiece model
    can't be written as a ``tokenizer.json`` without differences in some texts. It looks for all symbols in texts, or
    for none, so that all but ``<mask>`` have names that no text has, which begin with U+FDD0.

    Args:
        dictionary: see :func:`word_tokenizer`.
        longest: likewise.
        path: of the SentencePiece model.

    Raises:
        ExportError: it can't be read, or it isn't the one that the dictionary's symbols come from.
    """
    content = _sentencepiece_model(dictionary, path)
    listed = io.StringIO()
    dictionary.save(listed)
    names = {role: f"{_NOT_IN_TEXTS}{symbol}" for role, symbol in _SYMBOLS.items()}
    return {
        **_settings("BartphoTokenizer", longest, names),
        "sentencepiece.bpe.model": content,
        "dict.txt": listed.getvalue().encode(),
    }


def translation_tokenizer(source: Dictionary, target: Dictionary, longest: int, path: str) -> dict[str, bytes]:
    """A tokenizer of translations that cuts text with SentencePiece itself, one for both sides.

    This is transformers' MarianTokenizer. Its symbols have names that no text has; see :func:`sentencepiece_tokenizer`.

    Args:
        source: fairseq's dictionary.
        target: likewise.
        longest: see :func:`word_tokenizer`.
        path: of the SentencePiece model.

    Raises:
        ExportError: it can't be read, or it isn't the one that the dictionaries' symbols come from.
    """
    content = _sentencepiece_model(source, path)
    _sentencepiece_model(target, path)
    names = {role: f"{_NOT_IN_TEXTS}{_SYMBOLS[role]}" for role in ("eos_token", "unk_token", "pad_token")}
    special = {_SYMBOLS[role]: name for role, name in names.items()}
    vocabularies = [
        as_json({special.get(symbol, symbol): index for symbol, index in dictionary.indices.items()})
        for dictionary in (source, target)
    ]
    separate = source.symbols != target.symbols
    return {
        **_settings("MarianTokenizer", longest, names, (None, "</s>"), masks=False, separate_vocabs=separate),
        "source.spm": content,
        "target.spm": content,
        "vocab.json": vocabularies[0],
        **({"target_vocab.json": vocabularies[1]} if separate else {}),
    }
