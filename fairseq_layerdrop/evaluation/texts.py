"""What texts are made of: subwords that nobody joined, letters, words."""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

import regex

from ..base.errors import UserError

# Values of --remove-bpe, and what the subwords that each joins look like: SentencePiece begins words with a block (in
# drawings other blocks follow it), and subword-nmt ends what isn't the end of a word with @@.
_MARKS = {"sentencepiece": re.compile(r"(?:^|\s)▁(?![▁-█])"), "subword_nmt": re.compile(r"\S@@(?:\s|$)")}
# What other subwords look like, by what joins them, and the share of a text's pieces that do. The letter Ġ and numbers
# are found in texts too.
_OTHERS = {
    "--bpe gpt2, or the tokenizer of Hugging Face": (re.compile(r"Ġ\S*"), 0.3),
    "--bpe gpt2": (re.compile(r"\d+"), 0.99),
    "its tokenizer (WordPiece)": (re.compile(r"##\w+"), 0.03),
    "OpenNMT's tokenizer": (re.compile(r"￭\S*|\S*￭"), 0.03),
}
# All ways to join subwords that take what stands between them for part of a word, and what begins a word then.
_BEGINNINGS = {"sentencepiece": "▁", "wordpiece": "_", "letter": "|"}
REMOVE_BPE = (*_MARKS, "@@ ", "none")

# The share of lines with such marks, and of letters beyond a to z, from which on they are no exceptions. CNN/DailyMail
# has 0.003% of the latter, one of its articles 0.3%, and German 2%.
_MARKED = 0.01
_DIGITS = 10  # so many different pieces are numbers in a text of numbers
_FOREIGN = 0.01


def subwords_of(lines: Sequence[str]) -> str | None:
    """What joins the subwords that *lines* consist of, as ``--remove-bpe`` names it; None where they are words."""
    for how, mark in _MARKS.items():
        marked = sum(mark.search(line) is not None for line in lines)
        if marked and marked >= _MARKED * len(lines):
            return how
    return None


def joins(symbols: Sequence[str]) -> str | None:
    """What joins the subwords of a dictionary with these *symbols*, as ``--remove-bpe`` names it; None for words.

    A twentieth of the symbols are enough: they begin words as SentencePiece's, or don't end them as subword-nmt's.
    """
    for how, is_piece in {"sentencepiece": r"▁(?![▁-█])", "subword_nmt": r".+@@$"}.items():
        if sum(re.match(is_piece, symbol) is not None for symbol in symbols) > len(symbols) / 20:
            return how
    return None


def check_joined(lines: Sequence[str]) -> None:
    """Refuse subwords.

    Raises:
        UserError: *lines* consist of them.
    """
    pieces = [piece for line in lines for piece in line.split()]
    for tool, (pattern, share) in _OTHERS.items():
        marked = [piece for piece in pieces if pattern.fullmatch(piece)]
        if len(marked) > share * len(pieces) and len(set(marked)) > _DIGITS:
            raise UserError(
                f"these are subwords, not words, and would score otherwise, as '{marked[0]}'; join them with {tool}, "
                "or give --remove-bpe none to score them as they are"
            )
    how = subwords_of(lines)
    if how:
        example = next(filter(_MARKS[how].search, lines))
        raise UserError(
            f"these are subwords, not words, and would score otherwise: '{textwrap.shorten(example, 60)}'; "
            f"give --remove-bpe {how}, or none to score them as they are"
        )


def check_joinable(symbols: Iterable[str], remove_bpe: str | None) -> None:
    """Refuse to join what are words already: it would make one word of a sentence.

    Args:
        symbols: of a dictionary.
        remove_bpe: as fairseq takes it.

    Raises:
        UserError: no symbol begins a word as it must for that.
    """
    beginning = _BEGINNINGS.get(remove_bpe or "none")
    if beginning and not any(beginning in symbol for symbol in symbols):
        raise UserError(f"the dictionary has no subwords that {remove_bpe} joins; say what does, or none")


def joined(texts: Sequence[list[str]], remove_bpe: str | None) -> list[list[str]]:
    """Several *texts*, those that consist of subwords joined as fairseq does it.

    Raises:
        UserError: none of them has subwords that *remove_bpe* joins.
    """
    if remove_bpe in (None, "none"):
        return list(texts)
    from fairseq.data.data_utils import post_process

    how = "subword_nmt" if remove_bpe == "@@ " else remove_bpe
    found = [subwords_of(lines) == how for lines in texts]
    if not any(found):
        raise UserError(f"--remove-bpe {remove_bpe}: there are no such subwords to join; leave it out")
    # Words stay words without their @@, but not without the spaces between them.
    return [
        [post_process(line, how) for line in lines] if here or how == "subword_nmt" else lines
        for here, lines in zip(found, texts)
    ]


def check_latin(lines: Iterable[str]) -> None:
    """Refuse a text of which letters and digits other than a-z and 0-9, to rouge-score spaces, are a fair share.

    Raises:
        UserError: *lines* are such a text.
    """
    text = "\n".join(lines)
    example = re.search(r"\w*[^\W_a-zA-Z0-9]\w*", text)
    letters, foreign = (len(re.findall(pattern, text)) for pattern in (r"[^\W_]", r"[^\W_a-zA-Z0-9]"))
    if example and foreign >= _FOREIGN * letters:
        raise UserError(
            f"rouge-score knows only a to z and 0 to 9, and {100 * foreign / letters:.0f}% of these are others, as in "
            f"'{example[0]}'; give --tokenizer unicode, or english if words may be cut there"
        )


def unicode_words(text: str) -> list[str]:
    """The words of a text in any script, without case and punctuation, between Unicode's word boundaries (UAX #29).

    Where a script puts no spaces between words, as Chinese and Thai, each character is one.
    """
    parts = regex.split(r"(?wV1)\b", unicodedata.normalize("NFC", text.casefold()))
    return [part for part in parts if regex.search(r"[\p{L}\p{N}]", part)]
