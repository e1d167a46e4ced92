"""What a fairseq checkpoint tells of its model and of the training behind it."""

import copy
from argparse import Namespace
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ..plan import STACKS, ModelFacts, Plan, PlanFile, PruneSpec, Structure, plan_to_dict
from ..version import __version__
from .architectures import ExportError, settings_of_task, stock_task
from .checkpoint_file import load_checkpoint
from .config import (
    SUBLAYERS_SETTING,
    architecture_of,
    complete_architecture,
    model_facts,
    model_structure,
    not_a_transformer,
    settings_as_dict,
)
from .history import HISTORY_KEY, fingerprint
from .state import is_transformer, learned_importance, state_structure


class Checkpoint:
    """A fairseq checkpoint. Its settings are in ``cfg``, or in old ones and those of some models in ``args``.

    Attributes:
        content: as fairseq wrote it, with at least ``model`` (the state dict) and ``args`` or ``cfg``; isn't changed.
        name: name of its file.
    """

    def __init__(self, content: Mapping, name: str = ""):
        self.content = content
        self.name = name

    @classmethod
    def load(cls, path) -> "Checkpoint":
        """Read a checkpoint's file; see :func:`~fairseq_layerdrop.surgery.checkpoint_file.load_checkpoint`.

        Raises:
            CheckpointError: it is missing, damaged, unsafe or not fairseq's.
        """
        return cls(load_checkpoint(path), Path(path).name)

    def settings(self, section: str) -> dict:
        """A copy of the settings of ``model``, ``task`` or another section; of ``args``, which has no sections, all."""
        cfg = self.content.get("cfg")
        return copy.deepcopy(settings_as_dict(cfg[section] if cfg else self.content["args"]))

    @property
    def architecture(self) -> str:
        return architecture_of(Namespace(**self.settings("model"))) or "unknown"

    @property
    def task(self) -> str:
        """Name of the task that it was trained in; fairseq's default where it doesn't tell."""
        settings = self.settings("task")
        return (settings.get("_name") if self.content.get("cfg") else settings.get("task")) or "translation"

    @property
    def stock_task_settings(self) -> dict:
        """The settings of its task, for stock fairseq's version of that; old checkpoints tell its name alone."""
        settings = self.settings("task") if self.content.get("cfg") else {}
        known = {key: value for key, value in settings.items() if key not in self._not_of_stock}
        return {**known, "_name": stock_task(self.task)}

    @property
    def _not_of_stock(self) -> set[str]:
        """The settings of its task that stock fairseq's version of that hasn't."""
        return settings_of_task(self.task) - settings_of_task(stock_task(self.task))

    @property
    def flat_settings(self) -> Namespace:
        """The model's settings, complete, with those of its task where there is no setting of that name; a copy.

        This is what ``fairseq-train`` saves for its older models, and where tools for fairseq's checkpoints look.
        """
        flat = Namespace(**self.settings("model"))
        for name in self._not_of_stock:  # in a model's settings that are those of the whole command
            vars(flat).pop(name, None)
        flat._name = architecture_of(flat)
        complete_architecture(flat)
        for key, value in self.stock_task_settings.items():
            vars(flat).setdefault(key, value)
        return flat

    @property
    def weights(self) -> Mapping:
        """The state dict of its model."""
        return self.content["model"]

    @property
    def averaged_weights(self) -> Mapping:
        """The exponential moving average of its weights, which fairseq's ``--store-ema`` keeps.

        Raises:
            ExportError: it has none, or a part of one. (fairseq averages pre-norm Transformers without their last
                norms: it loads what it averages without the ``version`` that tells of them.)
        """
        average = (self.content.get("extra_state") or {}).get("ema")
        if not isinstance(average, Mapping):
            raise ExportError("this checkpoint has no averaged weights; leave out --ema")
        missing = sorted(key for key in self.weights if key not in average and not key.endswith("version"))
        if missing:
            raise ExportError(
                f"the averaged weights of this checkpoint are incomplete: fairseq's --store-ema left out {missing[0]}"
                + (f" and {len(missing) - 1} more" if missing[1:] else "")
                + "; leave out --ema"
            )
        return average

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of its weights; see :func:`~fairseq_layerdrop.surgery.history.fingerprint`."""
        return fingerprint(self.weights)

    @cached_property
    def structure(self) -> Structure:
        """Structure of its model: what its state dict holds, with the heads of which its settings tell.

        Raises:
            UserError: the model isn't a Transformer.
        """
        found = state_structure(self.weights)
        settings = self.flat_settings
        if found and getattr(settings, SUBLAYERS_SETTING, None):
            return model_structure(settings)
        if not is_transformer(self.weights):
            raise not_a_transformer(self.architecture)
        return {stack: found[stack] for stack in STACKS if stack in found}

    @property
    def importance(self) -> dict[str, tuple[float, ...]]:
        """The learned importance of each layer (Data Driven Pruning), by stack, of those that have any."""
        return learned_importance(self.weights)

    @property
    def facts(self) -> ModelFacts:
        """Head counts of its model, by its settings, and learned importances, by its weights."""
        return ModelFacts(model_facts(self.flat_settings).heads, self.importance)

    def plan(self, spec: PruneSpec | PlanFile | None) -> Plan:
        """The plan that *spec* makes for its model, by what its state dict holds; all is kept where it is None.

        Raises:
            PlanError: *spec* doesn't fit the model.
            UserError: the model isn't a Transformer.
        """
        return spec.resolve(self.structure, self.facts) if spec else Plan.whole(self.structure)

    @property
    def updates(self) -> int | None:
        """Number of training updates behind it; None where it doesn't tell."""
        return (self.content.get("optimizer_history") or [{}])[-1].get("num_updates")

    def has_ended(self, limits: Mapping | None = None) -> bool:
        """Whether the training that wrote it has come to an end.

        fairseq looks at some of its limits only after an update, and so makes another one when it is started again.

        Args:
            limits: ``max_update``, ``max_epoch`` and ``stop_time_hours``, as fairseq-train has them: 0 and None are
                none. By default those that the training itself had.
        """
        limits = self.settings("optimization") if limits is None else limits
        extra = self.content.get("extra_state") or {}
        finished_epochs = ((extra.get("train_iterator") or {}).get("epoch") or 1) - 1
        most_updates, most_epochs, hours = (limits.get(name) for name in ("max_update", "max_epoch", "stop_time_hours"))
        return bool(
            (most_updates and (self.updates or 0) >= most_updates)
            or (most_epochs and finished_epochs >= most_epochs)
            or (hours and hours > 0 and (extra.get("previous_training_time") or 0) / 3600 > hours)
        )

    @property
    def history(self) -> list[dict]:
        """How its model was pruned, oldest first, each time as :meth:`history_entry` gives it."""
        history = (self.content.get("task_state") or {}).get(HISTORY_KEY)
        return list(history) if isinstance(history, list) else []

    def history_entry(self, plan: Plan, ema: bool = False) -> dict:
        """What is noted when *plan* is applied to its weights, or with *ema* to their moving average."""
        return {
            "plan": plan_to_dict(plan),
            "checkpoint": self.name,
            "fingerprint": fingerprint(self.averaged_weights) if ema else self.fingerprint,
            "updates": self.updates,
            "ema": ema,
            "version": __version__,
        }
