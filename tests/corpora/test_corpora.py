"""Corpora: what is written, and what is refused."""

import pytest
import sentencepiece

from fairseq_layerdrop.corpora.number_words import make_pairs
from fairseq_layerdrop.corpora.parallel import CorpusError, read_parallel
from tests.commands import ROOT, run

MULTI30K = ROOT.parent / "shared" / "data" / "multi30k"


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
