"""Time of a training step with LayerDrop, against a network of the depth that remains and against stock fairseq.

    python scripts/bench/training_speed.py --out configs/wikitext2/training_speed
    python scripts/bench/training_speed.py --teacher --out configs/wikitext2/teaching_speed

Language models of width 256 (FFN 1024, 4 heads, vocabulary 5,000), batches of 8 x 256 random tokens; a step is forward,
backward, clipping and fairseq's Adam, with fairseq's seeding of each update. In each round every system takes one step,
in an order that turns, so that what else the machine does hits all alike. First one process with all threads; then two
gloo processes with half of them each, under torch's DistributedDataParallel. --device cuda --autocast float16 does the
same on a GPU, both processes on one.

The number of layers that a step keeps is random: over 200 updates its mean is 8 +- 0.14, which alone moves a mean time
by nearly two percent. So beside the mean times stand those at 8 kept layers, by the least-squares line through all
steps of a system. Writes OUT.json and OUT.md.

--teacher compares a step of --layerdrop-teacher self with the plain step. The whole network runs, and then the part of
it that is kept: 1 + 8/16 of the plain step is the limit, which the table's ratio is held against.
"""

import argparse
import json
import os
import socket
import statistics
import time
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.distributed import ModuleProxyWrapper
from fairseq.models import MODEL_DATACLASS_REGISTRY, MODEL_REGISTRY
from fairseq.optim.adam import Adam
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import fairseq_layerdrop.register  # noqa: F401  (registers the architectures)
from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.evaluation.cost import machine
from fairseq_layerdrop.tasks.self_teaching import Teaching

DEPTH, KEPT, RATE = 16, 8, 0.5
WIDTH, FFN, HEADS, VOCABULARY, ROWS, LENGTH = 256, 1024, 4, 5000, 8, 256
OURS, STOCK = "layerdrop_transformer_lm", "transformer_lm"
# name: architecture, layers, rate, find_unused_parameters
ONE_PROCESS = {
    "8 layers, ours": (OURS, KEPT, 0.0, False),
    "16 layers, p = 0.5, ours": (OURS, DEPTH, RATE, False),
    "16 layers, p = 0.5, stock": (STOCK, DEPTH, RATE, False),
    "16 layers, p = 0, ours": (OURS, DEPTH, 0.0, False),
    "16 layers, p = 0, stock": (STOCK, DEPTH, 0.0, False),
}
TWO_PROCESSES = {
    "8 layers, ours": (OURS, KEPT, 0.0, False),
    "16 layers, p = 0.5, ours": (OURS, DEPTH, RATE, False),
    "16 layers, p = 0.5, stock": (STOCK, DEPTH, RATE, True),
}
TAUGHT = "16 layers, taught, p = 0.5"
WITH_TEACHER = {
    "16 layers, p = 0, ours": (OURS, DEPTH, 0.0, False),
    TAUGHT: (OURS, DEPTH, RATE, False),
}
# system, against, and the ratio that it is to have
COMPARED = (
    ("16 layers, p = 0.5, ours", "8 layers, ours", 1.0),
    ("16 layers, p = 0.5, ours", "16 layers, p = 0.5, stock", 1.0),
    ("16 layers, p = 0, ours", "16 layers, p = 0, stock", 1.0),
    (TAUGHT, "16 layers, p = 0, ours", 1 + KEPT / DEPTH),
)


def build(architecture: str, layers: int, rate: float, device) -> tuple[torch.nn.Module, Namespace]:
    """A model in training, and its settings."""
    settings = MODEL_DATACLASS_REGISTRY[architecture](
        decoder_layers=layers, decoder_layerdrop=rate, decoder_embed_dim=WIDTH, decoder_input_dim=WIDTH,
        decoder_output_dim=WIDTH, decoder_ffn_embed_dim=FFN, decoder_attention_heads=HEADS,
        share_decoder_input_output_embed=True, dropout=0.1, tokens_per_sample=LENGTH, max_target_positions=LENGTH,
    )  # fmt: skip
    dictionary = Dictionary()
    for number in range(VOCABULARY - len(dictionary)):
        dictionary.add_symbol(str(number))
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary, learns_rates=False)
    utils.set_torch_seed(1)
    settings = Namespace(**{**vars(settings), "seed": 1})
    return MODEL_REGISTRY[architecture].build_model(settings, task).to(device).train(), settings


class Criterion:
    """Cross entropy, called as fairseq's criteria are."""

    padding_idx = 1

    def __call__(self, model, sample):
        logits = model(**sample["net_input"])[0]
        return cross_entropy(logits.flatten(0, 1).float(), sample["target"].flatten()), 1, {"sample_size": 1}


class System:
    """A model with its optimizer, which takes steps and tells of each how long it took and how many layers ran.

    Of a network that is *taught*, those count that ran in the pass of its sub-network.
    """

    def __init__(
        self, architecture, layers, rate, find_unused, device, autocast, taught=False, clock=time.perf_counter
    ):
        self.clock = clock
        self.autocast = autocast
        self.criterion = Criterion()
        self.teaching = Teaching(SimpleNamespace(layerdrop_teacher="self")) if taught else None
        self.depth = layers
        module, settings = build(architecture, layers, rate, device)
        if taught:
            self.teaching.begin(module, settings)
        self.kept = 0
        for number in range(layers):
            module.decoder.layers[number].register_forward_hook(self._count)
        self.module = module
        self.model = module
        if dist.is_initialized():
            self.model = ModuleProxyWrapper(DistributedDataParallel(module, find_unused_parameters=find_unused))
        self.optimizer = Adam(module.parameters(), lr=5e-4, betas=(0.9, 0.98), weight_decay=0.01)

    def _count(self, *_):
        self.kept += 1

    def step(self, update: int, tokens: torch.Tensor) -> tuple[float, int]:
        self.kept = 0
        synchronise(tokens.device)
        start = self.clock()
        utils.set_torch_seed(1 + update)
        self.optimizer.zero_grad()
        self.module.set_num_updates(update)
        sample = {"net_input": {"src_tokens": tokens[:, :-1]}, "target": tokens[:, 1:]}

        def forward_and_back(criterion):
            with torch.autocast(tokens.device.type, self.autocast, enabled=self.autocast is not None):
                loss, *rest = criterion(self.model, sample)
            loss.backward()
            return loss, *rest

        if self.teaching is None:
            forward_and_back(self.criterion)
        else:
            self.teaching.train_step(forward_and_back, sample, self.model, self.criterion, update)
            self.kept -= self.depth
        utils.clip_grad_norm_(self.module.parameters(), 0.1)
        self.optimizer.step()
        synchronise(tokens.device)
        return self.clock() - start, self.kept


def synchronise(device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
    if dist.is_initialized():
        dist.barrier()


def run(rank: int, processes: int, port: int, args, results) -> None:
    """Take all steps of all systems in one process of *processes*; process 0 puts their times into *results*."""
    torch.set_num_threads(max(1, args.threads // processes))
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    device, autocast = torch.device(args.device), args.autocast and getattr(torch, args.autocast)
    given = WITH_TEACHER if args.teacher else ONE_PROCESS if processes == 1 else TWO_PROCESSES
    clock = time.process_time if args.cpu_time else time.perf_counter
    systems = {name: System(*settings, device, autocast, name == TAUGHT, clock) for name, settings in given.items()}
    steps = {name: [] for name in systems}
    names = list(systems)
    generator = torch.Generator().manual_seed(rank)
    for update in range(-args.warm_up, args.updates):
        tokens = torch.randint(4, VOCABULARY, (ROWS // processes, LENGTH + 1), generator=generator).to(device)
        turn = update % len(names)
        for name in names[turn:] + names[:turn]:
            step = systems[name].step(update + args.warm_up, tokens)
            if update >= 0:
                steps[name].append(step)
        if rank == 0 and update % 20 == 0:
            print(f"{processes} processes, update {update} of {args.updates}", flush=True)
    if rank == 0:
        results.update(steps)
    if processes > 1:
        dist.destroy_process_group()


def at(steps: list[tuple[float, int]], kept: int) -> float:
    """Seconds of a step that keeps *kept* layers, by the least-squares line through *steps*."""
    seconds, layers = np.array(steps, dtype=float).T
    if layers.std() == 0:
        return float(seconds.mean())
    slope, constant = np.polyfit(layers, seconds, 1)
    return float(constant + slope * kept)


def spread(a, b) -> tuple[float, float]:
    """The least and the most ratio of *a* to *b* at 8 kept layers over up to ten consecutive blocks of steps."""
    blocks = max(1, min(10, len(a) // 10))
    size = len(a) // blocks
    parts = [(a[i * size : (i + 1) * size], b[i * size : (i + 1) * size]) for i in range(blocks)]
    ratios = [at(x, KEPT) / at(y, KEPT) for x, y in parts]
    return min(ratios), max(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--autocast", choices=("bfloat16", "float16"), help="compute in this where PyTorch thinks fit")
    parser.add_argument("--teacher", action="store_true", help="compare a step with a teacher with the plain one")
    parser.add_argument("--cpu-time", action="store_true", help="measure that, where others use the machine too")
    parser.add_argument("--note", help="what to know of the machine, for the JSON")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    rows = []
    for processes in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        steps = torch.multiprocessing.Manager().dict()
        torch.multiprocessing.spawn(run, (processes, port, args, steps), nprocs=processes)
        for a, b, limit in COMPARED:
            if a in steps and b in steps:
                least, most = spread(steps[a], steps[b])
                rows.append(
                    {
                        "processes": processes, "system": a, "baseline": b,
                        "seconds": statistics.mean(s for s, _ in steps[a]),
                        "seconds_baseline": statistics.mean(s for s, _ in steps[b]),
                        "kept": statistics.mean(k for _, k in steps[a]),
                        "kept_baseline": statistics.mean(k for _, k in steps[b]),
                        "ratio": at(steps[a], KEPT) / at(steps[b], KEPT), "limit": limit, "least": least, "most": most,
                    }
                )  # fmt: skip
    lines = [
        "| processes | system | against | seconds a step | against: seconds | layers kept | against: kept | "
        "ratio at 8 kept | limit | spread |",
        "|---:|---|---|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {row['processes']} | {row['system']} | {row['baseline']} | {row['seconds']:.3f} | "
            f"{row['seconds_baseline']:.3f} | {row['kept']:.2f} | {row['kept_baseline']:.2f} | "
            f"**{row['ratio']:.3f}** | {row['limit']:g} | {row['least']:.2f}-{row['most']:.2f} |"
            for row in rows
        ),
    ]
    about = {
        "machine": machine(torch.device(args.device)), "torch": torch.__version__, "threads": args.threads,
        "updates": args.updates, "autocast": args.autocast, "cpu_time": args.cpu_time, "note": args.note,
    }  # fmt: skip
    for suffix, text in ((".json", json.dumps({**about, "rows": rows}, indent=1)), (".md", "\n".join(lines))):
        with write_atomically(f"{args.out}{suffix}") as file:
            file.write(f"{text}\n".encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
