"""Text in the symbols of an imported model, for fairseq-preprocess.

``python -m fairseq_layerdrop.corpora.imported FOLDER TEXT OUT`` splits each line of TEXT as the model's own tokenizer
does. FOLDER is the one that ``fairseq-layerdrop import`` wrote; its dictionary is for ``fairseq-preprocess --srcdict``.
"""

import argparse
from pathlib import Path

from .subwords import imported_encoder
from .text import read_lines, write_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="that fairseq-layerdrop import wrote")
    parser.add_argument("text", type=Path, metavar="TEXT")
    parser.add_argument("out", type=Path, metavar="OUT")
    args = parser.parse_args()
    encode, _ = imported_encoder(args.folder)
    write_lines(args.out, encode(read_lines(args.text)))


if __name__ == "__main__":
    main()
