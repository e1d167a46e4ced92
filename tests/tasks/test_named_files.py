"""A file that a command names and that isn't there."""

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.tasks.named_files import check_data, check_named_files
from tests.commands import LAYERDROP_TRANSLATION, NEEDS_FAIRSEQ_MAIN, ends_in_one_line, generate, run
from tests.tasks.test_readable_checkpoints import train


def training(folder, *flags):
    arguments = ["data", *LAYERDROP_TRANSLATION, "--arch", "layerdrop_transformer_tiny", "--save-dir", str(folder)]
    return options.parse_args_and_arch(options.get_training_parser(), [*arguments, *map(str, flags)])


def check(folder, *flags):
    check_named_files(convert_namespace_to_omegaconf(training(folder, *flags)))


def test_training_doesnt_begin_from_scratch(translation_data, tmp_path):
    done = train(translation_data, tmp_path, 1, "--restore-file", "none.pt", check=False)
    ends_in_one_line(done, "--restore-file: no such checkpoint: none.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flag",
    [
        "--restore-file",
        "--finetune-from-model",
        pytest.param("--continue-once", marks=NEEDS_FAIRSEQ_MAIN),
        "--encoder-embed-path",
        "--decoder-embed-path",
        "--quantization-config-path",
        "--ema-seed-model",
    ],
)
def test_of_a_training(tmp_path, flag):
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.touch()
    check(tmp_path, flag, there)
    with pytest.raises(UserError, match=f"^{flag}: no such (checkpoint|file): {missing}$"):
        check(tmp_path, flag, missing)


def test_where_a_training_goes_on(tmp_path):
    """The last checkpoint of the folder may be missing at first; from then on what it began with may."""
    last, flags = tmp_path / "checkpoint_last.pt", ("--finetune-from-model", tmp_path / "missing.pt")
    check(tmp_path)
    check(tmp_path, "--restore-file", last)
    last.touch()
    check(tmp_path, *flags)
    last.unlink()
    with pytest.raises(UserError):
        check(tmp_path, *flags)


def test_names_arent_looked_up_in_the_folder(tmp_path):
    (tmp_path / "checkpoint_best.pt").touch()
    with pytest.raises(UserError, match=f"in --save-dir there is, give {tmp_path}/checkpoint_best.pt$"):
        check(tmp_path, "--restore-file", "checkpoint_best.pt")


def test_addresses(tmp_path):
    """fairseq's reader of addresses isn't installed, and so would not find this one."""
    with pytest.raises(UserError, match=r"no such checkpoint: s3://bucket/model\.pt"):
        check(tmp_path, "--restore-file", "s3://bucket/model.pt")
    check(tmp_path, "--checkpoint-suffix=-shard0", "--restore-file", "model.pt")  # is model-shard0.pt


def test_data(tmp_path):
    check_data(f"{tmp_path}:{tmp_path.parent}")
    for missing in (tmp_path / "none", __file__):
        with pytest.raises(UserError, match=f"no such folder of binarised data: {missing}"):
            check_data(f"{tmp_path}:{missing}")


def test_of_other_commands(translation_data, checkpoint):
    done = generate(translation_data, "none.pt", *LAYERDROP_TRANSLATION, check=False)
    ends_in_one_line(done, "--path: no such file: none.pt")
    bpe = ("--bpe", "sentencepiece", "--sentencepiece-model", "none.model")
    done = generate(translation_data, checkpoint, *LAYERDROP_TRANSLATION, *bpe, check=False)
    ends_in_one_line(done, "--sentencepiece-model: no such file: none.model")
    done = run(
        "fairseq-interactive", translation_data, "--path", checkpoint, *LAYERDROP_TRANSLATION, "--cpu", "--input",
        "none.txt", check=False,
    )  # fmt: skip
    ends_in_one_line(done, "--input: no such file: none.txt")
    done = generate(translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--gen-subset", "tset", check=False)
    ends_in_one_line(done, f"no subset 'tset' in {translation_data}")
    done = generate("none", checkpoint, *LAYERDROP_TRANSLATION, check=False)
    ends_in_one_line(done, "no such folder of binarised data: none")
