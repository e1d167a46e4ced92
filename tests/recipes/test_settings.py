"""The settings that are noted are those of the fairseq that is installed."""

import json

import pytest

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.recipes.fairseq_settings import settings_of, snapshot
from fairseq_layerdrop.recipes.settings import SNAPSHOT, known_settings
from tests.commands import NEEDS_FAIRSEQ_MAIN


@NEEDS_FAIRSEQ_MAIN
def test_noted():
    """If not: python -m fairseq_layerdrop.recipes.fairseq_settings"""
    assert json.loads(SNAPSHOT.read_text()) == snapshot()


@pytest.mark.parametrize(
    "section, name",
    [("optimization", None), ("model", "layerdrop_transformer_wmt_en_de_big"), ("task", "layerdrop_translation")],
)
def test_noted_or_not(section, name):
    assert known_settings(section, name) == settings_of(section, name)


def test_what_is_not_noted():
    settings = known_settings("task", "masked_lm")
    assert settings["shorten_method"] is True and settings["mask_whole_words"] is False  # "none", and no switch
    with pytest.raises(UserError, match="unknown section 'nothing'"):
        known_settings("nothing", None)
    with pytest.raises(UserError, match="unknown architecture 'nothing'"):
        known_settings("model", "nothing")
