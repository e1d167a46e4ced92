"""Parallel text: reading it with checks, and joint SentencePiece BPE."""

from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from .text import CorpusError, read_lines, write_lines


def read_parallel(stem: Path, source: str, target: str) -> tuple[list[str], list[str]]:
    """Read ``STEM.SOURCE`` and ``STEM.TARGET``, one sentence a line.

    Raises:
        CorpusError: a file is missing or isn't UTF-8, the two differ in length, or a line is empty.
    """
    sides = []
    for lang in (source, target):
        path = Path(f"{stem}.{lang}")
        lines = list(read_lines(path))
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise CorpusError(f"{path}, line {number}: empty")
        sides.append(lines)
    if len(sides[0]) != len(sides[1]):
        raise CorpusError(f"{stem}.{source} has {len(sides[0])} lines, {stem}.{target} has {len(sides[1])}")
    return sides[0], sides[1]


def train_joint_bpe(sentences: Iterable[str], prefix: Path, vocabulary: int) -> sentencepiece.SentencePieceProcessor:
    """Train SentencePiece BPE and write ``PREFIX.model`` and ``PREFIX.vocab``.

    Args:
        sentences: text, of both languages where they share the pieces.
        prefix: path of the files to write, without what follows the dot.
        vocabulary: number of pieces.

    Raises:
        CorpusError: the sentences don't yield that many pieces.
    """
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_prefix=str(prefix),
            model_type="bpe",
            vocab_size=vocabulary,
            character_coverage=1.0,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise CorpusError(f"can't train {vocabulary} BPE pieces: {str(error).splitlines()[0]}") from error
    return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")


def write_subwords(
    splits: dict[str, tuple[list[str], list[str]]], source: str, target: str, vocabulary: int, out: Path
) -> None:
    """Write what fairseq-preprocess and the scoring need into *out*.

    That is ``SPLIT.SOURCE`` and ``SPLIT.TARGET`` in pieces of a joint BPE trained on ``train``, the BPE model
    (``spm.model``), and ``reference.TARGET``, the test set's raw target side.

    Args:
        splits: source and target sentences of ``train``, ``valid`` and ``test``.
        vocabulary: number of BPE pieces.
    """
    out.mkdir(parents=True, exist_ok=True)
    bpe = train_joint_bpe(splits["train"][0] + splits["train"][1], out / "spm", vocabulary)
    for split, sides in splits.items():
        for lang, lines in zip((source, target), sides):
            write_lines(out / f"{split}.{lang}", [" ".join(pieces) for pieces in bpe.encode(lines, out_type=str)])
        print(f"{split}: {len(sides[0]):,} pairs")
    write_lines(out / f"reference.{target}", splits["test"][1])
