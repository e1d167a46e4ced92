"""The flags of fairseq's generator, as fairseq-generate reads them."""

import argparse

import pytest
from fairseq import options

from fairseq_layerdrop.cli.data_flags import add_generation_arguments
from fairseq_layerdrop.running.settings import SETTINGS


def parse(*words):
    parser = argparse.ArgumentParser()
    add_generation_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--remove-bpe",),
        ("--remove-bpe", "sentencepiece"),
        ("--post-process",),
        ("--beam", "2", "--lenpen", "2", "--no-repeat-ngram-size", "3", "--max-len-a", "1.5", "--unnormalized"),
        ("--temperature", "0.5", "--min-len", "2", "--max-len-b", "9", "--unkpen", "1", "--match-source-len"),
    ],
)
def test_as_fairseq_generate(words):
    told, expected = parse(*words), options.get_generation_parser().parse_args(words)
    assert {name: getattr(told, name) for name in SETTINGS} == {name: getattr(expected, name) for name in SETTINGS}
    assert told.remove_bpe == expected.post_process


@pytest.mark.parametrize("flag", ["--beam", "--no-repeat-ngram-size", "--max-len-b", "--min-len"])
def test_whole_numbers(flag, capsys):
    with pytest.raises(SystemExit):
        parse(flag, "2.5")
    assert capsys.readouterr().err.endswith(f"argument {flag}: invalid int value: '2.5'\n")
