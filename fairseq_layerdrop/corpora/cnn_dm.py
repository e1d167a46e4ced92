"""CNN/DailyMail (Hermann et al. 2015; See et al. 2017) as text for fairseq-preprocess: articles and their highlights.

``python -m fairseq_layerdrop.corpora.cnn_dm RAW OUT`` reads either the story files, not anonymised,

    RAW/cnn/stories/*.story  RAW/dailymail/stories/*.story  RAW/url_lists/all_train.txt  all_val.txt  all_test.txt

(as in https://cs.nyu.edu/~kcho/DMQA, and https://github.com/abisee/cnn-dailymail for the lists of the splits), or
RAW/train.jsonl, valid.jsonl and test.jsonl with an object with ``article`` and ``highlights`` on each line. It writes
OUT/train, valid and test (``.source`` and ``.target``) in SentencePiece BPE pieces, the model (``spm.model``), and
``reference.target``, the test set's highlights with ``<q>`` between them.

Articles are cut after their first 400 words, as in the LayerDrop paper; words are what stands between spaces.
"""

import argparse
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from .subwords import write_pairs
from .text import CorpusError, add_items_argument, check_folder, read_lines

SPLITS = {"train": "train", "valid": "val", "test": "test"}
HIGHLIGHT = "@highlight"
SENTENCE_END = "<q>"
_ENDS = (".", "!", "?", "...", "'", "`", '"', "\u2019", "\u201d", ")")


def with_full_stop(line: str) -> str:
    """*line*, with a full stop where it ends in no punctuation, as headlines and many highlights do."""
    return line if line.endswith(_ENDS) else f"{line} ."


def read_story(path: Path) -> tuple[str, list[str]]:
    """Article and highlights of a story file; the article is empty in 114 of the official ones."""
    article: list[str] = []
    highlights: list[str] = []
    is_highlight = False
    for line in filter(None, (line.strip() for line in path.read_bytes().decode("utf-8").split("\n"))):
        if line == HIGHLIGHT:
            is_highlight = True
        else:
            (highlights if is_highlight else article).append(with_full_stop(line))
    return " ".join(article), highlights


def read_stories(raw: Path, split: str) -> Iterator[tuple[str, list[str]]]:
    """The stories of a split, in the order of its list of URLs.

    Raises:
        CorpusError: the list is missing, or a story of it is missing, broken or without highlights.
    """
    urls = raw / "url_lists" / f"all_{SPLITS[split]}.txt"
    for number, url in enumerate(read_lines(urls), start=1):
        name = f"{hashlib.sha1(url.strip().encode()).hexdigest()}.story"
        found = [path for site in ("cnn", "dailymail") if (path := raw / site / "stories" / name).is_file()]
        if not found:
            raise CorpusError(f"{urls}, line {number}: no {name} in {raw}/cnn/stories or {raw}/dailymail/stories")
        try:
            article, highlights = read_story(found[0])
        except UnicodeDecodeError as error:
            raise CorpusError(f"{found[0]}: not UTF-8") from error
        if not highlights:
            raise CorpusError(f"{found[0]}: no {HIGHLIGHT}; broken or incomplete")
        if article:
            yield article, highlights


def read_jsonl(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The items of a JSON-lines file with ``article`` and ``highlights`` (one a line).

    Raises:
        CorpusError: a line is broken.
    """
    for number, line in enumerate(read_lines(path), start=1):
        try:
            item = json.loads(line)
            article, highlights = " ".join(item["article"].split()), item["highlights"].split("\n")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CorpusError(f"{path}, line {number}: no object with article and highlights") from error
        highlights = [with_full_stop(" ".join(text.split())) for text in highlights if text.strip()]
        if not article or not highlights:
            raise CorpusError(f"{path}, line {number}: article or highlights are empty")
        yield article, highlights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=32_000, help="number of BPE pieces (default: %(default)s)")
    parser.add_argument("--words", type=int, default=400, help="words of an article to keep (default: %(default)s)")
    add_items_argument(parser)
    args = parser.parse_args()

    check_folder(args.raw, "cnn/stories, dailymail/stories and url_lists, or train.jsonl, valid.jsonl and test.jsonl")
    if args.words < 1:
        raise CorpusError(f"--words must be at least 1, not {args.words}")
    in_lines = any(args.raw.glob("*.jsonl"))

    def items(split: str) -> Iterator[tuple[str, list[str]]]:
        found = read_jsonl(args.raw / f"{split}.jsonl") if in_lines else read_stories(args.raw, split)
        return itertools.islice(found, args.items)

    def pairs(split: str, sentence_end: str) -> Iterator[tuple[str, str]]:
        for article, highlights in items(split):
            yield " ".join(article.split()[: args.words]), sentence_end.join(highlights)

    write_pairs(
        {split: functools.partial(pairs, split, " ") for split in SPLITS}, "source", "target", args.vocabulary,
        args.out,
    )  # fmt: skip
    with (args.out / "reference.target").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{summary}\n" for _, summary in pairs("test", f" {SENTENCE_END} "))


if __name__ == "__main__":
    main()
