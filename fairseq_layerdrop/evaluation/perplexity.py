"""Perplexity, from what fairseq-eval-lm printed."""

import re
from dataclasses import dataclass
from pathlib import Path

from .generation_log import LogError

_EVALUATED = re.compile(r"Evaluated ([\d,]+) tokens in")
_LOSS = re.compile(r"Loss \(base 2\): ([\d.]+)")


@dataclass(frozen=True)
class Perplexity:
    """How well a language model foretells a text.

    Attributes:
        bits_per_token: cross-entropy in base 2, by token of the model.
        tokens: number of tokens scored.
        words: number of words that these tokens spell, line ends included; None where it isn't known.
    """

    bits_per_token: float
    tokens: int
    words: int | None = None

    @property
    def by_token(self) -> float:
        return 2**self.bits_per_token

    @property
    def by_word(self) -> float | None:
        """The same bits shared out over words: comparable between models with other subwords."""
        return None if self.words is None else 2 ** (self.bits_per_token * self.tokens / self.words)


def read_eval_lm_log(path, words: int | None = None) -> Perplexity:
    """Read a file with the output of fairseq-eval-lm.

    Raises:
        LogError: the file is missing or the run didn't finish.
    """
    path = Path(path)
    if not path.is_file():
        raise LogError(f"no such log: {path}")
    text = path.read_text(encoding="utf-8", errors="replace")
    loss, tokens = _LOSS.search(text), _EVALUATED.search(text)
    if not loss or not tokens:
        raise LogError(f"{path} is no log of a finished fairseq-eval-lm")
    return Perplexity(float(loss[1]), int(tokens[1].replace(",", "")), words)
