"""A ``--best-checkpoint-metric`` that the validation can't give; all that it gives may be one."""

import re

import pytest
from fairseq import options, tasks
from fairseq.criterions import register_criterion
from fairseq.criterions.cross_entropy import CrossEntropyCriterion, CrossEntropyCriterionConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.tasks import register_task

from fairseq_layerdrop import LayerDropTranslationTask
from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.tasks.best_metric import check_best_metric
from fairseq_layerdrop.tasks.layerdrop_translation import LayerDropTranslationConfig
from tests.commands import NEEDS_FAIRSEQ_MAIN, ROBERTA, USER_DIR, ends_in_one_line
from tests.tasks.test_readable_checkpoints import train

TRANSLATION = ("--user-dir", USER_DIR, "--arch", "layerdrop_transformer_tiny", "--share-all-embeddings")
LANGUAGE = ("--user-dir", USER_DIR, "--arch", "layerdrop_transformer_lm_tiny", "--tokens-per-sample", "32")
CLASSES = (*ROBERTA, "--classification-head-name", "length", "--num-classes", "2", "--init-token", "0")
ALWAYS = {"bsz", "loss", "num_updates", "wpb", "wps"}
SEVERAL = {"ppl", "nll_loss"}
ADAPTIVE = ("--adaptive-softmax-cutoff", "10", "--ddp-backend", "legacy_ddp")


@register_criterion("own_criterion_of_tests", dataclass=CrossEntropyCriterionConfig)
class CriterionOfTests(CrossEntropyCriterion):
    pass


@register_task("own_task_of_tests", dataclass=LayerDropTranslationConfig)
class TaskOfTests(LayerDropTranslationTask):
    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        metrics.log_scalar("mine", 1)


def set_up(data, task, criterion, *flags):
    """What fairseq-train sets up: configuration, task and model."""
    arguments = [str(data), "--task", task, "--criterion", criterion, *flags, "--cpu", "--num-workers", "0"]
    run = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), arguments))
    task = tasks.setup_task(run.task)
    return run, task, task.build_model(run.model)


def accepts(metric, run, task, model) -> bool:
    run.checkpoint.best_checkpoint_metric = metric
    try:
        check_best_metric(run, task, model)
    except UserError:
        return False
    return True


def told(run, task, model) -> set[str]:
    """The metrics that are told where another is asked for."""
    run.checkpoint.best_checkpoint_metric = "nonsense"
    with pytest.raises(UserError, match=r"metric nonsense: validation doesn't give it; it gives ") as refused:
        check_best_metric(run, task, model)
    return set(re.findall(r"\w+", str(refused.value).partition("it gives ")[2]))


def logged(run, task, model) -> set[str]:
    """What a validation of one batch logs."""
    criterion = task.build_criterion(run.criterion)
    model.eval()
    criterion.eval()
    task.load_dataset("valid", combine=False, epoch=1)
    batches = task.get_batch_iterator(task.dataset("valid"), max_sentences=8).next_epoch_itr(shuffle=False)
    with metrics.aggregate(new_root=True) as gathered:
        *_, output = task.valid_step(next(batches), model, criterion)
        task.reduce_metrics([output], criterion)
    return set(gathered.get_smoothed_values()) - {"pred", "targ"}  # which are lists


GENERATE = '{"beam": 1, "max_len_b": 3}'
ROUGES = {"rouge1", "rouge2", "rougeL"}
EVAL_ROUGE = ("--eval-rouge", "--eval-rouge-remove-bpe", "none")
REPORTS = ("--report-acc-and-f1", "--report-mcc", "--report-pearson-and-spearman")


@pytest.mark.parametrize(
    "data, flags, also",
    [
        ("translation_data", ("layerdrop_translation", "cross_entropy", *TRANSLATION), {"ppl"}),
        ("translation_data", ("layerdrop_translation", "cross_entropy", *TRANSLATION, "--sentence-avg"), SEVERAL),
        (
            "translation_data",
            ("layerdrop_translation", "label_smoothed_cross_entropy", *TRANSLATION, "--report-accuracy", "--eval-bleu",
             "--eval-bleu-args", GENERATE),
            {*SEVERAL, "bleu", "accuracy", "n_correct", "total"},
        ),
        (
            "translation_data",
            ("layerdrop_summarization", "label_smoothed_cross_entropy_with_rdrop", *TRANSLATION, *EVAL_ROUGE,
             "--eval-rouge-args", GENERATE),
            {*SEVERAL, *ROUGES, "rougeLsum", "rdrop_kl_loss"},
        ),
        (
            "translation_data",
            ("layerdrop_question_answering", "adaptive_loss", *TRANSLATION, *EVAL_ROUGE, "--eval-rouge-args",
             GENERATE, *ADAPTIVE),
            {"ppl", *ROUGES},
        ),
        ("lm_data", ("layerdrop_language_modeling", "adaptive_loss", *LANGUAGE, *ADAPTIVE), {"ppl"}),
        ("lm_data", ("layerdrop_masked_lm", "masked_lm", *ROBERTA, "--tokens-per-sample", "32"), {"ppl"}),
        ("sentence_data", ("layerdrop_sentence_prediction", "sentence_prediction", *CLASSES),
         {"accuracy", "nll_loss", "ffn_reg_loss", "mha_reg_loss"}),
        pytest.param(
            "sentence_data",
            ("layerdrop_sentence_prediction", "sentence_prediction", *CLASSES, *REPORTS),
            {"accuracy", "nll_loss", "ffn_reg_loss", "mha_reg_loss", "mcc", "acc_and_f1", "f1", "pearson",
             "pearson_and_spearman", "spearman"},
            marks=NEEDS_FAIRSEQ_MAIN,
        ),
    ],
)  # fmt: skip
def test_what_a_validation_gives(request, data, flags, also):
    made = set_up(request.getfixturevalue(data), *flags)
    names = told(*made)
    assert names == ALWAYS | also and all(accepts(name, *made) for name in names)
    assert logged(*made) <= names
    # The rest depends on the data and on the model's settings.
    assert names - logged(*made) <= {"num_updates", "ffn_reg_loss", "mha_reg_loss", "rdrop_kl_loss"}


@pytest.mark.parametrize("task, criterion", [("layerdrop_translation", "own_criterion_of_tests"),
                                             ("own_task_of_tests", "cross_entropy")])  # fmt: skip
def test_what_cant_be_known_is_left(translation_data, task, criterion):
    made = set_up(translation_data, task, criterion, *TRANSLATION)
    assert accepts("mine", *made) and accepts("nonsense", *made)


def test_regression_has_no_accuracy(sentence_data):
    made = set_up(sentence_data, "layerdrop_sentence_prediction", "sentence_prediction", *CLASSES)
    assert accepts("accuracy", *made)
    made[0].criterion.regression_target = True
    assert not accepts("accuracy", *made)
    made[0].dataset.disable_validation = True
    assert accepts("accuracy", *made)


def test_before_anything_is_trained(translation_data, tmp_path):
    flags = ("--task", "layerdrop_summarization", "--best-checkpoint-metric", "rougeLsum")
    done = train(translation_data, tmp_path, 1, *flags, check=False)
    ends_in_one_line(done, "--best-checkpoint-metric rougeLsum: validation doesn't give it without --eval-rouge; it")
    assert not list(tmp_path.iterdir())
