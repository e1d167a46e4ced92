"""What fairseq tasks need to take ``--prune-layers``."""

import contextlib
import functools
from dataclasses import field

from fairseq import checkpoint_utils
from omegaconf import OmegaConf, open_dict

from ..models import check_training
from ..modules import LayerImportance
from ..plan import PlanError, UserError, parse
from ..surgery import (
    HISTORY_KEY,
    IMPORTANCE_SETTING,
    build_pruned,
    complete_architecture,
    copy_config,
    learned_importance,
    task_settings,
)
from .fine_tuning import begin_training, starting_spec

# Stock task -> ours, filled by `prunable_version_of`.
_VERSIONS: dict[str, str] = {}

_HELP = (
    "keep only some layers of the model, for instance decoder=keep:3@every_other, encoder=drop:4,5/decoder=keep:0,2,4 "
    "(counted from 0; one alone is 3-3), decoder=drop:3.self_attn,4.ffn,5.self_attn.head2, decoder=keep:3@learned, a "
    "ladder as in decoder=keep:3@order.json or a plan file, plan.json"
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


def _joined_loss(criterion, importances, model, sample):
    """What fairseq's *criterion* gives, with the loss joined to learned importances."""
    loss, sample_size, logging_output = criterion(model, sample)
    for importance in importances:
        loss = importance.join(loss, sample_size)
    return loss, sample_size, logging_output


class PrunableTask:
    """Mixed into a fairseq task, before it among the bases: its models are built and loaded pruned.

    The task's configuration has a field ``prune_layers`` (see :func:`prune_layers_field`).
    """

    learns_rates = True  # it tells the loss, which --decoder-layerdrop-learned needs

    @classmethod
    def add_args(cls, parser):
        # fairseq leaves out the dataclass's own --prune-layers where the parser has one.
        parser.add_argument("--prune-layers", metavar="SPEC", type=_checked_spec, help=_HELP)
        super().add_args(parser)

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        from_checkpoint = kwargs.get("from_checkpoint", False)
        run = cfg._get_parent() if OmegaConf.is_config(cfg) else None
        with _one_line(unless=from_checkpoint):
            if cfg.prune_layers is not None:
                parse(cfg.prune_layers)  # tell of mistakes before any data is read
            model = None if from_checkpoint or run is None else OmegaConf.select(run, "model")
            if model is not None:  # a training; when it builds its model, fairseq-train has asked for fairscale
                check_training(model, run.distributed_training, pruned=cfg.prune_layers is not None)
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

        run = self._settings._get_parent() if OmegaConf.is_config(self._settings) else None
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
                spec, importance = parse(prune_layers), None
                if not from_checkpoint:
                    spec, importance = starting_spec(run, spec)
                model = build_pruned(build, cfg, spec, importance)
            if not from_checkpoint:
                history = begin_training(run, cfg, getattr(model, "prune_plan", None))
                self.state.merge_state_dict({HISTORY_KEY: history} if history else {})
        return model

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """One pass of a training; its loss goes through what learns LayerDrop rates."""
        importances = [module for module in model.modules() if isinstance(module, LayerImportance)]
        if importances:
            criterion = functools.partial(_joined_loss, criterion, importances)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)


def prunable_version_of(stock: str, ours: str) -> None:
    """Note that our task *ours* takes the place of *stock* where a checkpoint of the latter is to be pruned."""
    _VERSIONS[stock] = ours


def _prunable(name: str) -> str:
    if name not in _VERSIONS.values() and name not in _VERSIONS:
        raise UserError(f"prune_layers works with the tasks {', '.join(_VERSIONS)}, and this checkpoint's is {name}")
    return _VERSIONS.get(name, name)


def our_task(checkpoint) -> str:
    """Name of the task that takes ``--prune-layers`` for a checkpoint.

    Raises:
        UserError: there is none for the checkpoint's own task.
    """
    return _prunable(task_settings(checkpoint)["_name"])


def load_checkpoints_as_prunable() -> None:
    """Let ``prune_layers``, given when a checkpoint is loaded, reach checkpoints of stock fairseq and learned plans.

    fairseq-validate and ``from_pretrained`` build the task that a checkpoint names, with the caller's options laid
    over it by name. A checkpoint from stock fairseq names a stock task, which has no ``prune_layers``, so the option
    would be lost without a word. fairseq has no hook there; this wraps the function that lays the options over.
    """
    load = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(load)
    def load_checkpoint_to_cpu(path, arg_overrides=None, *args, **kwargs):
        state = load(path, arg_overrides, *args, **kwargs)
        importance = learned_importance(state.get("model") or {})
        if importance:  # models are built before they see their weights
            with open_dict(state["cfg"]):
                setattr(state["cfg"].model, IMPORTANCE_SETTING, importance)
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
