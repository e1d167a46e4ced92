"""Scores by the names that ``fairseq-layerdrop score`` and the tables use."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from ..base.errors import UserError
from .bleu import TOKENIZERS, detokenised_bleu, sacrebleu_metric, tokenised_bleu
from .texts import REMOVE_BPE, check_joined, check_latin

# Metric -> whether it is over tokenised text.
TEXT_METRICS = {"sacrebleu": False, "bleu": True, "compound-bleu": True, "rouge": False, "rouge-eli5": False}
PERPLEXITY = "perplexity"
MASKED_LM = "masked-lm"

# What is a word for ROUGE of summaries; see :func:`.rouge.summary_rouge`.
ROUGE_TOKENIZERS = ("english", "unicode")


def add_word_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what a word is."""
    parser.add_argument(
        "--tokenize", choices=TOKENIZERS, metavar="NAME",
        help=f"of sacrebleu: its tokenizer, {', '.join(TOKENIZERS)} (default: 13a)",
    )  # fmt: skip
    parser.add_argument(
        "--tokenizer", choices=ROUGE_TOKENIZERS,
        help="of rouge: english, which knows a to z and 0 to 9 alone, and stems (the default, for texts in which few "
        "words have other letters), or unicode, for the words of any script, without stems",
    )  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """What a metric says.

    Attributes:
        values: score by name, the one to compare by first.
        signature: how it was computed.
    """

    values: dict[str, float]
    signature: str


@dataclass(frozen=True)
class Metric:
    """What to score by.

    Attributes:
        name: one of :data:`TEXT_METRICS`, or what isn't over texts.
        tokenize: sacreBLEU's tokenizer; by default its own.
        tokenizer: one of :data:`ROUGE_TOKENIZERS` for summaries; by default english, where the text is.
        remove_bpe: how subwords were joined; ``none`` lets them pass.

    Raises:
        UserError: a tokenizer is for another metric, or what it needs isn't there.
    """

    name: str
    tokenize: str | None = None
    tokenizer: str | None = None
    remove_bpe: str | None = None

    def __post_init__(self) -> None:
        for flag, given, metric in (
            ("tokenize", self.tokenize, "sacrebleu"), ("tokenizer", self.tokenizer, "rouge"),
        ):  # fmt: skip
            if given is not None and self.name != metric:
                raise UserError(f"--{flag} is for {metric}, not for {self.name}")
        if self.tokenize:
            sacrebleu_metric(self.tokenize)

    def check(self, lines: Sequence[str]) -> None:
        """Refuse texts that this metric gives wrong numbers for.

        Raises:
            UserError: *lines* are subwords, or ROUGE doesn't know their letters.
        """
        if self.remove_bpe != "none":
            check_joined(lines)
        if self.name == "rouge" and self.tokenizer is None:
            check_latin(lines)

    def rouge(self, hypotheses: list[str], references: list[str]) -> dict[str, float]:
        """The scores of a metric of ROUGE, of texts that aren't checked.

        Raises:
            ValueError: hypotheses and references differ in number.
        """
        from .rouge import answer_rouge, summary_rouge  # loads nltk

        if self.name == "rouge-eli5":
            return answer_rouge(hypotheses, references)
        return summary_rouge(hypotheses, references, self.tokenizer or "english")

    def scores(self, hypotheses: list[str], references: list[str]) -> Scores:
        """Score texts, a line each, by a metric that is over texts.

        Raises:
            UserError: the texts aren't what this metric is for.
            ValueError: hypotheses and references differ in number.
        """
        for lines in (references, hypotheses):
            self.check(lines)
        if self.name == "rouge-eli5":
            how = f"rouge {version('rouge')}, mean F, Porter stems of words between spaces"
            return Scores(self.rouge(hypotheses, references), how)
        if self.name == "rouge":
            unicode = self.tokenizer == "unicode"
            words = "words between Unicode's boundaries, without stems" if unicode else "Porter stems"
            return Scores(self.rouge(hypotheses, references), f"rouge-score, F1, {words}")
        if self.name == "sacrebleu":
            bleu = detokenised_bleu(hypotheses, references, self.tokenize)
        else:
            bleu = tokenised_bleu(hypotheses, references, split_compounds=self.name == "compound-bleu")
        return Scores({"BLEU": bleu.score}, bleu.signature)


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags for :func:`metric_of`, beside ``--metric``."""
    parser.add_argument(
        "--remove-bpe", choices=REMOVE_BPE,
        help="join subwords that fairseq-generate was not told to join; none scores them as they are",
    )  # fmt: skip
    add_word_arguments(parser)


def metric_of(args: argparse.Namespace) -> Metric:
    """The metric that a command line asks for.

    Raises:
        UserError: a flag is for another metric.
    """
    if args.remove_bpe is not None and args.metric not in TEXT_METRICS:
        raise UserError(f"--remove-bpe is for {', '.join(TEXT_METRICS)}, not for {args.metric}")
    return Metric(args.metric, args.tokenize, args.tokenizer, args.remove_bpe)
