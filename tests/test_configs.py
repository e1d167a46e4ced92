"""Every configuration trains: fairseq-hydra-train on tiny data, and the pruned model translates."""

import shutil

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_layerdrop.surgery import load_checkpoint
from tests.commands import EVALUATE, NEEDS_FAIRSEQ_MAIN, ROOT, USER_DIR, run

CONFIGS = sorted((ROOT / "configs").glob("*/*.yaml"))


@NEEDS_FAIRSEQ_MAIN
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_trains(config, translation_data, tmp_path):
    data = tmp_path / "data-bin"  # the binarised files carry their languages in their names
    data.mkdir()
    for path in translation_data.iterdir():
        name = path.name.replace("a-b.a.", "en-de.en.").replace("a-b.b.", "en-de.de.")
        shutil.copy(path, data / name.replace("dict.a", "dict.en").replace("dict.b", "dict.de"))
    run(
        "fairseq-hydra-train", "--config-dir", config.parent, "--config-name", config.stem,
        f"common.user_dir={USER_DIR}", "common.seed=7", f"task.data={data}", f"checkpoint.save_dir={tmp_path / 'save'}",
        f"hydra.run.dir={tmp_path}", "dataset.max_tokens=200", "optimization.max_epoch=1",
    )  # fmt: skip
    saved = load_checkpoint(tmp_path / "save" / "checkpoint_best.pt")
    rate = 0.2 if config.stem == "layerdrop" else 0.0
    model = saved["cfg"]["model"]
    assert (model["encoder_layerdrop"], model["decoder_layerdrop"], model["seed"]) == (rate, rate, 7)
    assert all(torch.isfinite(tensor).all() for tensor in saved["model"].values())
    done = run(
        "fairseq-generate", data, "--user-dir", USER_DIR, "--task", "layerdrop_translation", "--path",
        tmp_path / "save" / "checkpoint_best.pt", "--prune-layers", "keep:3@every_other", *EVALUATE,
    )  # fmt: skip
    assert "Translated 16 sentences" in done.stdout + done.stderr


def test_baseline_differs_in_layerdrop_alone():
    ours, baseline = (OmegaConf.load(ROOT / f"configs/multi30k/{name}.yaml") for name in ("layerdrop", "baseline"))
    for cfg in (ours, baseline):
        del cfg.model.encoder_layerdrop, cfg.model.decoder_layerdrop, cfg.checkpoint.save_dir, cfg.hydra.run.dir
    assert ours == baseline
