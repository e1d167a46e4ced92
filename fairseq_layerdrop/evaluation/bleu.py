"""BLEU."""

import functools
import re
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU

from ..base.errors import UserError

# The names of sacreBLEU's tokenizers.
TOKENIZERS = tuple(BLEU.TOKENIZERS)


@dataclass(frozen=True)
class Bleu:
    """A sacreBLEU score.

    Attributes:
        score: BLEU in percent.
        signature: sacreBLEU's signature, which names all that the score depends on.
    """

    score: float
    signature: str


@functools.cache
def sacrebleu_metric(tokenize: str | None = None) -> BLEU:
    """sacreBLEU's BLEU with one of its tokenizers, by default 13a.

    Raises:
        UserError: what the tokenizer needs isn't there.
    """
    try:
        return BLEU(tokenize=tokenize)
    except (ImportError, RuntimeError, OSError) as error:  # a package isn't installed, or a model can't be fetched
        reason = " ".join(str(error).split())
        raise UserError(f"sacreBLEU's tokenizer {tokenize} can't be had: {reason}") from error


def detokenised_bleu(hypotheses: list[str], references: list[str], tokenize: str | None = None) -> Bleu:
    """Corpus BLEU of detokenised *hypotheses* against one reference each, as sacreBLEU (Post 2018) computes it.

    Args:
        hypotheses: one a sentence.
        references: one a sentence, in the same order.
        tokenize: one of :data:`TOKENIZERS`; by default sacreBLEU's own, 13a.

    Raises:
        UserError: what the tokenizer needs isn't there.
        ValueError: the two differ in number.
    """
    return _bleu(sacrebleu_metric(tokenize), hypotheses, references)


def tokenised_bleu(hypotheses: list[str], references: list[str], split_compounds: bool = False) -> Bleu:
    """Corpus BLEU of text that is tokenised already, with tokens between spaces, as multi-bleu and fairseq-score do it.

    Args:
        hypotheses: one a sentence.
        references: one a sentence, in the same order.
        split_compounds: count the parts of hyphenated words as tokens, with which WMT English-German scores are told
            since Vaswani et al. (2017).

    Raises:
        ValueError: the two differ in number.
    """
    if split_compounds:
        hypotheses, references = ([_split_compounds(line) for line in lines] for lines in (hypotheses, references))
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    return _bleu(metric, hypotheses, references)


def _split_compounds(line: str) -> str:
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", line)


def _bleu(metric: BLEU, hypotheses: list[str], references: list[str]) -> Bleu:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    score = metric.corpus_score(hypotheses, [references]).score
    return Bleu(score, str(metric.get_signature()))
