"""Scores by the names that ``fairseq-layerdrop score`` and the tables use."""

from dataclasses import dataclass
from importlib.metadata import version

from .bleu import detokenised_bleu, tokenised_bleu

# Metric -> whether it is over tokenised text.
TEXT_METRICS = {"sacrebleu": False, "bleu": True, "compound-bleu": True, "rouge": False, "rouge-eli5": False}
PERPLEXITY = "perplexity"
MASKED_LM = "masked-lm"


@dataclass(frozen=True)
class Scores:
    """What a metric says.

    Attributes:
        values: score by name, the one to compare by first.
        signature: how it was computed.
    """

    values: dict[str, float]
    signature: str


def text_scores(metric: str, hypotheses: list[str], references: list[str]) -> Scores:
    """Score texts, a line each, by a metric of :data:`TEXT_METRICS`.

    Raises:
        ValueError: hypotheses and references differ in number.
    """
    if metric.startswith("rouge"):
        from .rouge import answer_rouge, summary_rouge  # loads nltk

        if metric == "rouge":
            return Scores(summary_rouge(hypotheses, references), "rouge-score, F1, Porter stems")
        return Scores(
            answer_rouge(hypotheses, references),
            f"rouge {version('rouge')}, mean F, Porter stems of words between spaces",
        )
    if metric == "sacrebleu":
        bleu = detokenised_bleu(hypotheses, references)
    else:
        bleu = tokenised_bleu(hypotheses, references, split_compounds=metric == "compound-bleu")
    return Scores({"BLEU": bleu.score}, bleu.signature)
