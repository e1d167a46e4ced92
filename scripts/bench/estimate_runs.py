"""What the full runs of configs/ take: hours, GPU memory and batch, estimated. Writes OUT.json and OUT.md.

    python scripts/bench/estimate_runs.py --out configs/estimates                      counted operations, no GPU needed
    python scripts/bench/estimate_runs.py --device cuda --out configs/estimates        measured step times, on a GPU
    python scripts/bench/estimate_runs.py --device cpu --steps 5 configs/multi30k/layerdrop.yaml --out /tmp/estimate

Counted: the floating point operations of a pass forward and back over a micro-batch, on PyTorch's meta device in half
precision, and the bytes that autograd keeps. LayerDrop's skipped layers are left out of the operations on average, and
of the memory not at all. Where the network teaches its sub-networks, their passes come on top, on average; their losses
are left out. Hours are operations over --tflops x --utilisation; both are assumptions, not measurements.

Measured: the same passes on the device by the clock, and the optimizer's step (medians of --steps), and the peak of
allocated memory on a GPU. Either way hours are updates x (accumulations x pass + step), without validation, loading and
communication.
"""

import argparse
import contextlib
import json
import platform
import statistics
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.roberta import model as roberta
from torch.fx.experimental import _config as fx_config
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.modules import DropRates, LayerDropModuleList
from fairseq_layerdrop.recipes.config import config_flags, read_config
from fairseq_layerdrop.tasks.lesson import skipping, whole
from fairseq_layerdrop.tasks.self_teaching import Teaching

ROOT = Path(__file__).resolve().parents[2]
# Symbols, and source and target lengths in subwords: pairs of equal number in the data.
WORD = 1.2  # subwords a word
ELI5 = {"q": 42, "d": 858, "a": 131}  # words on average, Fan et al. (2019), table 1
DATA = {
    "wmt16_en_de": (32_768, [(30, 30)]),
    "iwslt14_de_en": (10_000, [(24, 24)]),
    "multi30k": (5_908, [(16, 16)]),
    "cnn_dm": (32_000, [(480, 70)]),
    "eli5": (
        40_000,
        [
            (int(WORD * sum(ELI5.get(part, 1) for part in source)), int(WORD * sum(ELI5[part] for part in target)))
            for source, target in [
                ("-", "qda"), ("-", "qd"), ("-", "a"), ("-", "q"), ("-", "d"),
                ("-q", "da"), ("-qd", "a"), ("-q", "a"), ("-q", "d"), ("d", "a"),
            ]
        ],
    ),
    "wikitext103": (267_744, None),
    "wikitext2": (4_904, None),
    "roberta": (50_265, None),
}  # fmt: skip
# Bytes a parameter in fairseq's fp16 training: weight and gradient, their float32 copies, and the optimizer's state.
OPTIMIZER = {"adam": 8, "nag": 4}
# No runs of the paper's size, or fine-tuning.
LEFT_OUT = ("multi30k/*", "wikitext2/*", "roberta/small_*", "glue/*")
MASKED = 0.15  # share of the tokens that a masked language model predicts
HEAD = 20_002  # classes of Wikitext-103's adaptive softmax that every token is scored against; the tails are left out


class Task:
    """What building a model asks of a task: dictionaries of the right size."""

    def __init__(self, symbols, gives_plans):
        self.gives_plans = gives_plans
        dictionary = Dictionary()
        for number in range(symbols - len(dictionary)):
            dictionary.add_symbol(str(number))
        self.source_dictionary = self.target_dictionary = self.dictionary = self.output_dictionary = dictionary


@contextlib.contextmanager
def meta_is_false():
    """fairseq asks whether there is padding, or a word of a band, which meta tensors can't tell: there is none.

    The projections of adaptive inputs are thereby left out.
    """
    ask = torch.Tensor.__bool__
    torch.Tensor.__bool__ = lambda self: False if self.is_meta else ask(self)
    try:
        with fx_config.patch(meta_nonzero_assume_all_nonzero=True):
            yield
    finally:
        torch.Tensor.__bool__ = ask


def model_of(config, symbols):
    """The model that is trained, and how it teaches its sub-networks, if it does."""
    args = options.parse_args_and_arch(options.get_training_parser(), config_flags(config))
    run = convert_namespace_to_omegaconf(args)
    teaching = Teaching.of(run.task)
    task = Task(symbols, teaching is not None and bool(teaching.plans))
    model = ARCH_MODEL_REGISTRY[run.model._name].build_model(run.model, task).train()
    if teaching is not None:
        teaching.begin(model, run.model)
    return model, teaching


def stacks_of(model):
    """The stacks with LayerDrop."""
    return [module for module in model.modules() if isinstance(module, LayerDropModuleList)]


def shapes_of(config, lengths):
    """Micro-batches (sentences, source length, target length), and which share of all has that shape."""
    tokens = config["dataset"]["max_tokens"]
    if lengths is None:
        block = config["task"]["tokens_per_sample"]
        return [((max(1, tokens // block), None, block), 1.0)]
    longest = [max(pair) for pair in lengths]
    return [((max(1, tokens // long), *pair), long / sum(longest)) for pair, long in zip(lengths, longest, strict=True)]


def forward(model, shape, device):
    """A scalar to go back from, over a micro-batch without padding."""
    sentences, source, target = shape
    tokens = torch.full((sentences, target), 5, device=device)
    if not hasattr(model, "decoder"):
        features, _ = model.encoder.extract_features(tokens)
        logits = model.encoder.lm_head(features[:, : max(1, int(MASKED * target))])
    elif source is None:
        features, _ = model.decoder.extract_features(tokens, None)
        if model.decoder.adaptive_softmax is not None:
            head = torch.empty(HEAD, features.shape[-1], device=device, dtype=features.dtype, requires_grad=True)
            logits = functional.linear(features, head)
        else:
            logits = model.decoder.output_layer(features)
    else:
        sources = torch.full((sentences, source), 5, device=device)
        logits, _ = model(sources, torch.full((sentences,), source, device=device), tokens)
    return functional.log_softmax(logits, dim=-1, dtype=torch.float32).mean()


def operations(model, shape) -> int:
    """Floating point operations of a forward and backward pass over a micro-batch."""
    with meta_is_false(), FlopCounterMode(display=False) as counter:
        forward(model, shape, "meta").backward()
    return counter.get_total_flops()


def kept_bytes(model, shape) -> int:
    """Bytes that autograd keeps for the backward pass, the model's own parameters aside."""
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            storages[storage._cdata] = storage  # held, so that the number isn't used again
        return tensor

    with meta_is_false(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward(model, shape, "meta")
    return sum(storage.nbytes() for storage in storages.values())


def of_plan(model, draw, shapes) -> list[int]:
    """Operations of a pass of the sub-network *draw*."""
    with skipping({stack.stack: stack for stack in stacks_of(model)}, draw):
        return [operations(model, shape) for shape, _ in shapes]


def counted(config, symbols, shapes, args):
    """Seconds a micro-batch and of a step (0: it is left out), bytes, and operations, by counting."""
    with torch.device("meta"), mock.patch.object(roberta, "init_bert_params", lambda module: None):
        model, teaching = model_of(config, symbols)
    model.half().to("meta")
    rates = [stack.rates.layers for stack in stacks_of(model)]

    def with_rates(of_stacks):
        for stack, of_stack in zip(stacks_of(model), of_stacks, strict=True):
            stack.rates = DropRates(of_stack)
        return [operations(model, shape) for shape, _ in shapes]

    # Operations are linear in each rate, and a stack's rates are equal here.
    off = [tuple(0.0 for _ in stack) for stack in rates]
    full = with_rates(off)
    expected = list(full)
    for number, stack in enumerate(rates):
        without = with_rates([tuple(1.0 for _ in stack) if i == number else off[i] for i in range(len(rates))])
        expected = [
            so_far - stack[0] * (whole - less) for so_far, whole, less in zip(expected, full, without, strict=True)
        ]
    with_rates(off)
    if teaching is not None:
        if teaching.plans:
            expected = np.average(
                [of_plan(model, draw, shapes) for draw, _ in teaching.draws],
                axis=0,
                weights=[weight for _, weight in teaching.draws],
            )
        expected = [first + second for first, second in zip(full, expected, strict=True)]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    state = parameters * (2 + 2 + 4 + 4 + OPTIMIZER[config["optimizer"]["_name"]])
    flops = sum(count * share for count, (_, share) in zip(expected, shapes, strict=True))
    seconds = flops / (args.tflops * 1e12 * args.utilisation)
    return seconds, 0.0, state + max(kept_bytes(model, shape) for shape, _ in shapes), flops


def measured(config, symbols, shapes, args):
    """Seconds a micro-batch, seconds an optimizer's step, and bytes, by running some."""
    half = args.device == "cuda" and config["common"].get("fp16", False)
    torch.manual_seed(1)
    model, teaching = model_of(config, symbols)
    model.to(args.device, torch.half if half else torch.float)
    copies = [parameter.detach().float().clone().requires_grad_() for parameter in model.parameters()]
    make = torch.optim.Adam if config["optimizer"]["_name"] == "adam" else torch.optim.SGD
    optimizer = make(copies, lr=1e-9, **({} if make is torch.optim.Adam else {"momentum": 0.99, "nesterov": True}))
    for copied in copies:
        copied.grad = torch.zeros_like(copied)

    def clock(run):
        times = []
        for step in range(args.steps + 2):
            start = time.perf_counter()
            run(step)
            if args.device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times[2:])

    def one_pass(step, shape):
        model.set_num_updates(step)
        layers = {stack.stack: stack for stack in stacks_of(model)}
        draws = [{}] if teaching is None else [whole(layers), *teaching.students(layers, step)]
        for draw in draws:
            with skipping(layers, draw):
                forward(model, shape, args.device).backward()
        model.zero_grad()

    step_seconds = clock(lambda step: optimizer.step())
    seconds = sum(share * clock(lambda step, shape=shape: one_pass(step, shape)) for shape, share in shapes)
    peak = None
    if args.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    return seconds, step_seconds, peak, None


def estimate(path, args) -> dict:
    config = read_config(path)
    benchmark = path.parent.name
    symbols, lengths = DATA[benchmark]
    shapes = shapes_of(config, lengths)
    seconds, step, peak, flops = (counted if args.device == "counted" else measured)(config, symbols, shapes, args)
    accumulations = config["optimization"].get("update_freq", [1])[0]
    devices = config.get("distributed_training", {}).get("distributed_world_size", 1)
    updates = args.updates or config["optimization"].get("max_update")
    return {
        "run": f"{benchmark}/{path.stem}",
        "tokens": config["dataset"]["max_tokens"],
        "accumulations": accumulations,
        "devices": devices,
        "updates": updates,
        "seconds_a_micro_batch": seconds,
        "seconds_a_step": step,
        "hours": updates and updates * (accumulations * seconds + step) / 3600,
        "gigabytes": peak and peak / 1e9,
        "teraflops_a_micro_batch": flops and flops / 1e12,
    }


def to_markdown(rows, how) -> str:
    lines = [
        f"Estimated, {how}; without validation, communication and data loading.",
        "",
        "| run | batch: tokens x accumulations x GPUs | updates | TFLOP a micro-batch | hours | GB a GPU |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        batch = f"{row['tokens']:,} x {row['accumulations']} x {row['devices']}"
        cells = [
            format(row[name], form) if row[name] is not None else ""
            for name, form in {
                "updates": ",", "teraflops_a_micro_batch": ".2f", "hours": ".1f", "gigabytes": ".1f",
            }.items()
        ]  # fmt: skip
        lines.append("| " + " | ".join([f"`{row['run']}`", batch, *cells]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", type=Path, nargs="*", help="default: the full runs of configs/")
    parser.add_argument("--device", choices=("counted", "cuda", "cpu"), default="counted")
    parser.add_argument("--tflops", type=float, default=125, help="peak of the GPU, half precision (default: a V100's)")
    parser.add_argument("--utilisation", type=float, default=0.3, help="share of it that training reaches")
    parser.add_argument("--steps", type=int, default=20, help="micro-batches to measure")
    parser.add_argument("--updates", type=int, help="in place of the configuration's number")
    parser.add_argument("--out", required=True, help="where to write: OUT.json, OUT.md")
    args = parser.parse_args()
    paths = args.configs or [
        path
        for path in sorted((ROOT / "configs").glob("*/*.yaml"))
        if not any(path.match(f"{pattern}.yaml") for pattern in LEFT_OUT)
    ]
    rows = []
    for path in paths:
        rows.append(estimate(path.resolve(), args))
        print(json.dumps(rows[-1]), flush=True)
    if args.device == "counted":
        how = (
            f"by counted operations at {100 * args.utilisation:.0f} % of {args.tflops:g} TFLOP/s (assumed), "
            f"and by the bytes that PyTorch keeps"
        )
    else:
        name = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
        how = f"from {args.steps} measured micro-batches on one {name}"
    with write_atomically(f"{args.out}.json") as file:
        file.write((json.dumps({"how": how, "torch": torch.__version__, "rows": rows}, indent=1) + "\n").encode())
    with write_atomically(f"{args.out}.md") as file:
        file.write(to_markdown(rows, how).encode())


if __name__ == "__main__":
    main()
