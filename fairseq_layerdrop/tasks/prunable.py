"""What fairseq tasks need to take ``--prune-layers``."""

import contextlib
import functools
import logging
import os
from dataclasses import field
from pathlib import Path

from fairseq import checkpoint_utils
from fairseq.models.ema import ema
from omegaconf import OmegaConf, open_dict

from ..plan import PlanError, UserError, drop_spec, parse, plan_to_dict, transformer_structure
from ..surgery import (
    HISTORY_KEY,
    SUBLAYERS_SETTING,
    build_pruned,
    complete_architecture,
    copy_config,
    has_structure,
    history_entry,
    history_in_words,
    load_checkpoint,
    model_structure,
    pruning_history,
    set_structure,
    slice_state_dict,
    state_structure,
)

logger = logging.getLogger(__name__)

# What fairseq-train goes on from.
_LAST = "checkpoint_last.pt"

# Stock task -> ours, filled by `prunable_version_of`.
_VERSIONS: dict[str, str] = {}

_HELP = (
    "keep only some layers of the model, for instance decoder=keep:3@every_other, encoder=drop:4,5/decoder=keep:0,2,4 "
    "(counted from 0), decoder=drop:3.self_attn,4.ffn or a plan file, plan.json"
)


def prune_layers_field():
    """The configuration field behind ``--prune-layers``, for a task's dataclass."""
    return field(default=None, metadata={"help": _HELP})


def _checked_spec(text: str) -> str:
    """*text*, if it is in the grammar; else the program ends here, before fairseq makes a configuration of it."""
    try:
        parse(text)
    except PlanError as error:
        raise SystemExit(error.code) from None  # argparse would print its usage for a ValueError
    return text


@contextlib.contextmanager
def _one_line(unless: bool):
    """End the program with one line for a user's mistake, *unless* the caller may want to catch it as an exception.

    In a training nobody does, but fairseq's trainer and hydra catch every exception and show tracebacks.
    """
    try:
        yield
    except UserError as error:
        if unless:
            raise
        raise SystemExit(error.code) from None


class PrunableTask:
    """Mixed into a fairseq task, before it among the bases: its models are built and loaded pruned.

    The task's configuration has a field ``prune_layers`` (see :func:`prune_layers_field`).
    """

    @classmethod
    def add_args(cls, parser):
        # fairseq leaves out the dataclass's own --prune-layers where the parser has one.
        parser.add_argument("--prune-layers", metavar="SPEC", type=_checked_spec, help=_HELP)
        super().add_args(parser)

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        if cfg.prune_layers is not None:
            with _one_line(unless=kwargs.get("from_checkpoint", False)):
                parse(cfg.prune_layers)  # tell of mistakes before any data is read
                run = cfg._get_parent() if OmegaConf.is_config(cfg) else None
                if run is not None and run.distributed_training.ddp_backend == "fully_sharded":
                    raise UserError("--prune-layers doesn't train with --ddp-backend fully_sharded; give pytorch_ddp")
        return super().setup_task(cfg, **kwargs)

    @property
    def _settings(self):
        return self.cfg or self.args  # legacy tasks keep their configuration in the latter

    def build_model(self, cfg, from_checkpoint=False):
        """Build the model, pruned where ``prune_layers`` asks for it.

        With *from_checkpoint* the caller's configuration stays as it is. Otherwise a training begins, of the small
        model: its configuration is then made to say so, since fairseq saves it with each checkpoint.

        Raises:
            PlanError: the plan doesn't fit the model.
        """

        def build(model_cfg):
            return super(PrunableTask, self).build_model(model_cfg, from_checkpoint)

        with _one_line(unless=from_checkpoint):
            prune_layers = self._settings.prune_layers
            if prune_layers is None and from_checkpoint:
                prune_layers = getattr(cfg, "prune_layers", None)  # of --model-overrides
            if prune_layers is None:
                model = build(cfg)
            else:
                if from_checkpoint:
                    cfg = copy_config(cfg)
                complete_architecture(cfg)
                model = build_pruned(build, cfg, parse(prune_layers))
            if not from_checkpoint:
                self._begin_training(cfg, getattr(model, "prune_plan", None))
        return model

    def _begin_training(self, cfg, plan) -> None:
        run = self._settings._get_parent() if OmegaConf.is_config(self._settings) else None
        if plan is not None:
            if plan.drops_sublayers and SUBLAYERS_SETTING not in cfg:
                raise UserError(
                    "sub-layers can be left out of layerdrop_ architectures only; give --arch layerdrop_…, which loads "
                    "the same checkpoints"
                )
            if not any("encoder_attn" in layer for layer in plan.pruned.get("decoder", ())) and any(
                "encoder_attn" in layer for layer in plan.full.get("decoder", ())
            ):
                raise UserError("no decoder layer keeps its encoder_attn, so the encoder could not be trained")
            set_structure(cfg, plan.pruned)
            if getattr(cfg, "prune_layers", None) is not None:  # a namespace has the whole command line
                cfg.prune_layers = None
            if run is not None:
                run.task.prune_layers = None
            logger.info(f"training a pruned model: {plan}")
        history = _history_of(run, cfg, plan)
        if history:
            self.state.merge_state_dict({HISTORY_KEY: history})


def _history_of(run, cfg, plan) -> list[dict]:
    """The pruning history of the model that a training begins with or goes on with, *plan* included.

    Raises:
        UserError: the training would go on with a model that was pruned otherwise.
    """
    start = _starting_point(run.checkpoint) if run is not None else None
    given = run.checkpoint.finetune_from_model if run is not None else None
    if start is None and given is not None and "://" not in given:
        raise UserError(f"--finetune-from-model: no such checkpoint: {given}")
    if start is None:
        if plan is not None:
            logger.warning(
                "the pruned model is trained from scratch: there is no checkpoint to take its layers from; "
                "--finetune-from-model gives one"
            )
        return []
    checkpoint = load_checkpoint(start)
    history = pruning_history(checkpoint)
    if plan is None:
        if history and not has_structure(checkpoint["model"], model_structure(cfg)):
            raise UserError(
                f"the model in {start} is pruned: {history_in_words(history)[-1]}; repeat its --prune-layers, or give "
                f"{_structure_flags(state_structure(checkpoint['model']))}"
            )
    elif plan.pruned != plan.full:
        if has_structure(checkpoint["model"], plan.full):
            if run.checkpoint.restore_file != _LAST and not run.checkpoint.reset_optimizer:
                raise UserError(
                    "the optimizer state of a full model doesn't fit a pruned one; with --restore-file give "
                    "--reset-optimizer --reset-lr-scheduler --reset-dataloader --reset-meters, or take "
                    "--finetune-from-model"
                )
            history.append(history_entry(plan, checkpoint, checkpoint["model"], start.name))
        elif history and history[-1]["plan"] != plan_to_dict(plan):
            raise UserError(
                f"the model in {start} is pruned otherwise: {history_in_words(history)[-1]}; "
                "repeat its --prune-layers, or give another --save-dir"
            )
    return history


def _structure_flags(structure) -> str:
    """The flags with which ``fairseq-train`` builds a model of this structure."""
    depths = {stack: len(layers) for stack, layers in structure.items()}
    flags = [f"--{stack}-layers {depth}" for stack, depth in depths.items()]
    lacks = drop_spec(transformer_structure(depths), structure)
    return " ".join(flags) + (f" --pruned-sublayers {lacks}" if lacks else "")


def _starting_point(settings) -> Path | None:
    """The file that fairseq's ``checkpoint_utils.load_checkpoint`` will load, if there is one."""
    if settings.restore_file != _LAST:
        candidates = [settings.restore_file]
    else:
        candidates = [Path(settings.save_dir, _LAST), settings.get("continue_once"), settings.finetune_from_model]
    return next((Path(path) for path in candidates if path is not None and os.path.isfile(path)), None)


def prunable_version_of(stock: str, ours: str) -> None:
    """Note that our task *ours* takes the place of *stock* where a checkpoint of the latter is to be pruned."""
    _VERSIONS[stock] = ours


def _prunable(name: str) -> str:
    if name not in _VERSIONS.values() and name not in _VERSIONS:
        raise UserError(f"prune_layers works with the tasks {', '.join(_VERSIONS)}, and this checkpoint's is {name}")
    return _VERSIONS.get(name, name)


def load_checkpoints_as_prunable() -> None:
    """Let ``prune_layers``, given when a checkpoint is loaded, reach checkpoints of stock fairseq.

    fairseq-validate and ``from_pretrained`` build the task that a checkpoint names, with the caller's options laid
    over it by name. A checkpoint from stock fairseq names a stock task, which has no ``prune_layers``, so the option
    would be lost without a word. fairseq has no hook there; this wraps the function that lays the options over.
    """
    load = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(load)
    def load_checkpoint_to_cpu(path, arg_overrides=None, *args, **kwargs):
        state = load(path, arg_overrides, *args, **kwargs)
        prune_layers = (arg_overrides or {}).get("prune_layers")
        if prune_layers is not None:
            parse(prune_layers)
            if state.get("args") is not None:
                state["args"].task = _prunable(state["args"].task)
            cfg = state["cfg"]
            with open_dict(cfg):
                cfg.task._name = _prunable(cfg.task._name)
                # for the task that the checkpoint names, and for one that the caller brings
                cfg.task.prune_layers = cfg.model.prune_layers = prune_layers
        return state

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def mend_averages() -> None:
    """Let ``--store-ema`` work with pruned models, and with pre-norm ones.

    With ``--ema-fp32`` fairseq keeps the average in 32 bits beside the model, by the names of parameters, and a pruned
    model would take those of other layers from a full one. And it leaves the ``version`` out of what it averages, so
    that it takes a pre-norm Transformer for an old one and drops its last norms. There are no hooks; this wraps the
    methods that fill the average and load it.
    """
    build, restore = ema.EMA.build_fp32_params, ema.EMA.restore

    @functools.wraps(build)
    def build_fp32_params(self, state_dict=None):
        plan = getattr(self.model, "prune_plan", None)
        if plan is not None and state_dict is not None and has_structure(state_dict, plan.full):
            state_dict = slice_state_dict(state_dict, plan)
        build(self, state_dict)

    @functools.wraps(restore)
    def restore_with_versions(self, state_dict, build_fp32_params=False):
        versions = {key: value for key, value in self.model.state_dict().items() if key.endswith("version")}
        restore(self, {**versions, **state_dict}, build_fp32_params)

    ema.EMA.build_fp32_params, ema.EMA.restore = build_fp32_params, restore_with_versions
