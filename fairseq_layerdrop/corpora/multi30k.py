"""Multi30k English-German (Elliott et al. 2016), task 1, in subwords.

``python -m fairseq_layerdrop.corpora.multi30k RAW OUT`` reads RAW/train, val and test_2016_flickr (.en and .de), raw
text as in https://github.com/multi30k/dataset, and writes what :func:`~.subwords.write_pairs` says.
"""

import argparse
from pathlib import Path

from .parallel import read_parallel, write_parallel

SPLITS = {"train": "train", "valid": "val", "test": "test_2016_flickr"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=6000, help="number of BPE pieces (default: %(default)s)")
    args = parser.parse_args()
    splits = {split: read_parallel(args.raw / stem, "en", "de") for split, stem in SPLITS.items()}
    write_parallel(splits, "en", "de", args.vocabulary, args.out)


if __name__ == "__main__":
    main()
