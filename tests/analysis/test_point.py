from argparse import ArgumentParser, Namespace

import pytest
from fairseq.tasks import TASK_REGISTRY

from fairseq_layerdrop.analysis.point import medians, task_flags


def test_medians_over_rounds():
    assert medians([[1.0, 20.0], [3.0, 60.0]]) == [2.0, 40.0]
    assert medians([[1.0], [7.0], [3.0]]) == [3.0]


@pytest.mark.parametrize(
    "name, settings, flags",
    [
        ("translation", {"source_lang": None, "max_source_positions": 1024, "eval_bleu": True}, []),
        (
            "layerdrop_translation",
            {"source_lang": "b", "target_lang": "a", "left_pad_source": False, "left_pad_target": True},
            ["--source-lang", "b", "--target-lang", "a", "--left-pad-source", "--left-pad-target"],
        ),
        (
            "language_modeling",
            {"tokens_per_sample": 1024, "sample_break_mode": "none", "add_bos_token": True, "past_target": False},
            ["--sample-break-mode", "none", "--tokens-per-sample", "1024", "--add-bos-token"],
        ),
    ],
)
def test_task_flags_are_what_fairseq_reads_back(name, settings, flags):
    told = task_flags(Namespace(_name=name, **settings))
    assert told == flags
    parser = ArgumentParser()
    TASK_REGISTRY[name].add_args(parser)
    read = vars(parser.parse_args(["data", *told]))
    assert {key: read[key] for key in settings if key != "eval_bleu"} == {
        key: value for key, value in settings.items() if key != "eval_bleu"
    }
