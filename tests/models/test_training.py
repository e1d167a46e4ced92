"""What is refused when a training begins."""

import re
from argparse import Namespace

import pytest

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.models import check_training
from tests.commands import LAYERDROP_TRANSLATION, TRANSLATION, ends_in_one_line, run, said, train_lm
from tests.models.test_layerdrop_models import build, settings, tiny_settings

ALONE = Namespace(distributed_world_size=1, ddp_backend="pytorch_ddp")


class TestSchedules:
    """A schedule that nothing would read is refused; a model that was trained with it loads."""

    @pytest.mark.parametrize(
        "given, words",
        [
            ({"layerdrop_depth_schedule": "linear"}, "--layerdrop-depth-schedule is for LayerDrop, and no rate is"),
            ({"layerdrop_time_schedule": "progressive"}, "--layerdrop-time-schedule is for LayerDrop"),
            ({"layerdrop_warmup_updates": 9}, "--layerdrop-warmup-updates is for LayerDrop"),
            ({"layerdrop_gamma": 0.01}, "--layerdrop-gamma is for LayerDrop"),
            ({"layerdrop_gamma": 0.01, "decoder_layerdrop": 0.1}, "is for --layerdrop-time-schedule progressive"),
        ],
    )
    def test_unread(self, given, words):
        args = settings("layerdrop_transformer_tiny", **given)
        with pytest.raises(UserError, match=words):
            check_training(args, ALONE)
        build(args)

    @pytest.mark.parametrize("kind", ["layerdrop", "layerdrop_target_depth", "sublayerdrop", "headdrop"])
    def test_read(self, kind):
        given = {"layerdrop_time_schedule": "progressive", "layerdrop_gamma": 0.01, f"encoder_{kind}": 1}
        check_training(settings("layerdrop_transformer_tiny", **given), ALONE)

    def test_defaults(self):
        for rate in (0.0, 0.2):
            check_training(tiny_settings(rate, layerdrop_gamma=0.001), ALONE)
        check_training(settings("transformer_tiny", decoder_layerdrop=0.2), ALONE)

    def test_command(self, lm_data, tmp_path):
        done = train_lm(lm_data, tmp_path, 1, "--layerdrop-gamma", "0.01", check=False)
        ends_in_one_line(done, "--layerdrop-gamma is for --layerdrop-time-schedule progressive")
        train_lm(lm_data, tmp_path, 1, "--layerdrop-gamma", "0.01", "--layerdrop-time-schedule", "progressive")


class TestStockLayerDrop:
    """fairseq's own LayerDrop under our tasks is told of, and trains."""

    @pytest.mark.parametrize(
        "arch, words",
        [
            ("transformer_tiny", "--encoder-layerdrop of .* give --arch layerdrop_transformer_tiny for that"),
            ("transformer_vaswani_wmt_en_de_big", "give --arch layerdrop_transformer for that"),
            ("transformer_lm_gpt", "--decoder-layerdrop of .* give --arch layerdrop_transformer_lm for that"),
            ("roberta_large", "give --arch layerdrop_roberta_large for that"),
            ("bart_base", "--encoder-layerdrop and --decoder-layerdrop of .* there is none for it"),
        ],
    )
    def test_warns(self, arch, words, caplog):
        stacks = {"transformer_lm_gpt": ("decoder",), "bart_base": ("encoder", "decoder")}.get(arch, ("encoder",))
        rates = {f"{stack}_layerdrop": 0.2 for stack in stacks}
        check_training(Namespace(_name=arch, **rates), ALONE)
        assert re.search(f"{words}$", caplog.messages[-1]) and len(caplog.messages) == 1

    @pytest.mark.parametrize("arch, rate", [("transformer", 0), ("layerdrop_transformer", 0.2)])
    def test_needs_no_warning(self, arch, rate, caplog):
        check_training(Namespace(_name=arch, decoder_layerdrop=rate), ALONE)
        assert not caplog.messages

    def test_command(self, translation_data, tmp_path):
        done = run(
            "fairseq-train", translation_data, *LAYERDROP_TRANSLATION, "--arch", "transformer_tiny", *TRANSLATION,
            "--decoder-layerdrop", "0.2", "--max-update", "1", "--save-dir", tmp_path,
        )  # fmt: skip
        assert said(done).count("give --arch layerdrop_transformer_tiny for that") == 1
