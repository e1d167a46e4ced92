"""One model, pruned in one way, measured: what it is worth and what it costs."""

import math
import statistics
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

import torch
from fairseq.tasks import TASK_DATACLASS_REGISTRY

from ..base.errors import UserError
from ..evaluation import Metric
from ..evaluation.cost import Spread, bytes_of, forget_peak_memory, multiply_adds, peak_memory, seconds
from ..plan import Plan
from ..running.generation import Translator
from ..running.loading import Loaded, batches, check_whole, load
from ..running.measures import loss, tokens

# Settings of fairseq's tasks that change what a model is given, the blocks of a text first.
_BLOCKS = ("sample_break_mode", "tokens_per_sample")
_GIVEN = (
    "source_lang", "target_lang", "left_pad_source", "left_pad_target", "max_source_positions", "max_target_positions",
    "truncate_source", "output_dictionary_size", "self_target", "future_target", "past_target", "add_bos_token",
    "shorten_method", "shorten_data_split_list",
)  # fmt: skip


@dataclass(frozen=True)
class MeasureSettings:
    """What every point of a sweep is measured by.

    Attributes:
        data: binarised folder.
        subset: for instance ``valid``.
        sentences: how many of it, from the first on; None for all.
        max_tokens: tokens of a batch at most.
        batch_size: sentences of a batch at most.
        metric: ``loss``, ``accuracy`` of a classifier, or one of :data:`~fairseq_layerdrop.evaluation.TEXT_METRICS`, by
            what the model generates.
        generation: settings of fairseq's generator.
        remove_bpe: how subwords are joined.
        timed_sentences: number of sentences, or of a language model's blocks, on which it is timed.
        repeats: how often.
        threads: of PyTorch's operations.
        cpu: leave the GPU alone.
        overrides: fairseq's ``--model-overrides``.
        tokenize: sacreBLEU's tokenizer.
        tokenizer: of ROUGE of summaries.
        user_dir: a plugin to import first.
    """

    data: str
    subset: str
    sentences: int | None
    max_tokens: int | None
    batch_size: int | None
    metric: str
    generation: Mapping = field(default_factory=dict)
    remove_bpe: str | None = None
    timed_sentences: int = 100
    repeats: int = 3
    threads: int = 1
    cpu: bool = False
    overrides: str = "{}"
    user_dir: str | None = None
    tokenize: str | None = None
    tokenizer: str | None = None

    @property
    def text_metric(self) -> Metric:
        """The metric with its settings.

        Raises:
            UserError: a setting is for another metric.
        """
        return Metric(self.metric, self.tokenize, self.tokenizer, self.remove_bpe)


def measure_point(path: str, prune_layers: str | None, settings: MeasureSettings) -> dict:
    """Measure a checkpoint's model, pruned as *prune_layers* says, in this process.

    Quality is over the whole subset: loss in bits per target token or label, perplexity by token and the metric's
    scores. Time is over the same sentences for every plan: *latency* is seconds for a sentence alone, and *throughput*
    sentences per second in batches, to translate or, with other models, to predict what the criterion looks at. What
    runs first to warm up isn't counted.

    Returns:
        JSON's values: ``task_flags``, ``kept``, ``depths``, ``parameters``, ``bytes`` of the weights, ``multiply_adds``
        for each target token with the target given, or of an encoder alone for each of its tokens, without padding,
        ``quality``, ``signature``, ``latency``, ``throughput``, ``peak_memory`` in bytes while it was timed.

    Raises:
        UserError: the checkpoint, the plan, the data or the settings are wrong, or the model can't take a sentence.
    """
    torch.set_num_threads(settings.threads)
    loaded = load(path, settings.data, settings.overrides, settings.cpu, prune_layers)
    plan = getattr(loaded.model, "prune_plan", None) or Plan.whole(loaded.structure)
    generation = Namespace(**settings.generation)
    loaded.model.prepare_for_inference_(Namespace(generation=generation))  # as fairseq-generate does
    samples = batches(loaded, settings.subset, settings.max_tokens, settings.batch_size, settings.sentences)
    if getattr(loaded.criterion, "regression_target", False):
        raise UserError(f"{path} predicts numbers, not labels; score it with fairseq-layerdrop glue")
    translator = None
    if loaded.translates:
        translator = Translator(loaded.task, loaded.model, dict(settings.generation), settings.remove_bpe)
    check_whole(loaded, settings.subset, samples, settings.sentences)
    quality, signature = _quality(loaded, samples, translator, settings.text_metric)
    return {
        "task_flags": _task_flags(loaded),
        "kept": str(plan),
        "depths": {name: [sum(map(bool, stack.keep)), len(stack.full)] for name, stack in plan.stacks.items()},
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "bytes": bytes_of(loaded.model.parameters()),
        "quality": quality,
        "signature": signature,
        **_cost(loaded, translator, settings),
    }


def task_flags(task) -> list[str]:
    """Flags with which fairseq's commands read the data as in training; they take none of these from the checkpoint.

    Args:
        task: configuration of a checkpoint's task.

    Returns:
        flags: of a text's blocks always, of other settings where they aren't the task's defaults.
    """
    defaults = {field.name: field.default for field in fields(TASK_DATACLASS_REGISTRY[task._name])}
    words = []
    for name in filter(defaults.__contains__, (*_BLOCKS, *_GIVEN)):
        value, flag = getattr(task, name, defaults[name]), f"--{name.replace('_', '-')}"
        if value is None or (value == defaults[name] and name not in _BLOCKS):
            continue
        words += [flag] if isinstance(value, bool) else [flag, str(value)]  # a switch turns its default round
    return words


def _task_flags(loaded: Loaded) -> list[str]:
    criterion = ["--criterion", loaded.settings.criterion._name] if list(loaded.structure) == ["encoder"] else []
    return [*criterion, *task_flags(loaded.settings.task)]


@torch.inference_mode()
def _quality(loaded: Loaded, samples: Sequence[Mapping], translator, metric: Metric) -> tuple[dict, str]:
    """Scores by name, and how they were computed."""
    measure = loss(loaded.model, loaded.criterion)
    count = sum(tokens(sample, loaded.target_pad) for sample in samples)
    bits = math.fsum(measure(loaded.model, sample) for sample in samples) / count
    found = {"loss": bits} if loaded.classifies else {"loss": bits, "perplexity": 2**bits}
    if metric.name == "loss":
        return found, f"loss in bits per {loaded.target} over {count:,} {loaded.target}s"
    if metric.name == "accuracy":
        right = sum(
            int((loaded.predict(sample)[0].argmax(dim=-1) == sample["target"].view(-1)).sum()) for sample in samples
        )
        return {"accuracy": 100 * right / count, **found}, f"accuracy over {count:,} labels"
    scores = translator.scores(samples, metric)
    return {**scores.values, **found}, scores.signature


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """The median time of each sentence, given those of all sentences in each round."""
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


@torch.inference_mode()
def _cost(loaded: Loaded, translator: Translator | None, settings: MeasureSettings) -> dict:
    def run(sample):
        return translator.generate(sample) if translator else loaded.predict(sample)

    def length(sample) -> int:
        if list(loaded.structure) == ["encoder"]:
            return int(sample["net_input"]["src_tokens"].ne(loaded.pad).sum())
        return tokens(sample, loaded.pad)

    device = next(loaded.model.parameters()).device
    timed = min(settings.timed_sentences, settings.sentences or settings.timed_sentences)
    single = batches(loaded, settings.subset, None, 1, timed)
    together = batches(loaded, settings.subset, settings.max_tokens, settings.batch_size, timed)
    products = multiply_adds(lambda: [loaded.predict(sample) for sample in single])
    forget_peak_memory(device)
    for sample in (*single[:3], *together):
        run(sample)
    # every round runs all sentences, so that what else the machine does hits short and long ones alike
    rounds = [[seconds(lambda: run(sample), device) for sample in single] for _ in range(settings.repeats)]  # noqa: B023
    alone = medians(rounds)
    passes = [seconds(lambda: [run(sample) for sample in together], device) for _ in range(settings.repeats)]
    return {
        "multiply_adds": products / sum(map(length, single)),
        "latency": asdict(Spread.of(alone)),
        "throughput": asdict(Spread.of([len(single) / taken for taken in passes])),
        "peak_memory": peak_memory(device),
    }
