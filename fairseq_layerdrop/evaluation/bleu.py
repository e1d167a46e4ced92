"""BLEU."""

import re
from dataclasses import dataclass

import sacrebleu


@dataclass(frozen=True)
class Bleu:
    """A sacreBLEU score.

    Attributes:
        score: BLEU in percent.
        signature: sacreBLEU's signature, which names all that the score depends on.
    """

    score: float
    signature: str


def detokenised_bleu(hypotheses: list[str], references: list[str]) -> Bleu:
    """Corpus BLEU of detokenised *hypotheses* against one reference each, as sacreBLEU (Post 2018) computes it.

    Raises:
        ValueError: the two differ in number.
    """
    return _bleu(sacrebleu.metrics.BLEU(), hypotheses, references)


def tokenised_bleu(hypotheses: list[str], references: list[str], split_compounds: bool = False) -> Bleu:
    """Corpus BLEU of text that is tokenised already, with tokens between spaces, as multi-bleu and fairseq-score do it.

    Args:
        hypotheses: one a sentence.
        references: likewise.
        split_compounds: count the parts of hyphenated words as tokens, with which WMT English-German scores are told
            since Vaswani et al. (2017).

    Raises:
        ValueError: the two differ in number.
    """
    if split_compounds:
        hypotheses, references = ([_split_compounds(line) for line in lines] for lines in (hypotheses, references))
    metric = sacrebleu.metrics.BLEU(tokenize="none", smooth_method="none", force=True)
    return _bleu(metric, hypotheses, references)


def _split_compounds(line: str) -> str:
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", line)


def _bleu(metric, hypotheses: list[str], references: list[str]) -> Bleu:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    score = metric.corpus_score(hypotheses, [references]).score
    return Bleu(score, str(metric.get_signature()))
