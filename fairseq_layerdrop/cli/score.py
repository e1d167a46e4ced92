"""``fairseq-layerdrop score``."""

import json
from pathlib import Path

from ..base.errors import UserError
from ..evaluation import PERPLEXITY, TEXT_METRICS, add_text_arguments, metric_of
from ..evaluation.score import score_generation, score_language_model, score_texts


def add_arguments(parser) -> None:
    parser.add_argument(
        "log", metavar="LOG", nargs="?",
        help="what fairseq-generate or fairseq-eval-lm printed, or the generate-….txt of --results-path",
    )  # fmt: skip
    parser.add_argument("--hypotheses", metavar="FILE", help="in place of LOG: hypotheses, one a line")
    parser.add_argument("--references", metavar="FILE", help="references, one a line; default: those in LOG")
    parser.add_argument(
        "--metric", choices=[*TEXT_METRICS, PERPLEXITY], default="sacrebleu",
        help="sacrebleu (detokenised; the default), bleu (tokenised), compound-bleu (tokenised, with compounds split), "
        "rouge (as for CNN/DailyMail; <q> or a line feed between sentences), rouge-eli5, or perplexity",
    )  # fmt: skip
    add_text_arguments(parser)
    parser.add_argument("--words", type=int, metavar="N", help="number of words in the text, for perplexity by word")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _lines(path: str) -> list[str]:
    try:
        lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8") from error
    return lines[:-1] if lines[-1] == "" else lines


def _perplexity(args) -> dict[str, float | int | str]:
    if args.references is not None or args.hypotheses is not None:
        raise UserError("--metric perplexity takes the LOG of fairseq-eval-lm alone")
    if args.log is None:
        raise UserError("--metric perplexity wants the LOG of fairseq-eval-lm")
    read = score_language_model(args.log, args.words)
    by_word = {} if args.words is None else {"words": args.words, "perplexity by word": read.by_word}
    return {
        "bits by token": read.bits_per_token,
        "tokens": read.tokens,
        "perplexity by token": read.by_token,
        **by_word,
    }


def _scores(args) -> dict[str, float | int | str]:
    metric = metric_of(args)
    if args.metric == PERPLEXITY:
        return _perplexity(args)
    if args.words is not None:
        raise UserError(f"--words is for --metric perplexity, not {args.metric}")
    if (args.log is None) == (args.hypotheses is None):
        raise UserError("give either LOG or --hypotheses")
    if args.hypotheses is not None and args.references is None:
        raise UserError("--hypotheses wants --references")
    if args.log is None:
        scores = score_texts(_lines(args.hypotheses), _lines(args.references), metric)
    else:
        scores = score_generation(args.log, metric, None if args.references is None else _lines(args.references))
    return {**scores.values, "signature": scores.signature}


def run(args) -> None:
    scores = _scores(args)
    if args.json:
        print(json.dumps({"metric": args.metric, **scores}, indent=1))
        return
    width = max(map(len, scores)) + 2
    for name, value in scores.items():
        shown = {float: ".2f", int: ","}.get(type(value), "")
        print(f"{name:{width}}{value:{shown}}")
