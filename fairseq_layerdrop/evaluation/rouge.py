"""ROUGE (Lin 2004), by Google's rouge-score."""

import functools
from collections.abc import Sequence
from statistics import fmean

import pysbd
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer

# Between the sentences of a summary that is written in one line.
SENTENCE_END = "<q>"


def _mean_f1(
    scorer: RougeScorer, names: Sequence[str], hypotheses: list[str], references: list[str]
) -> dict[str, float]:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    scores = [scorer.score(reference, hypothesis) for hypothesis, reference in zip(hypotheses, references)]
    return {name: 100 * fmean(score[name].fmeasure for score in scores) for name in names}


@functools.cache
def _segmenter() -> pysbd.Segmenter:
    return pysbd.Segmenter(language="en", clean=False)


def in_sentences(text: str) -> str:
    """*text* with a line for each sentence.

    Sentences end where the text says so (``<q>`` or a line feed); a text that doesn't say is English and is split by
    pySBD.
    """
    text = text.replace(SENTENCE_END, "\n")
    sentences = text.split("\n") if "\n" in text else _segmenter().segment(text)
    return "\n".join(filter(None, (sentence.strip() for sentence in sentences)))


def summary_rouge(hypotheses: list[str], references: list[str]) -> dict[str, float]:
    """ROUGE of summaries as they are told for CNN/DailyMail: F1 in percent, with Porter stems.

    ``rougeLsum`` is the summary-level ROUGE-L, over sentences (see :func:`in_sentences`); ``rougeL`` takes a summary as
    one sentence.

    Raises:
        ValueError: hypotheses and references differ in number.
    """
    names = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    scorer = RougeScorer(names, use_stemmer=True)
    hypotheses, references = ([in_sentences(text) for text in texts] for texts in (hypotheses, references))
    return _mean_f1(scorer, names, hypotheses, references)


class _StemmedWords:
    """Words between spaces, stemmed: how ELI5 counts."""

    def __init__(self):
        self.stemmer = PorterStemmer()

    def tokenize(self, text: str) -> list[str]:
        return [self.stemmer.stem(word) for word in text.split()]


def answer_rouge(hypotheses: list[str], references: list[str]) -> dict[str, float]:
    """ROUGE of answers as in ELI5 (Fan et al. 2019): F1 in percent over Porter-stemmed words between spaces.

    Raises:
        ValueError: hypotheses and references differ in number.
    """
    names = ("rouge1", "rouge2", "rougeL")
    return _mean_f1(RougeScorer(names, tokenizer=_StemmedWords()), names, hypotheses, references)
