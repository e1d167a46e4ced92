"""What to drop while training: Figure 4 (left) of Fan, Grave & Joulin (2020), on WikiText-2.

    python scripts/bench/what_to_drop.py work/wikitext2/data-bin --work work/what_to_drop \
        --out configs/wikitext2/what_to_drop

Each variant is trained by fairseq-train with the same updates and each of the --seeds, and evaluated by fairseq-eval-lm
on the test set at full depth and at half of it. All settings but the drop rates are those of
configs/wikitext2/layerdrop.yaml and of SMALLER. OUT.json and OUT.md are written from all results with these --updates.
Each result is a line of WORK/log.jsonl at once; a second call goes on, and several may run at the same time with
different --seeds.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.evaluation import read_eval_lm_log

ROOT = Path(__file__).parents[2]
DEPTH = 8
UPDATES = 3000
SMALLER = {
    "model.decoder_layers": DEPTH,
    "model.decoder_layerdrop": 0.0,
    "dataset.max_tokens": 1024,
    "lr_scheduler.warmup_updates": 300,
    "checkpoint.save_interval_updates": 1000,
}
# As in the paper's figure, every group at the same rate; and Data Driven Pruning.
VARIANTS = {
    "none": {},
    "heads": {"headdrop": 0.2},
    "sub-layers": {"sublayerdrop": 0.2},
    "layers": {"layerdrop": 0.2},
    "heads + layers": {"headdrop": 0.2, "layerdrop": 0.2},
    "heads + sub-layers": {"headdrop": 0.2, "sublayerdrop": 0.2},
    "layers, learned": {"layerdrop": 0.2, "layerdrop_learned": "true"},
}
HALF = f"keep:{DEPTH // 2}@every_other"


def run(*words, log=None) -> str:
    program, *arguments = map(str, words)
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if log:
        Path(log).write_text(done.stdout)
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def run_name(variant: str, seed: int, updates: int) -> str:
    """The name of a run's folder; the usual number of updates isn't in it."""
    name = f"{variant.replace(' ', '').replace(',', '-')}-{seed}"
    return name if updates == UPDATES else f"{name}-{updates}"


def train(args, name: str, seed: int) -> Path:
    """The best checkpoint of a variant's run; what is there of it goes on."""
    folder = args.work / run_name(name, seed, args.updates)
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    if not done.exists():
        overrides = {
            **SMALLER,
            **{f"model.decoder_{rate}": value for rate, value in VARIANTS[name].items()},
            "optimization.max_update": args.updates,
            "lr_scheduler.lr_period_updates": args.updates - 300,
            "common.seed": seed,
            "task.data": args.data,
            "checkpoint.save_dir": folder,
        }
        config = ROOT / "configs/wikitext2/layerdrop.yaml"
        flags = run("fairseq-layerdrop", "flags", config, *(f"{field}={value}" for field, value in overrides.items()))
        run("fairseq-train", *shlex.split(flags), log=folder / "train.log")
        done.touch()
    return folder / "checkpoint_best.pt"


def perplexity(data: Path, checkpoint: Path, spec: str | None, log: Path) -> float:
    """Perplexity by piece of SentencePiece on the test set, in blocks of 256."""
    user_dir = run("fairseq-layerdrop", "user-dir").strip()
    run(
        "fairseq-eval-lm", data, "--path", checkpoint, "--user-dir", user_dir,
        "--task", "layerdrop_language_modeling", "--gen-subset", "test", "--cpu", "--sample-break-mode", "none",
        "--tokens-per-sample", "256", "--max-tokens", "4096",
        "--required-batch-size-multiple", "1", *(["--prune-layers", spec] if spec else []), log=log,
    )  # fmt: skip
    return round(2 ** read_eval_lm_log(log).bits_per_token, 3)


def rows_of(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def write_results(out: Path, rows: list[dict], text: str) -> None:
    """Write OUT.json with the rows, and OUT.md with their table."""
    for suffix, content in ((".json", json.dumps(rows, indent=1)), (".md", text)):
        with write_atomically(out.with_suffix(suffix)) as file:
            file.write(f"{content}\n".encode())


def table(rows: list[dict]) -> str:
    depths = list(dict.fromkeys(row["keep"] for row in rows))
    lines = [
        "| dropped while training | " + " | ".join(depths) + " |",
        "|---|" + "---|" * len(depths),
    ]
    for name in VARIANTS:
        cells = []
        for depth in depths:
            found = [row["perplexity"] for row in rows if row["variant"] == name and row["keep"] == depth]
            if found:
                spread = statistics.stdev(found) if len(found) > 1 else 0.0
                cells.append(f"{statistics.mean(found):.1f} ± {spread:.1f}")
            else:
                cells.append("")
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=lambda path: Path(path).resolve())
    parser.add_argument("--work", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    log = args.work / "log.jsonl"
    for seed in args.seeds:
        for name in args.variants:
            wanted = [None, HALF] + ([f"keep:{DEPTH // 2}@learned"] if "layerdrop_learned" in VARIANTS[name] else [])
            for spec in wanted:
                row = {"variant": name, "seed": seed, "updates": args.updates, "keep": spec or f"{DEPTH} layers"}
                if any(row.items() <= old.items() for old in rows_of(log)):
                    continue
                checkpoint = train(args, name, seed)
                row["perplexity"] = perplexity(args.data, checkpoint, spec, checkpoint.with_name("evaluate.log"))
                with log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)
    rows = [row for row in rows_of(log) if row["updates"] == args.updates]
    order = list(VARIANTS)
    rows.sort(key=lambda row: (order.index(row["variant"]), row["seed"], row["keep"]))
    write_results(args.out, rows, table(rows))


if __name__ == "__main__":
    main()
