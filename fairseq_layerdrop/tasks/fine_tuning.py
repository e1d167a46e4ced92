"""What begins when ``fairseq-train`` trains a pruned model."""

import logging
import os
from pathlib import Path

from ..base.errors import UserError
from ..plan import Plan, PlanFile, PruneSpec, drop_spec, plan_from_dict, plan_to_dict, transformer_structure
from ..surgery.checkpoint import Checkpoint
from ..surgery.config import SUBLAYERS_SETTING, model_structure, set_plan
from ..surgery.history import history_in_words
from ..surgery.stack_settings import all_stack_settings
from ..surgery.state import has_structure
from .named_files import LAST

logger = logging.getLogger(__name__)

# Settings that change what a model computes with the same weights.
_MEANINGS = (
    "activation_fn", "decoder_attention_heads", "decoder_normalize_before", "encoder_attention_heads",
    "encoder_normalize_before", "no_scale_embedding",
)  # fmt: skip


def begin_training(run, cfg, plan: Plan | None) -> list[dict]:
    """Make a run's configuration that of the small model, and tell how its model came to be.

    Args:
        run: configuration of the whole run; None where there is none (tasks set up by other programs).
        cfg: configuration of its model, built as *plan* says; fairseq saves it with each checkpoint.
        plan: what is kept of the model that it describes; None where no ``--prune-layers`` was given.

    Returns:
        the pruning history, *plan* included, of the model that the training begins with or goes on with.

    Raises:
        UserError: the plan can't be trained or noted, or the training would go on with a model pruned otherwise.
    """
    if plan is not None:
        if plan.drops_sublayers and SUBLAYERS_SETTING not in cfg:
            raise UserError(
                "sub-layers and heads can be left out of layerdrop_ architectures only; give --arch layerdrop_…, which "
                "loads the same checkpoints"
            )
        decoders = (structure.get("decoder", ()) for structure in (plan.full, plan.pruned))
        had, has = (any(layer.find("encoder_attn") for layer in layers) for layers in decoders)
        if had and not has:
            raise UserError("no decoder layer keeps its encoder_attn, so the encoder could not be trained")
        lost_heads = any(part.heads for layers in plan.pruned.values() for layer in layers for part in layer)
        if lost_heads and getattr(cfg, "quant_noise_pq", None):
            raise UserError("a model without some of its heads doesn't train with --quant-noise-pq; leave it out")
        set_plan(cfg, plan)
        if getattr(cfg, "prune_layers", None) is not None:  # a namespace has the whole command line
            cfg.prune_layers = None
        if run is not None:
            run.task.prune_layers = None
        logger.info(f"training a pruned model: {plan}")
    return _history_of(run, cfg, plan)


def _history_of(run, cfg, plan) -> list[dict]:
    """The pruning history of the model that a training begins with or goes on with, *plan* included.

    Raises:
        UserError: the training would go on with a model that was pruned otherwise.
    """
    start = _starting_point(run.checkpoint) if run is not None else None
    if start is None:
        if plan is not None:
            logger.warning(
                "the pruned model is trained from scratch: there is no checkpoint to take its layers from; "
                "--finetune-from-model gives one"
            )
        return []
    checkpoint = Checkpoint.load(start)
    history = checkpoint.history
    goes_on = _takes_optimizer_state(run.checkpoint, checkpoint)
    if plan is None:
        # Of models that are neither ours nor pruned, fairseq itself tells what doesn't fit.
        ours = history or SUBLAYERS_SETTING in cfg
        if ours and not has_structure(checkpoint.weights, model_structure(cfg)):
            what = f"is pruned: {history_in_words(history)[-1]}" if history else "is of another shape"
            raise UserError(
                f"the model in {start} {what}; {'repeat its --prune-layers, or ' if history else ''}give "
                f"{_structure_flags(checkpoint.structure)}"
            )
    elif plan.pruned != plan.full:
        checkpoint.structure  # noqa: B018 - tells of a model that isn't a Transformer
        if has_structure(checkpoint.weights, plan.full):
            if goes_on:
                raise UserError(
                    "the optimizer state of a full model doesn't fit a pruned one; with --restore-file give "
                    "--reset-optimizer --reset-lr-scheduler --reset-dataloader --reset-meters, or take "
                    "--finetune-from-model and another --save-dir"
                )
            history.append(checkpoint.history_entry(plan))
        elif history and history[-1]["plan"] != plan_to_dict(plan):
            raise UserError(
                f"the model in {start} is pruned otherwise: {history_in_words(history)[-1]}; "
                "repeat its --prune-layers, or give another --save-dir"
            )
    if goes_on:
        _check_importance(cfg, start, checkpoint)
    _tell_of_other_settings(cfg, start, checkpoint)
    return history


def _tell_of_other_settings(cfg, start: Path, checkpoint: Checkpoint) -> None:
    """Warn where the weights of *start* fit the model and mean something else in it."""
    before = checkpoint.flat_settings
    for name in _MEANINGS:
        was, now = getattr(before, name, None), getattr(cfg, name, None)
        if was is not None and now is not None and was != now:
            flag = f"--{name.replace('_', '-')}"
            logger.warning(
                f"the model in {start} was trained with {flag} {was}, and this one has {now}; is that meant?"
            )


def _check_importance(cfg, start: Path, checkpoint: Checkpoint) -> None:
    """Refuse to go on with an optimizer that knows other importances than are learned.

    Raises:
        UserError: learned rates began or ended since *start* was saved.
    """
    before = checkpoint.importance
    for settings in all_stack_settings(cfg):
        stack = settings.stack
        if settings.layerdrop_learned != (stack in before):
            did, do = ("with", "give it again") if stack in before else ("without", "leave it out")
            raise UserError(
                f"the model in {start} was trained {did} --{stack}-layerdrop-learned; {do}, or begin a training from "
                f"it with --finetune-from-model {start} and another --save-dir"
            )


def _structure_flags(structure) -> str:
    """The flags with which ``fairseq-train`` builds a model of this structure."""
    depths = {stack: len(layers) for stack, layers in structure.items()}
    flags = [f"--{stack}-layers {depth}" for stack, depth in depths.items()]
    lacks = drop_spec(transformer_structure(depths), structure)
    return " ".join(flags) + (f" --pruned-sublayers {lacks}" if lacks else "")


def starting_spec(run, spec):
    """*spec* and the learned importances of the model that a training of this configuration begins with.

    A training that goes on with a model that was pruned by its importances has none any more. It takes the plan that
    its history tells.
    """
    start = _starting_point(run.checkpoint) if run is not None else None
    if start is None:
        return spec, {}
    checkpoint = Checkpoint.load(start)
    importance, history = checkpoint.importance, checkpoint.history
    if isinstance(spec, PruneSpec) and spec.needs_importance and not importance and history:
        return PlanFile(plan_from_dict(history[-1]["plan"], str(start)), {}, str(start)), {}
    return spec, importance


def _first_file(paths) -> Path | None:
    return next((Path(path) for path in paths if path is not None and os.path.isfile(path)), None)


def _unfinished(settings) -> Path | None:
    """The file whose training fairseq's ``checkpoint_utils.load_checkpoint`` will go on with, if there is one."""
    if settings.restore_file != LAST:
        return _first_file([settings.restore_file])
    return _first_file([Path(settings.save_dir, LAST), settings.get("continue_once")])


def _starting_point(settings) -> Path | None:
    """The file that it will load, if there is one."""
    return _unfinished(settings) or _first_file([settings.finetune_from_model])


def _takes_optimizer_state(settings, checkpoint: Checkpoint) -> bool:
    """Whether a training that begins with *checkpoint* takes the state of its optimizer over."""
    kept = checkpoint.content.get("last_optimizer_state") is not None and not settings.reset_optimizer
    return kept and _unfinished(settings) is not None
