"""The flags of a checkpoint's training: fairseq's own parser makes the checkpoint's settings of them."""

import re
import shlex
from argparse import Namespace

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

from fairseq_layerdrop.recipes.checkpoint_flags import checkpoint_config, training_flags
from fairseq_layerdrop.surgery.checkpoint import Checkpoint
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.config import complete_architecture
from tests.commands import NEEDS_FAIRSEQ_MAIN, ROOT, USER_DIR, ends_in_one_line, generate, layerdrop, run, said

# What belongs to the machine, or to other commands.
MACHINE = {
    "device_id", "distributed_init_method", "distributed_no_spawn", "distributed_num_procs", "distributed_port",
    "distributed_rank", "nprocs_per_node", "user_dir",
}  # fmt: skip
OTHERS = {"common_eval", "eval_lm", "generation", "interactive"}


def parsed(arguments):
    """The configuration that fairseq-train makes of its arguments."""
    args = options.parse_args_and_arch(options.get_training_parser(), list(map(str, arguments)))
    complete_architecture(args)  # as models do when they are built
    return OmegaConf.to_container(convert_namespace_to_omegaconf(args), enum_to_str=True)


def flags_of(path, *arguments):
    return shlex.split(layerdrop("flags", path, *arguments).stdout)


def settings(cfg):
    """All that a training depends on, of its configuration; of namespaces what no other section tells."""
    sections = {name: part for name, part in cfg.items() if name not in OTHERS and part is not None}
    elsewhere = {field for part in sections.values() if isinstance(part, dict) for field in part} - {"_name"}
    told = {}
    for name, part in sections.items():
        fields = vars(part) if isinstance(part, Namespace) else part
        if isinstance(fields, dict):
            flat = isinstance(part, Namespace)
            told[name] = {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in fields.items()
                if key not in MACHINE and not (flat and key in elsewhere)
            }
    return told


@pytest.mark.parametrize("which", ["checkpoint", "stock_checkpoint", "masked_lm", "classifier"])
def test_are_those_of_the_checkpoint(request, which):
    path = request.getfixturevalue(which)
    cfg = torch.load(path)["cfg"]
    again = parsed(flags_of(path))
    assert settings(again) == settings(cfg)
    ours = which != "stock_checkpoint"
    assert again["common"]["user_dir"] == (USER_DIR if ours else None)


TRANSLATION = ("data", "--user-dir", USER_DIR, "--task", "layerdrop_translation", "--arch")
LANGUAGE = ("data", "--user-dir", USER_DIR, "--task", "layerdrop_language_modeling", "--arch")


@pytest.mark.parametrize(
    "arguments",
    [
        # The decoder's width would follow the encoder's, and the flag is one that fairseq has by default, too.
        (*TRANSLATION, "layerdrop_transformer", "--encoder-ffn-embed-dim", "64", "--decoder-ffn-embed-dim", "2048"),
        (
            *TRANSLATION, "layerdrop_transformer_wmt_en_de", "--optimizer", "adam", "--adam-betas", "(0.9, 0.98)",
            "--lr", "0.1,0.2", "--update-freq", "2,3", "--lr-scheduler", "inverse_sqrt", "--warmup-init-lr", "1e-07",
            "--left-pad-source", "--eval-bleu", "--eval-bleu-args", '{"beam": 4, "lenpen": 0.6}',
            "--eval-bleu-remove-bpe", "--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1",
            "--keep-last-epochs", "3", "--patience", "-1", "--encoder-layerdrop-rates", "0,0.1,0.2,0.3,0.4,0.5",
            "--max-tokens", "4000", "--batch-size-valid", "8", "--seed", "5", "--decoder-layerdrop", "0.2",
            "--store-ema", "--tensorboard-logdir", "a folder/with 'quotes'", "--fp16", "--bpe", "subword_nmt",
            "--bpe-codes", "codes",
        ),
        # A setting that the architecture has otherwise than its dataclass.
        (*LANGUAGE, "layerdrop_transformer_lm_wiki103", "--decoder-layers", "6", "--dropout", "0.1", "--max-update",
         "286000", "--tokens-per-sample", "512", "--sample-break-mode", "none", "--criterion", "adaptive_loss",
         "--optimizer", "nag", "--clip-norm", "0.1", "--activation-dropout", "0.0"),
    ],
)  # fmt: skip
def test_of_any_training(arguments):
    cfg = parsed(arguments)
    printed, left = training_flags(checkpoint_config(Checkpoint({"cfg": cfg})), {})
    assert settings(parsed(printed)) == settings(cfg) and not left


def test_of_an_old_checkpoint(checkpoint, tmp_path):
    """With the arguments of the command line, some by names of their time, and without those that came later."""
    cfg = torch.load(checkpoint)["cfg"]
    args = Namespace(**{**vars(cfg["model"]), "max_sentences": 12, "min_lr": 1e-9})
    for name in ("batch_size", "batch_size_valid", "max_tokens_valid", "stop_min_lr", "tpu", "store_ema", "scoring"):
        delattr(args, name)
    torch.save({"args": args, "model": torch.load(checkpoint)["model"]}, tmp_path / "old.pt")
    expected = settings(cfg)
    expected["dataset"].update(batch_size=12, batch_size_valid=12)
    expected["optimization"]["stop_min_lr"] = 1e-9
    assert settings(parsed(flags_of(tmp_path / "old.pt"))) == expected


def test_overrides(checkpoint):
    """They take precedence wherever the setting was noted."""
    assert load_checkpoint(checkpoint)["cfg"]["common"]["seed"] == 3
    changed = parsed(
        flags_of(checkpoint, "common.seed=7", "optimization.lr=[0.5]", "dataset.max_tokens=99", "model.dropout=0.3")
    )
    assert changed["common"]["seed"] == changed["model"].seed == 7
    assert changed["optimization"]["lr"] == changed["optimizer"]["lr"] == [0.5]
    assert changed["dataset"]["max_tokens"] == changed["dataset"]["max_tokens_valid"] == 99
    assert changed["model"].dropout == 0.3
    fitted = parsed(flags_of(checkpoint, "--gpus", "2"))
    assert fitted["optimization"]["update_freq"] == [1]
    assert fitted["distributed_training"]["distributed_world_size"] == 2


def test_another_optimizer(checkpoint):
    """Nothing is told to be lost that isn't: what the other one doesn't know is off, or stands elsewhere."""
    done = layerdrop("flags", checkpoint, "optimizer._name=sgd")
    assert "--optimizer sgd" in done.stdout and done.stderr == ""


class TestPruned:
    """A training that begins with the checkpoint."""

    def test_is_trained(self, checkpoint, tmp_path):
        """By the documentation's command."""
        page = (ROOT / "docs/guide/fine-tuning.md").read_text()
        [line] = re.findall(r"\$\(fairseq-layerdrop flags checkpoint_best\.pt (.*?)\)", page, re.DOTALL)
        out, words = tmp_path / "tuned", line.replace("\\\n", "").split()
        flags = flags_of(checkpoint, *words, f"checkpoint.save_dir={out}", "optimization.max_update=1")
        done = run("fairseq-train", *flags)
        assert "decoder 3 of 6 layers (0,2,4)" in said(done)
        [entry] = load_checkpoint(out / "checkpoint_last.pt")["task_state"]["pruning_history"]
        assert entry["checkpoint"] == checkpoint.name
        assert "H-0" in generate(flags[0], out / "checkpoint_last.pt", "--user-dir", USER_DIR).stdout

    def test_of_stock_fairseq(self, stock_checkpoint):
        """It takes our task; and our architecture, where sub-layers are left out."""
        whole = parsed(flags_of(stock_checkpoint, "--prune-layers", "drop:1-1", "checkpoint.save_dir=x"))
        assert whole["task"]["_name"] == "layerdrop_translation" and whole["model"]._name == "transformer_tiny"
        assert whole["checkpoint"]["finetune_from_model"] == str(stock_checkpoint)
        assert whole["common"]["user_dir"] == USER_DIR and whole["model"].decoder_layers == 6
        parts = parsed(flags_of(stock_checkpoint, "--prune-layers", "drop:1.ffn", "checkpoint.save_dir=x"))
        assert parts["model"]._name == "layerdrop_transformer_tiny"

    def test_what_excludes_it_is_gone(self, checkpoint, tmp_path):
        """The training itself had begun with another file."""
        state = torch.load(checkpoint)
        state["cfg"]["checkpoint"].update(restore_file="other.pt", reset_optimizer=True, reset_meters=True)
        torch.save(state, tmp_path / "restored.pt")
        cfg = parsed(flags_of(tmp_path / "restored.pt", "--prune-layers", "drop:1-1", "checkpoint.save_dir=x"))
        assert cfg["checkpoint"]["restore_file"] == "checkpoint_last.pt"
        assert not cfg["checkpoint"]["reset_optimizer"] and not cfg["checkpoint"]["reset_meters"]

    @NEEDS_FAIRSEQ_MAIN
    def test_of_a_configuration(self):
        cfg = parsed(flags_of("configs/multi30k/layerdrop.yaml", "--prune-layers", "keep:3@top"))
        assert cfg["task"]["prune_layers"] == "keep:3@top"


class TestMistakes:
    @pytest.mark.parametrize(
        "arguments, words",
        [
            (("--prune-layers", "drop:1-1"), "has the whole model; give the pruned one another folder"),
            (("--prune-layers", "drop:9-9"), "layers 0-5, not 9"),
            (("--prune-layers", "every"), "must start with keep: or drop:"),
            (("optimization.max_updates=3",), "optimization has no setting 'max_updates'"),
            (("optimisation.max_update=3",), "unknown section 'optimisation'; the sections are "),
            (("max_update=3",), "'max_update=3' is not SECTION.FIELD=VALUE"),
            (("model._name=nonsense",), "unknown architecture 'nonsense'; give common.user_dir=DIR"),
            (("common.user_dir=none",), "can't import --user-dir none"),
            (("--prune-layers", "drop:1-1", "task.prune_layers=drop:2-2"), "--prune-layers sets task.prune_layers"),
            (
                ("--prune-layers", "drop:1-1", "checkpoint.finetune_from_model=x.pt"),
                "--prune-layers sets checkpoint.finetune_from_model; leave one of them out",
            ),
        ],
    )
    def test_arguments(self, checkpoint, arguments, words):
        ends_in_one_line(layerdrop("flags", checkpoint, *arguments, check=False), words)

    def test_files(self, checkpoint, tmp_path):
        part, other = tmp_path / "part.pt", tmp_path / "other.bin"
        part.write_bytes(checkpoint.read_bytes()[:5000])
        other.write_bytes(b"\xff\xfe\x00")
        ends_in_one_line(layerdrop("flags", part, check=False), "part.pt is damaged or not a checkpoint")
        ends_in_one_line(layerdrop("flags", other, check=False), "is neither a configuration nor a checkpoint")
