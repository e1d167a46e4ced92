"""ROUGE (Lin 2004): of summaries by Google's rouge-score, of ELI5's answers by the package that its authors used."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from statistics import fmean

from nltk.stem.porter import PorterStemmer
from rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from .sentences import in_sentences
from .texts import unicode_words


def _mean_f1(
    scorer: RougeScorer, names: Sequence[str], hypotheses: list[str], references: list[str]
) -> dict[str, float]:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    scores = [scorer.score(reference, hypothesis) for hypothesis, reference in zip(hypotheses, references)]
    return {name: 100 * fmean(score[name].fmeasure for score in scores) for name in names}


class _UnicodeTokenizer(Tokenizer):  # type: ignore[misc]
    def tokenize(self, text: str) -> list[str]:
        return unicode_words(text)


# rouge-score's own tokenizer, with its stemmer, is for English.
_TOKENIZERS = {"english": None, "unicode": _UnicodeTokenizer()}


def summary_rouge(hypotheses: list[str], references: list[str], tokenizer: str = "english") -> dict[str, float]:
    """ROUGE of summaries as they are told for CNN/DailyMail: F1 in percent.

    ``rougeLsum`` is the summary-level ROUGE-L, over sentences (see :func:`~.sentences.in_sentences`); ``rougeL`` takes
    a summary as one sentence.

    Args:
        hypotheses: one a line.
        references: one a line, in the same order.
        tokenizer: ``english``, rouge-score's own words of a to z and 0 to 9, with Porter stems; or ``unicode``, the
            words of any script as they are (see :func:`~.texts.unicode_words`).

    Raises:
        ValueError: hypotheses and references differ in number.
    """
    names = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    scorer = RougeScorer(names, use_stemmer=True, tokenizer=_TOKENIZERS[tokenizer])
    hypotheses, references = ([in_sentences(text) for text in texts] for texts in (hypotheses, references))
    return _mean_f1(scorer, names, hypotheses, references)


# Names of the `rouge` package's metrics in ours.
_ANSWER_NAMES = {"rouge1": "rouge-1", "rouge2": "rouge-2", "rougeL": "rouge-l"}


@contextlib.contextmanager
def _recursion(limit: int) -> Iterator[None]:
    """`rouge` walks back along the longest common subsequence by recursion, a call a word."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def answer_rouge(hypotheses: list[str], references: list[str]) -> dict[str, float]:
    """ROUGE of answers as ELI5's authors compute it (Fan et al. 2019), mean F in percent.

    That is the package `rouge`, not `rouge-score`, over Porter-stemmed words between spaces: it counts distinct
    n-grams, and its ROUGE-L goes over sentences, which it ends at full stops. The version is that of the paper's time;
    later ones count otherwise. An empty hypothesis or reference, which the package refuses, scores 0.

    Raises:
        ValueError: hypotheses and references differ in number.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    stem, scorer = PorterStemmer().stem, Rouge()
    totals = dict.fromkeys(_ANSWER_NAMES, 0.0)
    for pair in zip(hypotheses, references):
        hypothesis, reference = (" ".join(stem(word) for word in text.split()) for text in pair)
        if not hypothesis.replace(".", "").strip() or not reference.replace(".", "").strip():
            continue
        with _recursion(2 * (len(hypothesis.split()) + len(reference.split())) + 1000):
            [scores] = scorer.get_scores(hypothesis, reference)
        for ours, theirs in _ANSWER_NAMES.items():
            totals[ours] += 100 * scores[theirs]["f"]
    return {name: total / len(references) for name, total in totals.items()}
