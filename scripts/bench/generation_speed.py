"""Sentences per second of fairseq-generate with our model, against stock fairseq's, with the same hypotheses.

    python scripts/bench/generation_speed.py work/multi30k/layerdrop/checkpoint_best.pt work/multi30k/data-bin \
        --out configs/multi30k/generation_speed

The checkpoint is exported whole to a stock one. Then both translate the same sentences in turn, each round once, with
each number of threads: the stock one without this plugin. Time is fairseq-generate's own, of translating alone. Writes
OUT.json and OUT.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.evaluation import read_generation_log
from fairseq_layerdrop.evaluation.cost import machine


def command(*words, **env) -> bytes:
    program = Path(sys.executable).parent / words[0]
    done = subprocess.run(
        [str(program), *map(str, words[1:])],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise SystemExit(done.stdout.decode()[-2000:])
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        stock, log = Path(scratch, "stock.pt"), Path(scratch, "log")
        command("fairseq-layerdrop", "export", args.checkpoint, "-o", stock)
        user_dir = command("fairseq-layerdrop", "user-dir").decode().strip()
        systems = {
            "stock": (stock, "--task", "translation"),
            "ours": (args.checkpoint, "--task", "layerdrop_translation", "--user-dir", user_dir),
        }
        for threads in args.threads:
            speeds = {name: [] for name in systems}
            hypotheses = {}
            for number in range(args.rounds):
                for name, words in systems.items():
                    log.write_bytes(
                        command(
                            "fairseq-generate", args.data, "--path", *words, "--cpu", "--beam", args.beam,
                            "--batch-size", args.batch_size, "--max-len-a", 1.5, "--max-len-b", 20,
                            "--required-batch-size-multiple", 1, OMP_NUM_THREADS=str(threads),
                        )
                    )  # fmt: skip
                    read = read_generation_log(log)
                    hypotheses[name] = read.tokenised
                    speeds[name].append(len(read.tokenised) / read.seconds)
                    print(
                        f"{threads} threads, round {number + 1}, {name}: {speeds[name][-1]:.1f} sentences/s", flush=True
                    )
            same = sum(a == b for a, b in zip(*hypotheses.values(), strict=True))
            ratios = [ours / stock for stock, ours in zip(speeds["stock"], speeds["ours"], strict=True)]
            rows.append(
                {
                    "threads": threads, **{name: statistics.median(found) for name, found in speeds.items()},
                    "faster": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
                    "same_hypotheses": same, "sentences": len(hypotheses["ours"]),
                }
            )  # fmt: skip
    lines = [
        "| threads | stock: sentences/s | ours: sentences/s | faster | spread | same hypotheses |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {row['threads']} | {row['stock']:.1f} | {row['ours']:.1f} | **{row['faster']:.2f}** | "
            f"{row['least']:.2f}-{row['most']:.2f} | {row['same_hypotheses']} of {row['sentences']} |"
            for row in rows
        ),
    ]
    settings = {key: value for key, value in vars(args).items() if key in ("beam", "batch_size", "rounds")}
    about = {"machine": machine(torch.device("cpu")), "torch": torch.__version__, **settings}
    for suffix, text in ((".json", json.dumps({**about, "rows": rows}, indent=1)), (".md", "\n".join(lines))):
        with write_atomically(f"{args.out}{suffix}") as file:
            file.write(f"{text}\n".encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
