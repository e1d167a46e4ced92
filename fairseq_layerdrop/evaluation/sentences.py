"""Sentences of a text, in time that grows with its length whatever is in it."""

import functools
import re
from collections.abc import Iterator
from itertools import islice

import pysbd
from pysbd.lang.english import English

# Between the sentences of a summary that is written in one line.
SENTENCE_END = "<q>"

# pySBD's time grows with the square of a text's length, and with the cube of its number of list items. It gets pieces
# with no more than so many characters, and so many of what it could take for an item.
LENGTH = 12_000
ITEMS = 50
_ITEM = re.compile(r"\d[.)]|(?:^|[\s(])[a-z]{1,5}\)|(?:^|\s)[a-z]\.|[♨☝]")
_ENDS = re.compile(r"[a-z]{3}[.!?]\W*?\s(?=\W?[A-Z])")


class _English(English):  # type: ignore[misc]
    """pySBD's rules for English."""

    # pySBD's own matches the same, in several ways: it can take exponential time to find that a text doesn't match.
    _NUMBERS = r"(?:\d+(?:,?\s?-\s?|,\s{0,2}|\s{1,2}))*\d{1,3}"
    NUMBERED_REFERENCE_REGEX = rf"(?<=[^\d\s])(\.|∯)((\[({_NUMBERS})\])+|((\d{{1,3}}\s?)?\d{{1,3}}))(\s)(?=[A-Z])"


@functools.cache
def _segmenter() -> pysbd.Segmenter:
    segmenter = pysbd.Segmenter(language="en", clean=False)
    segmenter.language_module = _English
    return segmenter


def pieces(text: str) -> Iterator[str]:
    """*text* in pieces of at most :data:`LENGTH` characters and :data:`ITEMS` list items.

    Each ends where a sentence surely ends, else at a space, else anywhere. What is within the bounds is one piece.
    """
    start = 0
    while start < len(text):
        end = min(start + LENGTH, len(text))
        beyond = next(islice(_ITEM.finditer(text, start, end), ITEMS, None), None)
        if beyond:
            end = beyond.start()
        if end < len(text):
            sentences = max((match.end() for match in _ENDS.finditer(text, start, end)), default=0)
            end = sentences or text.rfind(" ", start, end) + 1 or end
        yield text[start:end]
        start = end


def in_sentences(text: str) -> str:
    """*text* with a line for each sentence.

    Sentences end where the text says so (``<q>`` or a line feed); a text that doesn't say is split by pySBD's rules for
    English.
    """
    text = text.replace(SENTENCE_END, "\n")
    sentences = text.split("\n")
    if len(sentences) == 1:
        # a carriage return ends a sentence for pySBD too
        parts = [piece for line in text.split("\r") for piece in pieces(line)]
        sentences = [sentence for part in parts for sentence in _segmenter().segment(part)]
    return "\n".join(filter(None, (sentence.strip() for sentence in sentences)))
