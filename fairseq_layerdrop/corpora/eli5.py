"""ELI5 (Fan et al. 2019) as text for fairseq-preprocess: long-form question answering, with its multitask pairs.

``python -m fairseq_layerdrop.corpora.eli5 RAW OUT`` reads what https://github.com/facebookresearch/ELI5 makes:
RAW/train.json, valid.json and test.json (or explainlikeimfive_train.json, …), each a list of objects with ``id``,
``question``, ``document`` and ``answer``. It writes OUT/train, valid and test (``.source`` and ``.target``) in
SentencePiece BPE pieces, the model (``spm.model``), and the answers of the test set as they are (``reference.target``).

Of each training item ten pairs are made (:func:`multitask_pairs`); of valid and test only question and document ->
answer.
"""

import argparse
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from .subwords import write_pairs
from .text import CorpusError, add_items_argument, check_folder

SPLITS = ("train", "valid", "test")
FIELDS = ("question", "document", "answer")
# Words of the multitask format, which stay whole.
TAGS = (
    "<lm_qda>", "<lm_qd>", "<lm_a>", "<lm_q>", "<lm_d>", "<s2s_q_da>", "<s2s_qd_a>", "<s2s_q_a>", "<s2s_q_d>",
    "<masking>", "<startQuestion>", "<startAnswer>", "[MASK]", "<P>",
)  # fmt: skip
PICKED, MASKED = 0.15, 0.8


def read_items(path: Path) -> Iterator[dict[str, str]]:
    """The items of a split, each with its fields on one line and with single spaces.

    Raises:
        CorpusError: the file is missing or broken, or an item lacks a field.
    """
    if not path.is_file():
        raise CorpusError(f"no such file: {path} (nor explainlikeimfive_{path.name})")
    try:
        items = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path} is broken or incomplete: {error}") from error
    if not isinstance(items, list) or not items:
        raise CorpusError(f"{path} must be a list of objects with {', '.join(FIELDS)}")
    for number, item in enumerate(items, start=1):
        for field in FIELDS:
            if not isinstance(item, dict) or not isinstance(item.get(field), str) or not item[field].strip():
                raise CorpusError(f"{path}, item {number}: no {field}")
        yield {field: " ".join(item[field].split()) for field in FIELDS}


def question_document(item: dict[str, str]) -> str:
    """The source that is answered."""
    return f"<s2s_qd_a> <startQuestion> {item['question']} {item['document']}"


def mask(document: str, rng: random.Random) -> tuple[str, str]:
    """A document with words masked, and the words that were picked for it."""
    words = document.split()
    picked = [rng.random() < PICKED for _ in words]
    shown = ["[MASK]" if pick and rng.random() < MASKED else word for word, pick in zip(words, picked)]
    return " ".join(shown), " ".join(word for word, pick in zip(words, picked) if pick)


def multitask_pairs(item: dict[str, str], rng: random.Random) -> list[tuple[str, str]]:
    """The ten training pairs of an item, source and target, in the format of the authors' multitask training.

    Five are language modelling of question, document and answer (``<lm_…>``), four translate one into another
    (``<s2s_…>``), and one restores masked words: 15 % of the document's words are picked, 80 % of these are masked, and
    the target is the picked ones.
    """
    question, document, answer = (item[field] for field in FIELDS)
    masked, picked = mask(document, rng)
    return [
        ("<lm_qda>", f"{question} {document} {answer}"),
        ("<lm_qd>", f"{question} {document}"),
        ("<lm_a>", answer),
        ("<lm_q>", question),
        ("<lm_d>", document),
        (f"<s2s_q_da> <startQuestion> {question}", f"{document} <startAnswer> {answer}"),
        (question_document(item), answer),
        (f"<s2s_q_a> <startQuestion> {question}", answer),
        (f"<s2s_q_d> <startQuestion> {question}", document),
        (f"<masking> {masked}", picked),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=40_000, help="number of BPE pieces (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the masked words (default: %(default)s)")
    add_items_argument(parser)
    args = parser.parse_args()
    check_folder(args.raw, "explainlikeimfive_train.json, … or train.json, valid.json and test.json")
    paths = {}
    for split in SPLITS:
        official = args.raw / f"explainlikeimfive_{split}.json"
        paths[split] = official if official.is_file() else args.raw / f"{split}.json"

    def items(split: str) -> Iterator[dict[str, str]]:
        return itertools.islice(read_items(paths[split]), args.items)

    def train() -> Iterator[tuple[str, str]]:
        rng = random.Random(args.seed)
        for item in items("train"):
            yield from multitask_pairs(item, rng)

    def held_out(split: str) -> Callable[[], Iterator[tuple[str, str]]]:
        return lambda: ((question_document(item), item["answer"]) for item in items(split))

    write_pairs(
        {"train": train, "valid": held_out("valid"), "test": held_out("test")}, "source", "target", args.vocabulary,
        args.out, lambda: (item[field] for item in items("train") for field in FIELDS), TAGS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
