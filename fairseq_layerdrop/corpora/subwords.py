"""SentencePiece BPE, text pairs written in pieces of a joint one, and GPT-2's byte-level BPE."""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import sentencepiece
from tqdm import tqdm

from .text import CorpusError

# Lines that SentencePiece learns from at most, drawn at random where there are more.
_MOST_LINES = 5_000_000
_AT_ONCE = 10_000

Pairs = Iterator[tuple[str, str]]
# Splits lines into subwords with spaces between them.
Encode = Callable[[Iterable[str]], Iterator[str]]


def drawn(lines: Iterable[str], count: int, most: int, seed: int = 1) -> Iterator[str]:
    """*most* of *count* lines at random, or all where these are no more, in their order and one by one.

    This is selection sampling (Knuth, The Art of Computer Programming, volume 2, 3.4.2, algorithm S).
    """
    rng = random.Random(seed)
    for line in lines:
        if rng.random() * count < most:
            yield line
            most -= 1
        count -= 1


def train_bpe(
    lines: Callable[[], Iterable[str]], prefix: Path, vocabulary: int, symbols: Iterable[str] = ()
) -> sentencepiece.SentencePieceProcessor:
    """Train SentencePiece BPE and write ``PREFIX.model`` and ``PREFIX.vocab``, the same each time.

    Args:
        lines: a function that gives the text, of both languages where they share the pieces. It is called twice, since
            lines are drawn here: SentencePiece's own draw is another one in each process.
        prefix: path of the files to write, without what follows the dot.
        vocabulary: number of pieces.
        symbols: what is never split.

    Raises:
        CorpusError: the text doesn't yield that many pieces.
    """
    count = sum(1 for _ in lines())
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=drawn(lines(), count, _MOST_LINES),
            model_prefix=str(prefix),
            model_type="bpe",
            vocab_size=vocabulary,
            character_coverage=1.0,
            user_defined_symbols=list(symbols),
            max_sentence_length=2**20,  # bytes; longer lines would be passed over
            minloglevel=2,
        )
    except RuntimeError as error:
        raise CorpusError(f"can't train {vocabulary} BPE pieces: {str(error).splitlines()[0]}") from error
    return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")


def in_pieces(bpe: sentencepiece.SentencePieceProcessor, lines: Iterable[str]) -> Iterator[str]:
    """*lines* in pieces with spaces between them."""
    lines = iter(lines)
    while batch := list(itertools.islice(lines, _AT_ONCE)):
        yield from (" ".join(pieces) for pieces in bpe.encode(batch, out_type=str))


def sentencepiece_encoder(model: Path) -> tuple[Encode, set[str]]:
    """Splits lines into the pieces of a SentencePiece model; and these pieces.

    Raises:
        CorpusError: it isn't one.
    """
    try:
        bpe = sentencepiece.SentencePieceProcessor(model_file=str(model))
    except (OSError, RuntimeError) as error:
        raise CorpusError(f"{model} is no SentencePiece model: {str(error).splitlines()[0]}") from error
    return lambda lines: in_pieces(bpe, lines), set(bpe.id_to_piece(list(range(len(bpe)))))


def gpt2_encoder(folder: Path) -> tuple[Encode, set[str]]:
    """Splits lines into GPT-2's byte-level BPE, as RoBERTa's checkpoints want it; and its pieces, which are numbers.

    Raises:
        CorpusError: the folder hasn't its files.
    """
    files = [folder / name for name in ("encoder.json", "vocab.bpe")]
    for file in files:
        if not file.is_file():
            raise CorpusError(f"no such file: {file}; get it from https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe/")
    from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

    bpe = get_encoder(*map(str, files))
    return lambda lines: (" ".join(map(str, bpe.encode(line))) for line in lines), set(map(str, bpe.encoder.values()))


def imported_encoder(folder: Path) -> tuple[Encode, set[str]]:
    """Splits lines as the tokenizer of an imported model does, into symbols of its dictionary; and these symbols.

    Args:
        folder: the one that ``fairseq-layerdrop import`` wrote.

    Raises:
        CorpusError: it is another one, or its tokenizer isn't in one file.
    """
    if not any(folder.glob("dict.*txt")) or not (folder / "tokenizer.json").is_file():
        raise CorpusError(
            f"{folder} hasn't both tokenizer.json and dictionaries; give the folder that fairseq-layerdrop import "
            "wrote of a model with a tokenizer.json"
        )
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise CorpusError("tokenizers isn't installed; pip install 'fairseq-layerdrop[huggingface]'") from error
    from ..imports.folder import read_config
    from ..imports.tokens import named_symbols

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise CorpusError(f"{folder}/tokenizer.json is no tokenizer: {str(error).splitlines()[0]}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    symbols = named_symbols(folder, read_config(folder))

    def encode(lines: Iterable[str]) -> Iterator[str]:
        lines = iter(lines)
        while batch := list(itertools.islice(lines, _AT_ONCE)):
            for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
                yield " ".join(symbols[number] for number in encoding.ids)

    return encode, set(symbols.values())


def write_pairs(
    splits: Mapping[str, Callable[[], Pairs]],
    source: str,
    target: str,
    vocabulary: int,
    out: Path,
    learn_from: Callable[[], Iterable[str]] | None = None,
    symbols: Iterable[str] = (),
) -> None:
    """Write what fairseq-preprocess and the scoring need into *out*.

    That is ``SPLIT.SOURCE`` and ``SPLIT.TARGET`` in pieces of a joint BPE, the BPE model (``spm.model``), and
    ``reference.TARGET``, the test set's target side as it is. Some thousand pairs are in memory at a time, beside what
    SentencePiece keeps.

    Args:
        splits: for ``train``, ``valid`` and ``test`` a function that gives their pairs of source and target.
        source: suffix of the source side's files.
        target: suffix of the target side's files.
        vocabulary: number of BPE pieces.
        out: folder, made where there is none.
        learn_from: a function that gives the text to learn the BPE from; by default both sides of ``train``.
        symbols: what is never split.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = learn_from or (lambda: itertools.chain.from_iterable(splits["train"]()))
    bpe = train_bpe(text, out / "spm", vocabulary, symbols)
    for split, make in splits.items():
        count, names = 0, [f"{split}.{source}", f"{split}.{target}"] + [f"reference.{target}"] * (split == "test")
        with contextlib.ExitStack() as files:
            sources, targets, *references = (
                files.enter_context((out / name).open("w", encoding="utf-8", newline="\n")) for name in names
            )
            pairs = iter(tqdm(make(), desc=split, unit=" pairs", disable=None))
            while batch := list(itertools.islice(pairs, _AT_ONCE)):
                for file, lines in zip((sources, targets), zip(*batch)):
                    file.writelines(f"{line}\n" for line in in_pieces(bpe, lines))
                for file in references:
                    file.writelines(f"{line}\n" for _, line in batch)
                count += len(batch)
        if count == 0:
            raise CorpusError(f"the {split} set is empty")
        print(f"{split}: {count:,} pairs")
