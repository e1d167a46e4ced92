"""GLUE's files, made here in their layouts, and the real ones where they are."""

import gzip
import itertools
import sys
from collections import Counter

import pytest

from fairseq_layerdrop.corpora import glue
from fairseq_layerdrop.corpora.subwords import sentencepiece_encoder, train_bpe
from tests.commands import ROOT

REAL = ROOT.parent / "shared" / "data" / "glue"
WIKITEXT = ROOT.parent / "shared" / "data" / "wikitext-2" / "train.txt.gz"
# Each task's files as the official archives have them: header, and a line of which the columns' places are known.
LINES = {
    "CoLA": ("gj04\t1\t\tA \"sentence\" stands here.\n", ("A \"sentence\" stands here.",), "1"),
    "SST-2": ("sentence\tlabel\nit 's  fine \t1\n", ("it 's fine",), "1"),
    "MRPC": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tone\ttwo\n", ("one", "two"), "0"),
    "STS-B": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tg\tf\ty\t1\tnone\tnone\tone\ttwo\t3.800\n", ("one", "two"), "3.800",
    ),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\nbroken\tline\n0\t1\t2\tone?\ttwo?\t1\n",
        ("one?", "two?"), "1",
    ),
    "MNLI": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\t"
        "sentence1\tsentence2\tlabel1\tgold_label\n0\t1\t2\tg\t( b )\t( b )\t(R)\t(R)\tone\ttwo\tneutral\tentailment\n",
        ("one", "two"), "entailment",
    ),
    "QNLI": ("index\tquestion\tsentence\tlabel\n0\twho?\tme\tnot_entailment\n", ("who?", "me"), "not_entailment"),
    "RTE": ("index\tsentence1\tsentence2\tlabel\n0\tone\ttwo\tentailment\n", ("one", "two"), "entailment"),
}  # fmt: skip


@pytest.mark.parametrize("name", glue.TASKS)
def test_layouts(name, tmp_path):
    text, sentences, label = LINES[name]
    (tmp_path / "train.tsv").write_text(text)
    assert list(glue.read_examples(tmp_path / "train.tsv", glue.TASKS[name])) == [(sentences, label)]


def prepare(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["glue", *map(str, arguments)])
    glue.main()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("pieces") / "spm"
    train_bpe(lambda: ["one two three who me it's fine entailment"] * 3, prefix, 40)
    return f"{prefix}.model"


def test_files(model, tmp_path, monkeypatch):
    raw = tmp_path / "MNLI"
    raw.mkdir()
    text, _, _ = LINES["MNLI"]
    for name in ("train", "dev_matched", "dev_mismatched"):
        (raw / f"{name}.tsv").write_text(text)
    prepare(monkeypatch, raw, tmp_path / "out", "--spm", model)
    found = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert set(found) == {
        f"{split}.{kind}" for split in ("train", "valid", "valid1") for kind in ("input0", "input1", "label")
    }
    assert found["valid1.label"] == "entailment\n"
    assert found["train.input1"].replace(" ", "").replace("▁", " ").strip() == "two"


def test_byte_level(byte_level, tmp_path, monkeypatch):
    raw = tmp_path / "SST-2"
    raw.mkdir()
    for name in ("train", "dev"):
        (raw / f"{name}.tsv").write_text("sentence\tlabel\nit 's fin\u00e9 \t1\n")
    prepare(monkeypatch, raw, tmp_path / "out", "--gpt2", byte_level)
    assert bytes(map(int, (tmp_path / "out/valid.input0").read_text().split())).decode() == "it 's fin\u00e9"


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("SST-2", "text\tlabel\nfine\t1\n", "has no column sentence"),
        ("SST-2", "sentence\tlabel\nfine\t2\n", "line 2: the label is '2', not one of 0, 1"),
        ("SST-2", "sentence\tlabel\nfine\n", "line 2: 1 columns are too few"),
        ("STS-B", "sentence1\tsentence2\tscore\na\tb\tc\n", "line 2: the score is 'c', not a number"),
        ("SST-2", "sentence\tlabel\n", "there are no examples for train"),
        ("other", "", "other is no task of GLUE; name it by --task: CoLA, SST-2"),
    ],
)
def test_mistakes(name, text, words, model, tmp_path, monkeypatch):
    raw = tmp_path / name
    raw.mkdir()
    (raw / "train.tsv").write_text(text)
    with pytest.raises(SystemExit, match=words):
        prepare(monkeypatch, raw, tmp_path / "out", "--spm", model)


def test_pieces_that_are_missing(tmp_path, monkeypatch):
    raw = tmp_path / "RTE"
    raw.mkdir()
    with pytest.raises(SystemExit, match="is no SentencePiece model"):
        prepare(monkeypatch, raw, tmp_path / "out", "--spm", tmp_path / "none")
    with pytest.raises(SystemExit, match=r"encoder\.json; get it from https"):
        prepare(monkeypatch, raw, tmp_path / "out", "--gpt2", tmp_path)


def test_dictionary_of_other_pieces(model, tmp_path, monkeypatch):
    raw = tmp_path / "SST-2"
    raw.mkdir()
    for name in ("train", "dev"):
        (raw / f"{name}.tsv").write_text("sentence\tlabel\none two three\t1\n")
    prepare(monkeypatch, raw, tmp_path / "out", "--spm", model)
    pieces = sorted(set((tmp_path / "out/train.input0").read_text().split()))
    dictionary = tmp_path / "dict.txt"
    dictionary.write_text("".join(f"{piece} 1\n" for piece in pieces))
    prepare(monkeypatch, raw, tmp_path / "out", "--spm", model, "--dict", dictionary)
    dictionary.write_text("".join(f"{piece} 1\n" for piece in (*pieces, "<", "漢字")))  # which they haven't learned
    prepare(monkeypatch, raw, tmp_path / "out", "--spm", model, "--dict", dictionary)
    dictionary.write_text("".join(f"{chr(number)} 1\n" for number in range(0x4E00, 0x4E80)))
    with pytest.raises(SystemExit, match="0% is in these pieces"):  # all of another alphabet
        prepare(monkeypatch, raw, tmp_path / "out", "--spm", model, "--dict", dictionary)
    dictionary.write_text("other 1\n")
    with pytest.raises(SystemExit, match="0% is in these pieces"):
        prepare(monkeypatch, raw, tmp_path / "out", "--spm", model, "--dict", dictionary)
    dictionary.write_text("".join(f"{piece} 1\n" for piece in (*pieces, *(2 * piece for piece in pieces))))
    with pytest.raises(SystemExit, match="50% is in these pieces"):  # a larger model's, say
        prepare(monkeypatch, raw, tmp_path / "out", "--spm", model, "--dict", dictionary)
    dictionary.write_text("one\n")
    with pytest.raises(SystemExit, match="is no dictionary"):
        prepare(monkeypatch, raw, tmp_path / "out", "--spm", model, "--dict", dictionary)


@pytest.mark.skipif(not WIKITEXT.is_file(), reason="WikiText-2 is not here")
def test_dictionary_of_characters_that_were_not_learned(tmp_path):
    """SentencePiece doesn't learn from <unk>, and so not the only < and > of these lines."""
    with gzip.open(WIKITEXT, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in itertools.islice(file, 1500) if line.strip()]
    train_bpe(lambda: lines, tmp_path / "spm", 800)
    encode, pieces = sentencepiece_encoder(tmp_path / "spm.model")
    counts = Counter(piece for line in encode(lines) for piece in line.split(" "))
    assert not pieces & {"<", ">"} and counts["<"] + counts[">"] > 0.02 * sum(counts.values())
    (tmp_path / "dict.txt").write_text("".join(f"{piece} {count}\n" for piece, count in counts.items()))
    glue.check_pieces(encode, pieces, tmp_path / "dict.txt")


@pytest.mark.skipif(not REAL.is_dir(), reason="GLUE's files are not here")
@pytest.mark.parametrize("name, counts", [("SST-2", [67_349, 872]), ("MRPC", [3_667, 408]), ("RTE", [2_490, 277])])
def test_real_files(name, counts):
    """As many examples as the files have lines after the header."""
    files = [REAL / name / file for file in ("train.tsv", "dev.tsv")]
    assert [sum(1 for _ in glue.read_examples(file, glue.TASKS[name])) for file in files] == counts
    assert [file.read_bytes().count(b"\n") - 1 for file in files] == counts
