"""Corpora: what is written, and what is refused."""

import gzip
import hashlib
import json
import random
import re
import tarfile

import pytest
import sentencepiece

from fairseq_layerdrop.corpora import glue
from fairseq_layerdrop.corpora.cnn_dm import read_jsonl, read_stories
from fairseq_layerdrop.corpora.eli5 import mask, multitask_pairs, question_document, read_items
from fairseq_layerdrop.corpora.look_alikes import MAKERS
from fairseq_layerdrop.corpora.number_words import make_pairs
from fairseq_layerdrop.corpora.parallel import CorpusError, read_parallel
from fairseq_layerdrop.corpora.wmt16 import copy_archive, find_raw, read_pairs, unpack
from tests.commands import ROOT, run

DATA = ROOT.parent / "shared" / "data"
MULTI30K, WIKITEXT, CNN_DM = DATA / "multi30k", DATA / "wikitext-2", DATA / "cnn_dm" / "cnn_dm_999.jsonl"
ELI5 = DATA / "eli5" / "public_examples" / "examples_qda_short.json"


class TestReadParallel:
    def write(self, folder, source, target):
        (folder / "x.en").write_bytes(source)
        (folder / "x.de").write_bytes(target)
        return read_parallel(folder / "x", "en", "de")

    def test_good(self, tmp_path):
        assert self.write(tmp_path, b"a b\nc\n", "ä\nö\n".encode()) == (["a b", "c"], ["ä", "ö"])

    def test_other_separators_end_no_line(self, tmp_path):
        assert self.write(tmp_path, "a\u2028b\x0cc\n".encode(), b"d\n") == (["a\u2028b\x0cc"], ["d"])

    @pytest.mark.parametrize(
        "source, target, words",
        [
            (b"a\nb\n", b"c\n", "x.en has 2 lines, .*x.de has 1"),
            (b"a\n\nb\n", b"c\nd\ne\n", "x.en, line 2: empty"),
            (b"a\n\xff\n", b"c\nd\n", "x.en, line 2: not UTF-8"),
        ],
    )
    def test_bad(self, tmp_path, source, target, words):
        with pytest.raises(CorpusError, match=words):
            self.write(tmp_path, source, target)

    def test_missing(self, tmp_path):
        with pytest.raises(CorpusError, match="no such file"):
            read_parallel(tmp_path / "x", "en", "de")


class TestNumberWords:
    def test_distinct_and_reproducible(self):
        pairs = make_pairs(500, seed=1)
        assert len({english for english, _ in pairs}) == 500
        assert pairs == make_pairs(500, seed=1) != make_pairs(500, seed=2)

    def test_sentences(self):
        """One of each kind, by hand."""
        pairs = dict(make_pairs(2000, seed=1))
        assert {english.split()[0] for english in pairs} == {"they", "the", "he", "she", "it"}
        english = "they counted five hundred and one people and three cars"
        assert pairs[english] == "sie zählten fünfhunderteins Menschen und drei Autos"

    def test_command_writes_pieces_that_decode_to_the_text(self, tmp_path):
        run(
            "python", "-m", "fairseq_layerdrop.corpora.number_words", tmp_path, "--train", "600", "--heldout", "50",
            "--vocabulary", "200",
        )  # fmt: skip
        lengths = {
            split: len((tmp_path / f"{split}.en").read_text().splitlines()) for split in ("train", "valid", "test")
        }
        assert lengths == {"train": 600, "valid": 50, "test": 50}
        bpe = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
        pieces = (tmp_path / "test.de").read_text().splitlines()
        assert [bpe.decode(line.split()) for line in pieces] == (tmp_path / "reference.de").read_text().splitlines()


class TestMulti30k:
    def test_look_alike(self, tmp_path):
        for stem, count in {"train": 300, "val": 20, "test_2016_flickr": 20}.items():
            for lang in ("en", "de"):
                lines = [f"sentence {stem} {i} of the {lang} side" for i in range(count)]
                (tmp_path / f"{stem}.{lang}").write_text("\n".join(lines) + "\n")
        out = tmp_path / "text"
        run("python", "-m", "fairseq_layerdrop.corpora.multi30k", tmp_path, out, "--vocabulary", "60")
        assert sorted(path.name for path in out.iterdir()) == [
            "reference.de", "spm.model", "spm.vocab", "test.de", "test.en", "train.de", "train.en", "valid.de",
            "valid.en",
        ]  # fmt: skip
        assert (out / "reference.de").read_text() == (tmp_path / "test_2016_flickr.de").read_text()

    def test_missing_file_ends_in_one_line(self, tmp_path):
        done = run("python", "-m", "fairseq_layerdrop.corpora.multi30k", tmp_path, tmp_path / "text", check=False)
        assert done.returncode and "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].endswith(f"no such file: {tmp_path / 'train.en'}")

    @pytest.mark.skipif(not MULTI30K.is_dir(), reason="the Multi30k data is not here")
    def test_real(self):
        assert len(read_parallel(MULTI30K / "train", "en", "de")[0]) == 29000


def lines_of(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


class TestWikitext:
    def raw(self, folder, names=("{}.txt",) * 3):
        for split, name in zip(("train", "valid", "test"), names):
            text = f" \n = {split} = \n \n the <unk> cat sat on @-@ the mat . \n" * 50
            path = folder / name.format(split)
            path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return folder

    def test_words_stay_as_they_are(self, tmp_path):
        self.raw(tmp_path)
        run("python", "-m", "fairseq_layerdrop.corpora.wikitext", tmp_path, tmp_path / "text")
        for split in ("train", "valid", "test"):
            assert (tmp_path / "text" / split).read_bytes() == (tmp_path / f"{split}.txt").read_bytes()

    def test_pieces(self, tmp_path):
        self.raw(tmp_path, ("{}.txt.gz", "{}.txt", "{}.txt"))
        out = tmp_path / "text"
        run("python", "-m", "fairseq_layerdrop.corpora.wikitext", tmp_path, out, "--pieces", "40")
        bpe = sentencepiece.SentencePieceProcessor(model_file=str(out / "spm.model"))
        decoded = [bpe.decode(line.split()) for line in lines_of(out / "valid")]
        assert decoded == [" ".join(line.split()) for line in lines_of(tmp_path / "valid.txt")]
        assert json.loads((out / "words.json").read_text())["valid"] == 50 * (1 + 4 + 1 + 10)

    def test_byte_level(self, tmp_path, byte_level):
        self.raw(tmp_path)
        run("python", "-m", "fairseq_layerdrop.corpora.wikitext", tmp_path, tmp_path / "text", "--gpt2", byte_level)
        found = [bytes(map(int, line.split())).decode() for line in lines_of(tmp_path / "text" / "valid")]
        assert found == lines_of(tmp_path / "valid.txt")

    @pytest.mark.skipif(not WIKITEXT.is_dir(), reason="the WikiText-2 data is not here")
    def test_real(self, tmp_path):
        """The published numbers of tokens, line ends included."""
        run("python", "-m", "fairseq_layerdrop.corpora.wikitext", WIKITEXT, tmp_path, "--pieces", "500")
        assert json.loads((tmp_path / "words.json").read_text()) == {
            "train": 2_088_628, "valid": 217_646, "test": 245_569,
        }  # fmt: skip

    @pytest.mark.parametrize(
        "damage, words",
        [
            (lambda folder: (folder / "train.txt.gz").unlink(), "no wiki.train.tokens or .* in "),
            (
                lambda folder: (folder / "train.txt.gz").write_bytes((folder / "train.txt.gz").read_bytes()[:60]),
                "train.txt.gz, after line .*: broken or incomplete gzip file",
            ),
            (
                lambda folder: (folder / "test.txt").write_text(""),
                "test.txt has 0 words and line ends; it is not whole",
            ),
            (
                lambda folder: (folder / "test.txt").rename(folder / "wiki.test.tokens"),
                "wiki.test.tokens has 800 words and line ends, not 245,569; it is not whole",
            ),
        ],
    )
    def test_damaged(self, tmp_path, damage, words):
        damage(self.raw(tmp_path, ("{}.txt.gz", "{}.txt", "{}.txt")))
        done = run("python", "-m", "fairseq_layerdrop.corpora.wikitext", tmp_path, tmp_path / "out", check=False)
        assert done.returncode and "Traceback" not in done.stderr
        assert re.search(words, done.stderr.splitlines()[-1])


ITEM = {"id": "x1", "question": "why ? --T-- \n really", "document": "<P> a b  c d", "answer": "since\ne f"}


class TestEli5:
    def test_ten_pairs_token_by_token(self):
        (item,) = ({key: " ".join(ITEM[key].split()) for key in ("question", "document", "answer")},)
        pairs = multitask_pairs(item, random.Random(1))
        question, document, answer = "why ? --T-- really", "<P> a b c d", "since e f"
        assert pairs[:9] == [
            ("<lm_qda>", f"{question} {document} {answer}"),
            ("<lm_qd>", f"{question} {document}"),
            ("<lm_a>", answer),
            ("<lm_q>", question),
            ("<lm_d>", document),
            (f"<s2s_q_da> <startQuestion> {question}", f"{document} <startAnswer> {answer}"),
            (f"<s2s_qd_a> <startQuestion> {question} {document}", answer),
            (f"<s2s_q_a> <startQuestion> {question}", answer),
            (f"<s2s_q_d> <startQuestion> {question}", document),
        ]
        assert pairs[9][0].startswith("<masking> ") and len(pairs) == 10

    def test_masking(self):
        """15 % of 20,000 words picked and 80 % of these masked, each within five standard errors (chance: 6e-7)."""
        words = [f"w{i}" for i in range(20_000)]
        shown, picked = (text.split() for text in mask(" ".join(words), random.Random(1)))
        assert [word for word in words if word in set(picked)] == picked
        masked = [word for word, after in zip(words, shown) if after == "[MASK]"]
        assert set(masked) <= set(picked) and all(a in (b, "[MASK]") for a, b in zip(shown, words))
        assert abs(len(picked) / 20_000 - 0.15) < 5 * (0.15 * 0.85 / 20_000) ** 0.5
        assert abs(len(masked) / len(picked) - 0.8) < 5 * (0.8 * 0.2 / len(picked)) ** 0.5

    def make(self, folder, count=3):
        for split in ("train", "valid", "test"):
            (folder / f"explainlikeimfive_{split}.json").write_text(json.dumps([ITEM] * count))

    def test_command(self, tmp_path):
        self.make(tmp_path)
        out = tmp_path / "text"
        run("python", "-m", "fairseq_layerdrop.corpora.eli5", tmp_path, out, "--vocabulary", "60")
        assert [len(lines_of(out / f"{split}.source")) for split in ("train", "valid", "test")] == [30, 3, 3]
        bpe = sentencepiece.SentencePieceProcessor(model_file=str(out / "spm.model"))
        assert "<startQuestion>" in lines_of(out / "test.source")[0].split()
        decoded = bpe.decode(lines_of(out / "test.source")[0].split())
        assert decoded == "<s2s_qd_a> <startQuestion> why ? --T-- really <P> a b c d"
        assert lines_of(out / "reference.target") == ["since e f"] * 3

    @pytest.mark.parametrize(
        "text, words",
        [
            ('[{"question": "q"', "is broken or incomplete"),
            ("{}", "must be a list of objects with question, document, answer"),
            (
                '[{"question": "q", "document": "d", "answer": "a"}, {"question": "q", "answer": "a"}]',
                "item 2: no document",
            ),
        ],
    )
    def test_damaged(self, tmp_path, text, words):
        self.make(tmp_path)
        (tmp_path / "explainlikeimfive_train.json").write_text(text)
        with pytest.raises(CorpusError, match=words):
            list(read_items(tmp_path / "explainlikeimfive_train.json"))

    @pytest.mark.skipif(not ELI5.is_file(), reason="the ELI5 examples are not here")
    def test_real(self):
        """The sources of question and document -> answer are the authors' own, but for the mark of a passage's end."""
        ours = [question_document(item).replace("<P>", "<D>").split() for item in read_items(ELI5)]
        theirs = [line.split() for line in lines_of(ELI5.parent / "examples.txt")]
        assert len(ours) == 10 and ours == theirs


class TestCnnDm:
    STORY = "(CNN)First sentence\n\nSecond one.\n\n@highlight\n\nA highlight\n\n@highlight\n\nAnother .\n"

    def stories(self, folder, urls=6):
        (folder / "url_lists").mkdir()
        for number, (split, site) in enumerate({"train": "cnn", "val": "dailymail", "test": "cnn"}.items()):
            names = [f"http://site/{number}/{i}" for i in range(urls)]
            (folder / "url_lists" / f"all_{split}.txt").write_text("".join(f"{name}\n" for name in names))
            (folder / site / "stories").mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / site / "stories" / f"{hashlib.sha1(name.encode()).hexdigest()}.story").write_text(self.STORY)
        return folder

    def test_stories(self, tmp_path):
        out = tmp_path / "text"
        run(
            "python",
            "-m",
            "fairseq_layerdrop.corpora.cnn_dm",
            self.stories(tmp_path),
            out,
            "--vocabulary",
            "45",
            "--words",
            "4",
        )
        bpe = sentencepiece.SentencePieceProcessor(model_file=str(out / "spm.model"))
        assert [bpe.decode(line.split()) for line in lines_of(out / "valid.source")] == [
            "(CNN)First sentence . Second"
        ] * 6
        assert [bpe.decode(line.split()) for line in lines_of(out / "valid.target")] == ["A highlight . Another ."] * 6
        assert lines_of(out / "reference.target") == ["A highlight . <q> Another ."] * 6

    def test_story_without_an_article_is_left_out(self, tmp_path):
        self.stories(tmp_path)
        next((tmp_path / "dailymail" / "stories").iterdir()).write_text("@highlight\nonly this")
        assert len(list(read_stories(tmp_path, "valid"))) == 5

    def test_missing_and_cut_stories(self, tmp_path):
        self.stories(tmp_path)
        story = next((tmp_path / "dailymail" / "stories").iterdir())
        story.write_text("cut off")
        with pytest.raises(CorpusError, match="no @highlight; broken or incomplete"):
            list(read_stories(tmp_path, "valid"))
        story.unlink()
        with pytest.raises(CorpusError, match=r"all_val\.txt, line \d: no .*\.story in"):
            list(read_stories(tmp_path, "valid"))

    @pytest.mark.parametrize(
        "line, words",
        [
            ("{", "line 2: no object"), ("[]", "line 2: no object"), ('{"article": 3}', "line 2: no object"),
            ('{"article": "a", "highlights": " "}', "line 2: article or highlights are empty"),
        ],
    )  # fmt: skip
    def test_damaged_json_lines(self, tmp_path, line, words):
        (tmp_path / "train.jsonl").write_text('{"article": "a", "highlights": "b"}\n' + line + "\n")
        with pytest.raises(CorpusError, match=words):
            list(read_jsonl(tmp_path / "train.jsonl"))

    @pytest.mark.skipif(not CNN_DM.is_file(), reason="the CNN/DailyMail articles are not here")
    def test_real(self):
        items = list(read_jsonl(CNN_DM))
        assert len(items) == 999 and all(highlights for _, highlights in items)


class TestWmt16:
    def test_archive(self, tmp_path):
        MAKERS["wmt16_en_de_archive"](tmp_path)
        out = tmp_path / "text"
        run("python", "-m", "fairseq_layerdrop.corpora.wmt16", tmp_path / "wmt16_en_de.tar.gz", out, "--items", "9999")
        counts = {path.name: len(lines_of(path)) for path in out.iterdir()}
        assert counts == {
            "train.en": 1200, "train.de": 1200, "valid.en": 24, "valid.de": 24, "test.en": 24, "test.de": 24,
            "reference.de": 24,
        }  # fmt: skip
        assert "@@ " in lines_of(out / "test.de")[0]
        assert lines_of(out / "reference.de") == [line.replace("@@ ", "") for line in lines_of(out / "test.de")]
        assert lines_of(out / "reference.de") == [german for _, german in make_pairs(24, 2)]

    def test_archive_must_be_whole(self, tmp_path):
        """4,500,966 lines are known; with --items nobody knows."""
        MAKERS["wmt16_en_de_archive"](tmp_path)
        archive = tmp_path / "wmt16_en_de.tar.gz"
        with pytest.raises(
            CorpusError, match=r"train.tok.clean.bpe.32000.en has 1,200 lines and should have 4,500,966"
        ):
            unpack(archive, tmp_path)
            copy_archive(tmp_path, tmp_path, None)
        archive.write_bytes(archive.read_bytes()[:-2000])
        with pytest.raises(CorpusError, match=r"wmt16_en_de.tar.gz: broken or incomplete archive"):
            unpack(archive, tmp_path)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(tmp_path / "newstest2013.tok.bpe.32000.en", "other")
        with pytest.raises(CorpusError, match=r"has no newstest2013.tok.bpe.32000.de; is it Google's"):
            unpack(archive, tmp_path)

    def test_raw_text_is_cleaned(self, tmp_path):
        sides = {
            "en": ["a b c", "", "a b c d", "a b c", "w " * 251, "one two three"],
            "de": ["d e f", "x", "x y", "x y", "w " * 251, "eins zwei drei"],
        }
        for split in ("train", "newstest2013", "newstest2014"):
            for lang, lines in sides.items():
                kept = lines if split == "train" else lines[:1]
                (tmp_path / f"{split}.{lang}").write_text("".join(f"{line}\n" for line in kept))
        out = tmp_path / "text"
        done = run("python", "-m", "fairseq_layerdrop.corpora.wmt16", tmp_path, out, "--vocabulary", "40")
        assert "train: 3 pairs" in done.stdout and "test: 1 pairs" in done.stdout
        bpe = sentencepiece.SentencePieceProcessor(model_file=str(out / "spm.model"))
        assert bpe.decode([line.split() for line in lines_of(out / "train.de")]) == ["d e f", "x y", "eins zwei drei"]

    def test_mistakes(self, tmp_path):
        with pytest.raises(CorpusError, match=r"no train.en in"):
            find_raw(tmp_path)
        (tmp_path / "x.en").write_text("a\nb\n")
        (tmp_path / "x.de").write_text("a\n")
        with pytest.raises(CorpusError, match=r"x.de is short: it ends before line 2"):
            list(read_pairs(tmp_path / "x"))


@pytest.mark.parametrize("benchmark", ["wikitext103", "cnn_dm", "eli5", "glue"])
def test_look_alikes_are_read(benchmark, tmp_path):
    MAKERS[benchmark](tmp_path)
    readers = {
        "wikitext103": lambda: lines_of(tmp_path / "wiki.train.tokens"),
        "cnn_dm": lambda: list(read_stories(tmp_path, "train")),
        "eli5": lambda: list(read_items(tmp_path / "explainlikeimfive_train.json")),
        "glue": lambda: list(glue.read_examples(tmp_path / "MRPC" / "train.tsv", glue.TASKS["MRPC"])),
    }
    assert len(readers[benchmark]()) >= 200
