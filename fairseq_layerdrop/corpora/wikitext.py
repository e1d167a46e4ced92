"""WikiText-2 and WikiText-103 (Merity et al. 2017) for fairseq-preprocess: words as they are, or subwords.

``python -m fairseq_layerdrop.corpora.wikitext RAW OUT`` reads RAW/wiki.train.tokens, wiki.valid.tokens and
wiki.test.tokens, as in the official archives, or train.txt, valid.txt and test.txt, each perhaps with ``.gz``; it
writes OUT/train, valid and test. With ``--pieces N`` it trains SentencePiece BPE on the training text and writes
pieces, the model (``spm.model``), and in ``words.json`` the number of words and line ends of each split, for
perplexities by word; ``--gpt2 FOLDER`` splits into RoBERTa's byte-level BPE instead. Files with the official names must
have the official numbers of words and line ends.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .subwords import Encode, gpt2_encoder, in_pieces, train_bpe
from .text import CorpusError, add_items_argument, read_lines, write_lines

SPLITS = ("train", "valid", "test")
# Words and line ends of the official files; WikiText-2 and WikiText-103 share valid and test.
OFFICIAL = {"train": (2_088_628, 103_227_021), "valid": (217_646,), "test": (245_569,)}


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
    subwords = parser.add_mutually_exclusive_group()
    subwords.add_argument("--pieces", type=int, metavar="N", help="make subwords, N SentencePiece BPE pieces")
    subwords.add_argument("--gpt2", type=Path, metavar="FOLDER", help="GPT-2's, by encoder.json and vocab.bpe in it")
    add_items_argument(parser)
    args = parser.parse_args()
    paths = {split: find_split(args.raw, split) for split in SPLITS}
    args.out.mkdir(parents=True, exist_ok=True)

    def lines(split: str) -> Iterator[str]:
        return itertools.islice(read_lines(paths[split]), args.items)

    words = {split: sum(len(line.split()) + 1 for line in lines(split)) for split in SPLITS}
    for split, count in words.items():
        official = paths[split].name == f"wiki.{split}.tokens" and args.items is None
        if count == 0 or (official and count not in OFFICIAL[split]):
            right = f", not {' or '.join(f'{number:,}' for number in OFFICIAL[split])}" if official else ""
            raise CorpusError(f"{paths[split]} has {count:,} words and line ends{right}; it is not whole")
    encode: Encode
    if args.pieces is not None:
        bpe = train_bpe(lambda: (line for line in lines("train") if line.strip()), args.out / "spm", args.pieces)
        encode = partial(in_pieces, bpe)
    else:
        encode = gpt2_encoder(args.gpt2)[0] if args.gpt2 else iter
    for split in SPLITS:
        write_lines(args.out / split, encode(lines(split)))
    if encode is iter:  # the words themselves
        return
    (args.out / "words.json").write_text(json.dumps(words, indent=1) + "\n")


if __name__ == "__main__":
    main()
