"""WMT16 English-German as text for fairseq-preprocess, from Google's preprocessed archive or from raw text.

``python -m fairseq_layerdrop.corpora.wmt16 RAW OUT`` takes for RAW

- ``wmt16_en_de.tar.gz`` or the folder that it unpacks to, with train.tok.clean.bpe.32000, newstest2013.tok.bpe.32000
  and newstest2014.tok.bpe.32000 (.en and .de): tokenised and in BPE already, as all papers since Ott et al. (2018) have
  it; or
- a folder with raw text, a sentence a line: train, newstest2013 and newstest2014 (or valid and test; .en and .de). It
  is written in pieces of a joint SentencePiece BPE. Of the training text, pairs with an empty side, with more than 250
  words on a side, or with more than 1.5 times as many words on one side as on the other are left out.

It writes OUT/train, valid and test (.en and .de) and ``reference.de``, the test set's target side without BPE.
"""

import argparse
import contextlib
import functools
import itertools
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from .subwords import write_pairs
from .text import CorpusError, add_items_argument, read_lines

LANGUAGES = ("en", "de")
# Files of the archive, and how many lines they have.
ARCHIVE = {
    "train": ("train.tok.clean.bpe.32000", 4_500_966),
    "valid": ("newstest2013.tok.bpe.32000", 3_000),
    "test": ("newstest2014.tok.bpe.32000", 3_003),
}
RAW = {
    "train": ("train",),
    "valid": ("newstest2013", "valid", "val"),
    "test": ("newstest2014", "test", "test_2016_flickr"),
}
BPE_END = "@@ "
MOST_WORDS, MOST_RATIO = 250, 1.5


def is_clean(source: str, target: str) -> bool:
    """Whether a training pair has 1 to 250 words on both sides, in a ratio of at most 1.5."""
    words = len(source.split()), len(target.split())
    return min(words) > 0 and max(words) <= min(MOST_WORDS, MOST_RATIO * min(words))


def read_pairs(stem: Path, items: int | None = None) -> Iterator[tuple[str, str]]:
    """The pairs of ``STEM.en`` and ``STEM.de``.

    Raises:
        CorpusError: a file is missing or broken, or one is shorter than the other.
    """
    files = [read_lines(Path(f"{stem}.{lang}")) for lang in LANGUAGES]
    for number, (english, german) in enumerate(itertools.islice(itertools.zip_longest(*files), items), start=1):
        if english is None or german is None:
            short = LANGUAGES[0 if english is None else 1]
            raise CorpusError(f"{stem}.{short} is short: it ends before line {number}")
        yield english, german


def unpack(archive: Path, out: Path) -> None:
    """Unpack the files that are needed of ``wmt16_en_de.tar.gz`` into *out*.

    Raises:
        CorpusError: the archive is broken, or isn't this one.
    """
    wanted = {f"{stem}.{lang}" for stem, _ in ARCHIVE.values() for lang in LANGUAGES}
    try:
        with tarfile.open(archive) as tar:
            for member in tqdm(tar, desc=archive.name, unit=" files", disable=None):
                name = Path(member.name).name
                source = tar.extractfile(member) if member.isfile() and name in wanted else None
                if source is not None:
                    with source, (out / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
                    wanted.remove(name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise CorpusError(
            f"{archive}: broken or incomplete archive ({str(error).splitlines()[0]}); remove it, to download it anew"
        ) from error
    if wanted:
        raise CorpusError(f"{archive} has no {sorted(wanted)[0]}; is it Google's wmt16_en_de.tar.gz?")


def copy_archive(raw: Path, out: Path, items: int | None) -> None:
    """Write the archive's files under the names of splits, and the reference.

    Raises:
        CorpusError: a file is missing or broken, or hasn't as many lines as it should have.
    """
    for split, (stem, lines) in ARCHIVE.items():
        names = [f"{split}.{lang}" for lang in LANGUAGES] + ["reference.de"] * (split == "test")
        count = 0
        with contextlib.ExitStack() as files:
            source, target, *reference = (
                files.enter_context((out / name).open("w", encoding="utf-8", newline="\n")) for name in names
            )
            for pair in read_pairs(raw / stem, items):
                for file, line in zip((source, target), pair):
                    file.write(f"{line}\n")
                for file in reference:
                    file.write(f"{pair[1]} ".replace(BPE_END, "").rstrip() + "\n")
                count += 1
        if items is None and count != lines:
            raise CorpusError(f"{raw / stem}.en has {count:,} lines and should have {lines:,}")
        print(f"{split}: {count:,} pairs")


def find_raw(raw: Path) -> dict[str, Path]:
    """Where the splits are, without the language in the name.

    Raises:
        CorpusError: one is missing.
    """
    found = {}
    for split, stems in RAW.items():
        stem = next((stem for stem in stems if (raw / f"{stem}.en").is_file()), None)
        if stem is None:
            raise CorpusError(f"no {' or '.join(f'{stem}.en' for stem in stems)} in {raw}")
        found[split] = raw / stem
    return found


def write_raw(raw: Path, out: Path, vocabulary: int, items: int | None) -> None:
    """Write raw text in pieces of a joint BPE, as :func:`~.subwords.write_pairs` says, its training part cleaned."""
    stems = find_raw(raw)
    for split in ("valid", "test"):
        for number, pair in enumerate(read_pairs(stems[split]), start=1):
            if not all(line.strip() for line in pair):
                raise CorpusError(f"{stems[split]}, line {number}: empty")

    def train() -> Iterator[tuple[str, str]]:
        return (pair for pair in read_pairs(stems["train"], items) if is_clean(*pair))

    held_out = {split: functools.partial(read_pairs, stems[split], items) for split in ("valid", "test")}
    write_pairs({"train": train, **held_out}, *LANGUAGES, vocabulary, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--vocabulary", type=int, default=32_000, help="number of BPE pieces for raw text (default: %(default)s)"
    )
    add_items_argument(parser)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    raw = args.raw
    if raw.is_file():
        unpacked = args.out / "unpacked"
        unpacked.mkdir(exist_ok=True)
        unpack(raw, unpacked)
        copy_archive(unpacked, args.out, args.items)
        shutil.rmtree(unpacked)
    elif (raw / f"{ARCHIVE['train'][0]}.en").is_file():
        copy_archive(raw, args.out, args.items)
    elif raw.is_dir():
        write_raw(raw, args.out, args.vocabulary, args.items)
    else:
        raise CorpusError(f"no such file or folder: {raw}")


if __name__ == "__main__":
    main()
