"""Scores of texts and of fairseq's logs."""

from collections.abc import Sequence

from ..base.errors import UserError
from ..base.files import StrPath
from .logs import read_eval_lm_log, read_generation_log
from .metrics import TEXT_METRICS, Metric, Scores
from .perplexity import Perplexity
from .texts import joined


def score_texts(hypotheses: Sequence[str], references: Sequence[str], metric: Metric) -> Scores:
    """Score texts, one a line, after joining their subwords where the metric says how.

    Raises:
        UserError: there are none, they differ in number, or they aren't what the metric is for.
    """
    if len(hypotheses) != len(references):
        raise UserError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    if not hypotheses:
        raise UserError("there is nothing to score")
    return metric.scores(*joined([list(hypotheses), list(references)], metric.remove_bpe))


def score_generation(log: StrPath, metric: Metric, references: Sequence[str] | None = None) -> Scores:
    """Score what fairseq-generate printed, or wrote to its ``--results-path``.

    Args:
        log: the file.
        metric: one over texts.
        references: one a line; by default those in the log.

    Raises:
        UserError: the log isn't whole, has no references, or isn't what the metric is for.
    """
    read = read_generation_log(log)
    if references is None and not read.references:
        raise UserError(f"{log} has no references; give them with --references")
    hypotheses = read.tokenised if TEXT_METRICS[metric.name] else read.hypotheses
    return score_texts(hypotheses, read.references if references is None else references, metric)


def score_language_model(log: StrPath, words: int | None = None) -> Perplexity:
    """Perplexity of what fairseq-eval-lm printed.

    Args:
        log: the file.
        words: number of words in the text, for perplexity by word.

    Raises:
        UserError: the log isn't whole, or *words* isn't a number of words.
    """
    if words is not None and words < 1:
        raise UserError(f"--words must be at least 1, not {words}")
    read = read_eval_lm_log(log)
    return Perplexity(read.bits_per_token, read.tokens, words)


def score(
    hypotheses: Sequence[str], references: Sequence[str], metric: str = "sacrebleu", remove_bpe: str | None = None,
    tokenize: str | None = None, tokenizer: str | None = None,
) -> Scores:  # fmt: skip
    """Score texts, one a line.

    >>> score(["the bridge fell on monday"], ["the bridge fell on monday"], "bleu").values
    {'BLEU': 100.0}

    Args:
        hypotheses: what a model gave.
        references: what is right, in the same order.
        metric: one of :data:`~fairseq_layerdrop.evaluation.TEXT_METRICS`.
        remove_bpe: how to join subwords, as fairseq-generate takes it; ``none`` scores them as they are.
        tokenize: sacreBLEU's tokenizer; 13a by default.
        tokenizer: that of ROUGE; one of :data:`~fairseq_layerdrop.evaluation.ROUGE_TOKENIZERS`.

    Raises:
        UserError: an argument is wrong, or the texts aren't what the metric is for.
    """
    if metric not in TEXT_METRICS:
        raise UserError(f"unknown metric '{metric}'; the metrics of texts are {', '.join(TEXT_METRICS)}")
    return score_texts(hypotheses, references, Metric(metric, tokenize, tokenizer, remove_bpe))
