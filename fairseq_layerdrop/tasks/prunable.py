"""What fairseq tasks need to take ``--prune-layers``."""

import ast
import contextlib
import functools
from dataclasses import field
from typing import ClassVar

from fairseq.tasks import TASK_REGISTRY
from omegaconf import OmegaConf

from ..base.errors import UserError
from ..models import check_training
from ..modules import LayerImportance
from ..plan import parse
from ..surgery.build import build_pruned
from ..surgery.config import complete_architecture, copy_config
from ..surgery.history import HISTORY_KEY
from ..surgery.misfit import tell_misfits
from .best_metric import check_best_metric
from .fine_tuning import begin_training, starting_spec
from .lesson import log_students
from .named_files import check_data, check_named_files
from .self_teaching import Teaching
from .whole_subsets import WholeSubsets

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


class _Given:
    """The plans that one command line gives, as types of ``--prune-layers`` and ``--model-overrides``.

    fairseq-validate lays the latter over the former before anything of ours is called. For a text that isn't in the
    grammar, too, the program ends here: fairseq makes a configuration of it first.
    """

    def __init__(self):
        self.by_flag = self.by_overrides = None

    def _check(self, text: str) -> None:
        try:
            parse(text)
            if None not in (self.by_flag, self.by_overrides) and self.by_flag != self.by_overrides:
                raise UserError("--prune-layers and prune_layers of --model-overrides differ; give one of them")
        except UserError as error:
            raise SystemExit(error.code) from None  # argparse would print its usage for a ValueError

    def flag(self, text: str) -> str:
        self.by_flag = text
        self._check(text)
        return text

    def overrides(self, text: str) -> str:
        try:
            plan = ast.literal_eval(text).get("prune_layers")
        except (ValueError, SyntaxError, AttributeError):
            raise SystemExit(UserError(f"--model-overrides must be a dict in Python, not '{text}'").code) from None
        if plan is not None:
            self.by_overrides = str(plan)
            self._check(self.by_overrides)
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


class PrunableTask(WholeSubsets):
    """Mixed into a fairseq task, before it among the bases: its models are built and loaded pruned.

    The task's configuration has a field ``prune_layers`` (see :func:`prune_layers_field`).
    """

    learns_rates = True  # it tells the loss, which --decoder-layerdrop-learned needs
    teaching: Teaching | None = None
    metric_settings: ClassVar[dict[str, str]] = {}  # what it logs of sub-networks is of training alone

    @classmethod
    def add_args(cls, parser):
        given = _Given()
        # fairseq leaves out the dataclass's own --prune-layers where the parser has one.
        parser.add_argument("--prune-layers", metavar="SPEC", type=given.flag, help=_HELP)
        for action in parser._actions:
            if action.dest == "model_overrides":
                action.type = given.overrides
        super().add_args(parser)

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        from_checkpoint = kwargs.get("from_checkpoint", False)
        run = cfg._get_parent() if OmegaConf.is_config(cfg) else None
        with _one_line(unless=from_checkpoint):
            if cfg.prune_layers is not None:
                parse(cfg.prune_layers)  # tell of mistakes before any data is read
            check_data(cfg.data)
            if run is not None and not from_checkpoint:
                check_named_files(run)
            model = None if from_checkpoint or run is None else OmegaConf.select(run, "model")
            if model is not None:  # a training; when it builds its model, fairseq-train has asked for fairscale
                teaching = Teaching.of(cfg)
                needs = {} if teaching is None else teaching.needs
                check_training(model, run.distributed_training, pruned=cfg.prune_layers is not None, **needs)
        return super().setup_task(cfg, **kwargs)

    @property
    def gives_plans(self) -> bool:
        """Whether the training tells the layers of its model what to skip."""
        return self.teaching is not None and bool(self.teaching.plans)

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
            if not from_checkpoint and run is not None:
                self.teaching = Teaching.of(self._settings)
            prune_layers = self._settings.prune_layers
            if prune_layers is None and from_checkpoint:
                prune_layers = getattr(cfg, "prune_layers", None)  # of --model-overrides
            if prune_layers is None:
                model = build(cfg)
                if not from_checkpoint:
                    tell_misfits(model)
            else:
                if from_checkpoint:
                    cfg = copy_config(cfg)
                complete_architecture(cfg)
                spec, importance = parse(prune_layers), None
                if not from_checkpoint:
                    spec, importance = starting_spec(run, spec)
                model = build_pruned(build, cfg, spec, importance)
            if not from_checkpoint:
                if run is not None:
                    check_best_metric(run, self, model)
                history = begin_training(run, cfg, getattr(model, "prune_plan", None))
                self.state.merge_state_dict({HISTORY_KEY: history} if history else {})
                if self.teaching is not None:
                    self.teaching.begin(model, cfg)
        return model

    def load_dataset(self, split, *args, **kwargs):
        """fairseq's; a subset that isn't there ends a command with one line.

        Raises:
            UserError: there is no such subset.
        """
        try:
            super().load_dataset(split, *args, **kwargs)
        except FileNotFoundError as error:
            with _one_line(unless=False):
                raise UserError(f"no subset '{split}' in {self._settings.data}") from error

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """One micro-batch of a training; its loss goes through what learns LayerDrop rates, and to sub-networks."""

        def step(criterion):
            return super(PrunableTask, self).train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

        if self.teaching is not None:
            with _one_line(unless=False):
                return self.teaching.train_step(step, sample, model, criterion, update_num)
        importances = [module for module in model.modules() if isinstance(module, LayerImportance)]
        return step(functools.partial(_joined_loss, criterion, importances) if importances else criterion)

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        log_students(logging_outputs)


def prunable_version_of(stock: str, ours: str) -> None:
    """Note that our task *ours* takes the place of *stock* where a checkpoint of the latter is to be pruned."""
    _VERSIONS[stock] = ours


def prunable_task(name: str) -> str:
    """Name of the task that takes ``--prune-layers`` in place of the one of that name.

    Raises:
        UserError: there is none.
    """
    ours = _VERSIONS.get(name, name)
    if not issubclass(TASK_REGISTRY.get(ours, object), PrunableTask):
        known = ", ".join(_VERSIONS)
        raise UserError(
            f"prune_layers works with the tasks {known} and those derived from ours, and this checkpoint's is {name}"
        )
    return ours
