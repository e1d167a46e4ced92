"""Which metrics a training's validation gives, to choose the best checkpoint by."""

from fairseq.tasks.fairseq_task import FairseqTask
from fairseq.tasks.translation import TranslationTask

from ..base.errors import UserError

_ALWAYS: dict[str, str | None] = dict.fromkeys(("bsz", "loss", "num_updates", "wpb", "wps"))
# fairseq's criterions by name, and the metrics that each gives with the setting that it takes, if it takes one.
_LANGUAGE: dict[str, str | None] = {"nll_loss": None, "ppl": None}
_SUMMED = {**_LANGUAGE, "nll_loss": "sentence_avg"}  # else it is the loss
_SMOOTHED = {**_LANGUAGE, **dict.fromkeys(("accuracy", "n_correct", "total"), "report_accuracy")}
_CRITERIONS: dict[str, dict[str, str | None]] = {
    "adaptive_loss": _SUMMED,
    "cross_entropy": _SUMMED,
    "label_smoothed_cross_entropy": _SMOOTHED,
    "label_smoothed_cross_entropy_with_alignment": {**_LANGUAGE, "alignment_loss": None},
    "label_smoothed_cross_entropy_with_rdrop": {**_SMOOTHED, "rdrop_kl_loss": None},
    "masked_lm": {"ppl": None},
    "sentence_prediction": {
        **dict.fromkeys(("accuracy", "ffn_reg_loss", "mha_reg_loss", "nll_loss")),
        "mcc": "report_mcc",
        **dict.fromkeys(("acc_and_f1", "f1"), "report_acc_and_f1"),
        **dict.fromkeys(("pearson", "pearson_and_spearman", "spearman"), "report_pearson_and_spearman"),
    },
}
# A class that overrides one of these may log others.
_HOOKS = ("reduce_metrics", "valid_step", "post_validate", "aggregate_logging_outputs")
_TASKS = {FairseqTask: {}, TranslationTask: {"bleu": "eval_bleu"}}


def _of_task(task) -> dict[str, str | None] | None:
    """The metrics of a task, each with the setting that it takes; None where that can't be known.

    A class that logs metrics says which in ``metric_settings``.
    """
    found: dict[str, str | None] = {}
    for cls in type(task).__mro__:
        settings = vars(cls).get("metric_settings", _TASKS.get(cls))
        if settings is None and any(name in vars(cls) for name in _HOOKS):
            return None
        found.update(settings or {})
    return found


def check_best_metric(run, task, model) -> None:
    """Refuse to choose the best checkpoint by a metric that the validation won't give.

    fairseq would find out after the first epoch. What a criterion, a task or a model of the user's own logs can't be
    known; there it is left to find out.

    Args:
        run: configuration of the whole training.
        task: its task.
        model: its model.

    Raises:
        UserError: neither the task nor the criterion gives the metric, or it takes a flag that wasn't given.
    """
    metric, criterion = run.checkpoint.best_checkpoint_metric, run.criterion._name
    of_task, of_criterion = _of_task(task), _CRITERIONS.get(criterion)
    own_model = not type(model).__module__.startswith(("fairseq.", "fairseq_layerdrop."))
    if run.dataset.disable_validation or of_task is None or of_criterion is None or own_model:
        return
    settings = {**_ALWAYS, **of_criterion, **of_task}
    given = {
        name for name, setting in settings.items()
        if setting is None or getattr(run.task if name in of_task else run.criterion, setting, None)
    }  # fmt: skip
    if criterion == "sentence_prediction" and run.criterion.regression_target:
        given.discard("accuracy")
    if metric not in given:
        setting = settings.get(metric)
        flag = f" without --{setting.replace('_', '-')}" if setting else ""
        raise UserError(
            f"--best-checkpoint-metric {metric}: validation doesn't give it{flag}; it gives {', '.join(sorted(given))}"
        )
