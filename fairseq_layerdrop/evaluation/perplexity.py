"""Perplexity."""

from dataclasses import dataclass


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
