"""Raw data in the layouts of the benchmarks, made up: for trying a recipe out without the benchmark's data.

``python -m fairseq_layerdrop.corpora.look_alikes BENCHMARK RAW`` writes RAW as the benchmark's own reader wants it.
The texts are the numbers, dates and prices of :mod:`.number_words`.
"""

import argparse
import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import cnn_dm, wmt16
from .number_words import make_pairs
from .text import write_lines

COUNTS = {"train": 1200, "valid": 24, "test": 24}


def _splits() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for seed, (split, count) in enumerate(COUNTS.items()):
        yield split, make_pairs(count, seed)


def _sentences(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{english} ." for english, _ in pairs]


def write_wmt16(raw: Path) -> None:
    """Raw text, a sentence a line."""
    for split, pairs in _splits():
        for lang, lines in zip(wmt16.LANGUAGES, zip(*pairs)):
            write_lines(raw / f"{wmt16.RAW[split][0]}.{lang}", lines)


def write_wmt16_archive(raw: Path) -> None:
    """``wmt16_en_de.tar.gz``, with words split where BPE might."""
    raw.mkdir(parents=True, exist_ok=True)
    with tarfile.open(raw / "wmt16_en_de.tar.gz", "w:gz") as tar:
        for split, pairs in _splits():
            for lang, lines in zip(wmt16.LANGUAGES, zip(*pairs)):
                path = raw / f"{wmt16.ARCHIVE[split][0]}.{lang}"
                write_lines(
                    path, (" ".join(w if len(w) < 8 else f"{w[:5]}@@ {w[5:]}" for w in line.split()) for line in lines)
                )
                tar.add(path, path.name)
                path.unlink()


def write_wikitext103(raw: Path) -> None:
    """wiki.train.tokens, …: articles of some lines under headings, empty lines between."""
    for split, pairs in _splits():
        lines: list[str] = []
        for number, sentence in enumerate(_sentences(pairs)):
            if number % 8 == 0:
                lines += ["", f" = {sentence.split()[0]} = ", ""]
            lines.append(f" {sentence} ")
        write_lines(raw / f"wiki.{split}.tokens", lines)


def write_cnn_dm(raw: Path) -> None:
    """Story files, and the lists of the splits."""
    for split, pairs in _splits():
        urls = []
        sentences = _sentences(pairs)
        for start in range(0, len(sentences), 6):
            url = f"http://example.org/{split}/{start}"
            urls.append(url)
            site = ("cnn", "dailymail")[start // 6 % 2]
            story = raw / site / "stories" / f"{hashlib.sha1(url.encode()).hexdigest()}.story"
            story.parent.mkdir(parents=True, exist_ok=True)
            lines = sentences[start : start + 6]
            for line in lines[:2]:
                lines += [cnn_dm.HIGHLIGHT, line.removesuffix(" .")]
            story.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        (raw / "url_lists").mkdir(exist_ok=True)
        write_lines(raw / "url_lists" / f"all_{cnn_dm.SPLITS[split]}.txt", urls)


def write_eli5(raw: Path) -> None:
    """explainlikeimfive_train.json, …"""
    for split, pairs in _splits():
        sentences = _sentences(pairs)
        items = [
            {
                "id": f"{split}-{start}",
                "question": f"why did it cost {sentences[start]} --T-- ",
                "document": " <P> ".join(sentences[start : start + 5]),
                "answer": " ".join(sentences[start + 4 : start + 6]),
            }
            for start in range(0, len(sentences), 6)
        ]
        (raw / f"explainlikeimfive_{split}.json").write_text(json.dumps(items, indent=1), encoding="utf-8")


def write_glue(raw: Path) -> None:
    """SST-2 and MRPC: whether a sentence tells a price, and whether two are the same but for their case."""
    for split, pairs in _splits():
        sentences = _sentences(pairs)
        rows = {
            "SST-2": ["sentence\tlabel", *(f"{text}\t{int(' costs ' in text)}" for text in sentences)],
            "MRPC": [
                "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
                *(
                    f"{number % 2}\t{number}\t{number}\t{text}\t{(sentences[number - 1], text.upper())[number % 2]}"
                    for number, text in enumerate(sentences)
                ),
            ],
        }
        for task, lines in rows.items():
            (raw / task).mkdir(parents=True, exist_ok=True)
            if split != "test":
                write_lines(raw / task / f"{'train' if split == 'train' else 'dev'}.tsv", lines)


MAKERS = {
    "wmt16_en_de": write_wmt16,
    "wmt16_en_de_archive": write_wmt16_archive,
    "wikitext103": write_wikitext103,
    "cnn_dm": write_cnn_dm,
    "eli5": write_eli5,
    "glue": write_glue,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=MAKERS)
    parser.add_argument("raw", type=Path)
    args = parser.parse_args()
    args.raw.mkdir(parents=True, exist_ok=True)
    MAKERS[args.benchmark](args.raw)


if __name__ == "__main__":
    main()
