"""Sentences: as pySBD has them, in pieces that bound its work."""

import json
import random
import re

import pysbd
import pytest
from pysbd.lang.english import English

from fairseq_layerdrop.evaluation.sentences import ITEMS, LENGTH, _English, in_sentences, pieces
from tests.commands import ROOT

CNN_DM = ROOT.parent / "shared" / "data" / "cnn_dm" / "cnn_dm_999.jsonl"


def of_pysbd(text):
    found = pysbd.Segmenter(language="en", clean=False).segment(text)
    return "\n".join(filter(None, map(str.strip, found)))


@pytest.mark.skipif(not CNN_DM.is_file(), reason="the CNN/DailyMail articles are not here")
def test_real_articles():
    """Each goes to pySBD in one piece and by rules that find the same; some are split by both."""
    items = [json.loads(line) for line in CNN_DM.read_text().splitlines()]
    texts = [item[name].replace("\n", " ") for item in items for name in ("article", "highlights")]
    assert len(texts) == 1998 and all(list(pieces(text)) == [text] for text in texts)
    ours, theirs = (re.compile(rules.NUMBERED_REFERENCE_REGEX) for rules in (_English, English))
    assert all(ours.sub(r"<\2\7>", text) == theirs.sub(r"<\2\7>", text) for text in texts)
    assert all(in_sentences(text) == of_pysbd(text) for text in texts[::20])


def test_the_rule_of_ours_finds_what_pysbds_does():
    """On all kinds of short texts, which pySBD's takes no time for."""
    ours, theirs = (re.compile(rules.NUMBERED_REFERENCE_REGEX) for rules in (_English, English))
    rng, found = random.Random(0), 0
    for _ in range(40_000):
        middle = "".join(rng.choices("12[], -.", k=rng.randint(1, 7)))
        text = rng.choice(("x.[", "x.", "x∯")) + middle + rng.choice(("] A", " A", "]", "][1] A"))
        assert [match.groups()[1:3:6] for match in ours.finditer(text)] == [
            match.groups()[1:3:6] for match in theirs.finditer(text)
        ]
        assert ours.sub(r"<\2\7>", text) == theirs.sub(r"<\2\7>", text)
        found += ours.search(text) is not None
    assert found > 1000


@pytest.mark.parametrize(
    "text",
    [
        "The cat sat there. " * 3000,
        "word " * 12_000,
        "x" * 60_000,
        "a) apples b) pears " * 400,
        "1. One. 2. Two. " * 500,
    ],
    ids=["sentences", "words", "letters", "letters as items", "numbers as items"],
)
def test_what_pysbd_gets_is_bounded(text):
    """So its work grows with the number of pieces, and that with the length."""
    parts = list(pieces(text))
    items = re.compile(r"(?:^|\s)(?:[a-z]\)|\d\.)")
    assert "".join(parts) == text
    assert max(map(len, parts)) <= LENGTH and max(len(items.findall(part)) for part in parts) <= ITEMS
    count = len(items.findall(text))
    assert len(parts) <= 2 * (len(text) // LENGTH + count // ITEMS) + 1


def test_long_texts_are_cut_between_sentences():
    text = 'He said: "We will be there." She agreed! And who was Mr. Smith? ' * 400
    assert len(list(pieces(text))) > 1
    sentences = in_sentences(text).split("\n")
    assert sentences[:3] * 400 == sentences


def test_ends_that_the_text_tells():
    assert in_sentences("One two.\rThree") == of_pysbd("One two.\rThree") == "One two.\nThree"
    assert in_sentences("<q>") == in_sentences("\r") == ""
