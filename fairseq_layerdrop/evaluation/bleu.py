"""BLEU."""

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
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    metric = sacrebleu.metrics.BLEU()
    score = metric.corpus_score(hypotheses, [references]).score
    return Bleu(score, str(metric.get_signature()))
