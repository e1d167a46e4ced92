"""The tasks of GLUE (Wang et al. 2019) as text for fairseq's sentence prediction.

``python -m fairseq_layerdrop.corpora.glue RAW OUT --spm spm.model`` reads a task's folder as
https://gluebenchmark.com/tasks offers it, RAW/train.tsv and dev.tsv (of MRPC, what its download script makes of
Microsoft's files), and writes OUT/train and valid in pieces of the
model that the pre-training used: ``.input0``, for tasks on two sentences ``.input1``, and ``.label``. The task is the
folder's name, or that of ``--task``. MNLI's second validation set, dev_mismatched.tsv, becomes valid1.

Instead of a SentencePiece model, ``--gpt2 FOLDER`` takes RoBERTa's byte-level BPE: encoder.json and vocab.bpe, from
https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe/. ``--imported FOLDER`` takes the tokenizer of an imported model, the
folder being the one that ``fairseq-layerdrop import`` wrote.
"""

import argparse
import itertools
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .subwords import Encode, gpt2_encoder, imported_encoder, sentencepiece_encoder
from .text import CorpusError, add_items_argument, check_folder, read_lines, write_lines


@dataclass(frozen=True)
class Task:
    """How a task's files are read.

    Attributes:
        inputs: names, or where there is no header numbers, of the columns with its sentences.
        label: name or number of the column with its label.
        labels: what the labels are; none for scores.
        header: whether the first line names the columns.
        valid: validation files, for valid, valid1, ….
        ragged: whether some lines lack columns; everybody leaves them out.
    """

    inputs: tuple[str | int, ...]
    label: str | int
    labels: tuple[str, ...] = ("0", "1")
    header: bool = True
    valid: tuple[str, ...] = ("dev.tsv",)
    ragged: bool = False

    @property
    def is_regression(self) -> bool:
        return not self.labels


ENTAILMENT = ("entailment", "not_entailment")
TASKS = {
    "CoLA": Task((3,), 1, header=False),
    "SST-2": Task(("sentence",), "label"),
    "MRPC": Task(("#1 String", "#2 String"), "Quality"),
    "STS-B": Task(("sentence1", "sentence2"), "score", ()),
    "QQP": Task(("question1", "question2"), "is_duplicate", ragged=True),
    "MNLI": Task(
        ("sentence1", "sentence2"), "gold_label", ("contradiction", "entailment", "neutral"),
        valid=("dev_matched.tsv", "dev_mismatched.tsv"),
    ),
    "QNLI": Task(("question", "sentence"), "label", ENTAILMENT),
    "RTE": Task(("sentence1", "sentence2"), "label", ENTAILMENT),
}  # fmt: skip


def read_examples(path: Path, task: Task) -> Iterator[tuple[tuple[str, ...], str]]:
    """The sentences and the label of each example of a file; quotes are text.

    Raises:
        CorpusError: the file is missing, hasn't these columns, or has a label that isn't the task's.
    """
    lines = read_lines(path)
    columns = [*task.inputs, task.label]
    names = next(lines, "").removeprefix("\ufeff").split("\t") if task.header else []
    missing = [name for name in columns if task.header and name not in names]
    if missing:
        raise CorpusError(f"{path} has no column {missing[0]}; is it the file of another task? see --task")
    places = [name if isinstance(name, int) else names.index(name) for name in columns]
    for number, line in enumerate(lines, start=2 if task.header else 1):
        cells = line.split("\t")
        if len(cells) <= max(places):
            if task.ragged:
                continue
            raise CorpusError(f"{path}, line {number}: {len(cells)} columns are too few; is the file whole?")
        *sentences, label = (" ".join(cells[place].split()) for place in places)
        if task.labels and label not in task.labels:
            raise CorpusError(f"{path}, line {number}: the label is '{label}', not one of {', '.join(task.labels)}")
        if task.is_regression:
            try:
                float(label)
            except ValueError:
                raise CorpusError(f"{path}, line {number}: the score is '{label}', not a number") from None
        yield tuple(sentences), label


def write_examples(examples: Iterable[tuple[tuple[str, ...], str]], encode: Encode, prefix: Path) -> int:
    """Write PREFIX.input0, perhaps .input1, and .label; returns the number of examples."""
    examples = list(examples)
    if not examples:
        raise CorpusError(f"there are no examples for {prefix.name}")
    for number, sentences in enumerate(zip(*(sentences for sentences, _ in examples), strict=True)):
        write_lines(prefix.with_name(f"{prefix.name}.input{number}"), encode(sentences))
    write_lines(prefix.with_name(f"{prefix.name}.label"), (label for _, label in examples))
    return len(examples)


def check_pieces(encode: Encode, pieces: Container[str], dictionary: Path) -> None:
    """Check that a dictionary was counted on text that *encode* has split into these pieces.

    SentencePiece leaves characters that it hasn't learned as they are. They can be a fortieth of WikiText, since it
    doesn't learn from ``<unk>``.

    Raises:
        CorpusError: more than a fiftieth of it is neither a piece nor what is left so, or less than half are pieces.
    """
    lines = (line.removesuffix(" #fairseq:overwrite").rpartition(" ") for line in read_lines(dictionary))
    try:
        counts = {symbol: int(count) for symbol, _, count in lines}
    except ValueError:
        raise CorpusError(f"{dictionary} is no dictionary, with a symbol and its count in each line") from None
    others = [symbol for symbol in counts if symbol not in pieces]
    foreign = {symbol for symbol, split in zip(others, encode(others)) if symbol not in split.split(" ")}
    total = max(sum(counts.values()), 1)
    own, strange = (sum(counts[symbol] for symbol in symbols) for symbols in (counts.keys() - others, foreign))
    if own < 0.5 * total or strange > 0.02 * total:
        raise CorpusError(
            f"of the text of {dictionary}, {own / total:.0%} is in these pieces; both must be of the same pre-training"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, metavar="RAW", help="folder of a task")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--task", choices=TASKS, help="default: the folder's name")
    pieces = parser.add_mutually_exclusive_group(required=True)
    pieces.add_argument("--spm", type=Path, metavar="MODEL", help="SentencePiece model")
    pieces.add_argument("--gpt2", type=Path, metavar="FOLDER", help="with encoder.json and vocab.bpe")
    pieces.add_argument("--imported", type=Path, metavar="FOLDER", help="that fairseq-layerdrop import wrote")
    parser.add_argument("--dict", type=Path, metavar="FILE", help="dictionary of the pre-training, to check against")
    add_items_argument(parser)
    args = parser.parse_args()
    check_folder(args.raw, "train.tsv and dev.tsv of a task of GLUE")
    name = args.task or args.raw.resolve().name
    if name not in TASKS:
        raise CorpusError(f"{name} is no task of GLUE; name it by --task: {', '.join(TASKS)}")
    task = TASKS[name]
    encoders = {"spm": sentencepiece_encoder, "gpt2": gpt2_encoder, "imported": imported_encoder}
    encode, known = next(make(getattr(args, name)) for name, make in encoders.items() if getattr(args, name))
    if args.dict:
        check_pieces(encode, known, args.dict)
    args.out.mkdir(parents=True, exist_ok=True)
    files = {"train": "train.tsv", **{f"valid{number or ''}": file for number, file in enumerate(task.valid)}}
    for split, file in files.items():
        examples = itertools.islice(read_examples(args.raw / file, task), args.items)
        print(f"{split}: {write_examples(examples, encode, args.out / split):,} examples")


if __name__ == "__main__":
    main()
