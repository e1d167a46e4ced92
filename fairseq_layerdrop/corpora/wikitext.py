"""WikiText-2 and WikiText-103 (Merity et al. 2017) for fairseq-preprocess: words as they are, or subwords.

``python -m fairseq_layerdrop.corpora.wikitext RAW OUT`` reads RAW/wiki.train.tokens, wiki.valid.tokens and
wiki.test.tokens, as in the official archives, or train.txt, valid.txt and test.txt, each perhaps with ``.gz``; it
writes OUT/train, valid and test. With ``--pieces N`` it trains SentencePiece BPE on the training text and writes
pieces, the model (``spm.model``), and in ``words.json`` the number of words and line ends of each split, for
perplexities by word.
"""

import argparse
import itertools
import json
from pathlib import Path

from .subwords import in_pieces, train_bpe
from .text import CorpusError, add_items_argument, read_lines, write_lines

SPLITS = ("train", "valid", "test")


def find_split(raw: Path, split: str) -> Path:
    """The file of a split.

    Raises:
        CorpusError: there is none.
    """
    names = [f"{name}{end}" for name in (f"wiki.{split}.tokens", f"{split}.txt") for end in ("", ".gz")]
    for name in names:
        if (raw / name).is_file():
            return raw / name
    raise CorpusError(f"no {' or '.join(names)} in {raw}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pieces", type=int, metavar="N", help="make subwords, N SentencePiece BPE pieces")
    add_items_argument(parser)
    args = parser.parse_args()
    paths = {split: find_split(args.raw, split) for split in SPLITS}
    args.out.mkdir(parents=True, exist_ok=True)

    def lines(split):
        return itertools.islice(read_lines(paths[split]), args.items)

    if args.pieces is None:
        for split in SPLITS:
            write_lines(args.out / split, lines(split))
        return
    bpe = train_bpe((line for line in lines("train") if line.strip()), args.out / "spm", args.pieces)
    words = {}
    for split in SPLITS:
        words[split] = sum(len(line.split()) + 1 for line in lines(split))
        write_lines(args.out / split, in_pieces(bpe, lines(split)))
    (args.out / "words.json").write_text(json.dumps(words, indent=1) + "\n")


if __name__ == "__main__":
    main()
