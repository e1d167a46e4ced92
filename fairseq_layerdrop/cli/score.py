"""``fairseq-layerdrop score``."""

import json
from pathlib import Path

from ..evaluation import detokenised_bleu, read_eval_lm_log, read_generation_log, tokenised_bleu
from ..plan import UserError

HELP = "BLEU, ROUGE or perplexity of what fairseq-generate or fairseq-eval-lm printed, or of text files"
# Metric -> whether it is over tokenised text.
METRICS = {
    "sacrebleu": False,
    "bleu": True,
    "compound-bleu": True,
    "rouge": False,
    "rouge-eli5": False,
    "perplexity": None,
}


def add_arguments(parser) -> None:
    parser.add_argument("log", metavar="LOG", nargs="?", help="output of fairseq-generate or fairseq-eval-lm")
    parser.add_argument("--hypotheses", metavar="FILE", help="in place of LOG: hypotheses, one a line")
    parser.add_argument("--references", metavar="FILE", help="references, one a line; default: those in LOG")
    parser.add_argument(
        "--metric", choices=METRICS, default="sacrebleu",
        help="sacrebleu (detokenised; the default), bleu (tokenised), compound-bleu (tokenised, with compounds split), "
        "rouge (as for CNN/DailyMail; <q> or a line feed between sentences), rouge-eli5, or perplexity",
    )  # fmt: skip
    parser.add_argument("--words", type=int, metavar="N", help="number of words in the text, for perplexity by word")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _lines(path: str) -> list[str]:
    try:
        lines = Path(path).read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8") from error
    return lines[:-1] if lines[-1] == "" else lines


def _texts(args) -> tuple[list[str], list[str]]:
    """Hypotheses and references."""
    if (args.log is None) == (args.hypotheses is None):
        raise UserError("give either LOG or --hypotheses")
    if args.log is not None:
        log = read_generation_log(args.log)
        hypotheses, references = (log.tokenised if METRICS[args.metric] else log.hypotheses), log.references
        if not references and args.references is None:
            raise UserError(f"{args.log} has no references; give them with --references")
    else:
        hypotheses, references = _lines(args.hypotheses), []
        if args.references is None:
            raise UserError("--hypotheses wants --references")
    if args.references is not None:
        references = _lines(args.references)
    if len(hypotheses) != len(references):
        raise UserError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    return hypotheses, references


def _scores(args) -> dict[str, float | int | str]:
    if args.metric == "perplexity":
        if args.log is None:
            raise UserError("--metric perplexity wants the LOG of fairseq-eval-lm")
        read = read_eval_lm_log(args.log, args.words)
        by_word = {} if args.words is None else {"words": args.words, "perplexity by word": read.by_word}
        return {
            "bits by token": read.bits_per_token,
            "tokens": read.tokens,
            "perplexity by token": read.by_token,
            **by_word,
        }
    hypotheses, references = _texts(args)
    if args.metric.startswith("rouge"):
        from ..evaluation.rouge import answer_rouge, summary_rouge  # loads nltk

        return (summary_rouge if args.metric == "rouge" else answer_rouge)(hypotheses, references)
    if args.metric == "sacrebleu":
        bleu = detokenised_bleu(hypotheses, references)
    else:
        bleu = tokenised_bleu(hypotheses, references, split_compounds=args.metric == "compound-bleu")
    return {"BLEU": bleu.score, "signature": bleu.signature}


def run(args) -> None:
    scores = _scores(args)
    if args.json:
        print(json.dumps({"metric": args.metric, **scores}, indent=1))
        return
    width = max(map(len, scores)) + 2
    for name, value in scores.items():
        shown = {float: ".2f", int: ","}.get(type(value), "")
        print(f"{name:{width}}{value:{shown}}")
