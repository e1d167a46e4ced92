"""Texts that a metric would score wrongly, and the flags that mend it."""

import importlib.util

import pytest
import sacrebleu

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.evaluation import Metric, check_joinable, joined
from fairseq_layerdrop.evaluation.texts import check_joined, check_latin, joins, subwords_of, unicode_words
from tests.commands import ends_in_one_line, layerdrop

WORDS = ["the old bridge fell on monday", "nobody was hurt there"]
PIECES = {
    "sentencepiece": ["▁the ▁old ▁bri dge ▁fell ▁on ▁mon day", "▁no body ▁was ▁hurt ▁there"],
    "subword_nmt": ["the old bri@@ dge fell on mon@@ day", "no@@ body was hurt there"],
}
RUSSIAN = ["Премьер объявил, что выборы состоятся в июне.", "Мост упал в понедельник."]
DIGITS = ["١٢٣ ٤٥٦ ٧٨٩ ٠١٢.", "٣٢١ ٦٥٤"]
GERMAN = ["Die größere Brücke fällt.", "Über Nacht war für niemanden Platz."]


@pytest.fixture
def score(tmp_path):
    def of(hypotheses, references, *flags, check=True):
        for name, lines in {"h": hypotheses, "r": references}.items():
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        return layerdrop("score", "--hypotheses", tmp_path / "h", "--references", tmp_path / "r", *flags, check=check)

    return of


class TestSubwords:
    @pytest.mark.parametrize("how", PIECES)
    @pytest.mark.parametrize("metric", ["sacrebleu", "bleu", "rouge", "rouge-eli5"])
    def test_they_are_refused_or_joined(self, score, how, metric):
        flags = ("--metric", metric)
        expected = score(WORDS[::-1], WORDS, *flags).stdout
        for hypotheses, references in ((PIECES[how][::-1], PIECES[how]), (PIECES[how][::-1], WORDS)):
            ends_in_one_line(score(hypotheses, references, *flags, check=False), f"give --remove-bpe {how}, or none")
            assert score(hypotheses, references, *flags, "--remove-bpe", how).stdout == expected
        assert score(PIECES[how], PIECES[how], *flags, "--remove-bpe", "none").returncode == 0

    def test_one_mark_is_none(self):
        """A bar of a drawing, a hunk of a diff, and once in a while anything."""
        assert subwords_of(["load ▁▂▃▅▇ now"] * 5) is subwords_of(["@@ -1,3 +1,4 @@ def"] * 5) is None
        assert subwords_of([*WORDS * 60, "a@@ b"]) is subwords_of([*WORDS * 60, "▁ a"]) is None
        assert subwords_of([]) is None and subwords_of([*WORDS, "a@@"]) == "subword_nmt"

    @pytest.mark.parametrize(
        "piece, words",
        [
            ("Ġ{}", "--bpe gpt2, or the tokenizer of Hugging Face"),
            ("{}", "join them with --bpe gpt2,"),
            ("##a{} b c d e f g h", "WordPiece"),
            ("a￭ {}", "OpenNMT's tokenizer"),
        ],
    )
    def test_other_kinds_are_refused(self, score, piece, words):
        """They are joined by what made them; these are GPT-2's by letters and by numbers, BERT's and OpenNMT's."""
        lines = [" ".join(piece.format(1000 + 7 * number) for number in range(i, i + 5)) for i in range(20)]
        if "￭" in piece:
            lines = [line.replace("a￭ 10", "a￭ ￭b") for line in lines]
        ends_in_one_line(score(lines, lines, check=False), "these are subwords, not words", words)
        assert score(lines, lines, "--remove-bpe", "none").returncode == 0

    def test_texts_that_look_like_it(self):
        """Maltese words, headings of Markdown, and numbers among words or few of them."""
        check_joined(["Ġorġ u Ġanni marru l-baħar ma' Ġużeppi"] * 20)
        check_joined(["## Results", *WORDS * 20])
        check_joined([f"In {year} there were {year - 1900} of them" for year in range(1900, 2000)])
        check_joined(["1 2 3", "3 2 1", "4 5 6"])

    def test_nothing_to_join(self, score):
        done = score(WORDS, WORDS, "--remove-bpe", "sentencepiece", check=False)
        ends_in_one_line(done, "--remove-bpe sentencepiece: there are no such subwords to join; leave it out")
        assert joined([WORDS, WORDS], "none") == joined([WORDS, WORDS], None) == [WORDS, WORDS]

    def test_words_of_a_dictionary_are_not_joined(self):
        check_joinable(["▁the", "s"], "sentencepiece")
        check_joinable(["the"], "subword_nmt")
        check_joinable(["the"], None)
        assert joins(["▁the", "s"]) == "sentencepiece" and joins(["bri@@", "dge"]) == "subword_nmt"
        assert joins(["the", "bridge"]) is joins([*["the"] * 50, "▁"]) is joins([]) is None
        with pytest.raises(UserError, match="the dictionary has no subwords that sentencepiece joins"):
            check_joinable(["the", "s"], "sentencepiece")


class TestLetters:
    @pytest.mark.parametrize("text", [RUSSIAN, GERMAN, DIGITS], ids=["russian", "german", "digits"])
    def test_rouge_refuses_what_it_does_not_know(self, score, text):
        done = score(text, text, "--metric", "rouge", check=False)
        ends_in_one_line(done, "rouge-score knows only a to z and 0 to 9", "give --tokenizer unicode, or english")
        scores = score(text, text, "--metric", "rouge", "--tokenizer", "unicode").stdout
        assert scores.count("100.00") == 4 and "without stems" in scores
        assert "Porter stems" in score(text, text, "--metric", "rouge", "--tokenizer", "english").stdout

    def test_a_name_is_no_share(self):
        check_latin(["The café of José Muñoz was closed. " + "It had been open for a year, as many said. " * 12])
        check_latin([])
        with pytest.raises(UserError, match="100% of these are others, as in 'Премьер'"):
            check_latin(RUSSIAN)

    def test_words_of_any_script(self):
        assert unicode_words("Größe, U.S. can't: 3.14 (well-known)!") == [
            "grösse", "u.s", "can't", "3.14", "well", "known",
        ]  # fmt: skip
        assert unicode_words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
        assert unicode_words("今日は。") == ["今", "日", "は"]
        assert unicode_words("cafe\u0301") == unicode_words("café") == ["café"]

    def test_part_of_a_summary(self, score):
        """Two of three words: F1 of 4/5."""
        told = score(["Мост упал"], ["Мост вчера упал"], "--metric", "rouge", "--tokenizer", "unicode").stdout
        assert told.split()[1] == "80.00"


class TestSacrebleu:
    TEXT = (["今日は良い天気です。", "彼は本を読む。"], ["今日は天気です。", "彼は本を読んだ。"])

    @pytest.mark.parametrize("tokenize", ["zh", "char", "intl", "none"])
    def test_the_tokenizer_is_passed_on(self, score, tokenize):
        expected = sacrebleu.corpus_bleu(self.TEXT[0], [self.TEXT[1]], tokenize=tokenize).score
        told = score(*self.TEXT, "--tokenize", tokenize).stdout
        assert f"{expected:.2f}" in told and f"tok:{tokenize}" in told
        assert "tok:13a" in score(*self.TEXT).stdout

    @pytest.mark.skipif(importlib.util.find_spec("MeCab") is not None, reason="MeCab is installed")
    def test_one_that_is_not_installed(self, score):
        done = score(*self.TEXT, "--tokenize", "ja-mecab", check=False)
        ends_in_one_line(done, "sacreBLEU's tokenizer ja-mecab can't be had: ", "pip install")

    @pytest.mark.parametrize(
        "flags, words",
        [
            (("--metric", "bleu", "--tokenize", "zh"), "--tokenize is for sacrebleu, not for bleu"),
            (("--metric", "rouge-eli5", "--tokenizer", "unicode"), "--tokenizer is for rouge, not for rouge-eli5"),
            (("--metric", "perplexity", "--remove-bpe", "none"), "--remove-bpe is for sacrebleu, bleu"),
        ],
    )
    def test_of_another_metric(self, score, flags, words):
        ends_in_one_line(score(*self.TEXT, *flags, check=False), words)

    def test_a_metric_checks_before_it_scores(self):
        for given in ({"name": "rouge", "tokenize": "zh"}, {"name": "loss", "tokenizer": "unicode"}):
            with pytest.raises(UserError, match="is for"):
                Metric(**given)


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name, mark in {"h": "\ufeff", "r": ""}.items():
        (tmp_path / name).write_text(f"{mark}the old bridge fell\n", encoding="utf-8")
    assert "100.00" in layerdrop("score", "--hypotheses", tmp_path / "h", "--references", tmp_path / "r").stdout
