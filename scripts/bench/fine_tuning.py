"""What fine-tuning after pruning gives, with LayerDrop in the training and without, on WikiText-2.

    python scripts/bench/fine_tuning.py work/wikitext2/data-bin --work work/fine_tuning \
        --path work/wikitext2/{layerdrop,baseline}/checkpoint_best.pt --out configs/wikitext2/fine_tuning

Each model is pruned by Every Other to each of --keep layers, and fine-tuned without LayerDrop for --updates, a tenth of
its training, with a quarter of its learning rate. Perplexities are by piece, on the test set. Each result is a line of
WORK/log.jsonl at once; a second call goes on.
"""

import argparse
import json
import shlex
from pathlib import Path

from what_to_drop import ROOT, perplexity, rows_of, run, write_results

from fairseq_layerdrop.cli.data_flags import named_checkpoints

WARMUP = 50


def fine_tuned(args, checkpoint: str, spec: str, folder: Path) -> Path:
    """The last checkpoint of a pruned model's fine-tuning."""
    overrides = {
        "task.data": args.data,
        "task.prune_layers": spec,
        "model.decoder_layerdrop": 0.0,
        "optimization.lr": "[0.0005]",
        "optimization.max_update": args.updates,
        "lr_scheduler.warmup_updates": WARMUP,
        "lr_scheduler.lr_period_updates": args.updates - WARMUP,
        "dataset.disable_validation": "true",
        "checkpoint.finetune_from_model": checkpoint,
        "checkpoint.save_dir": folder,
    }
    config = ROOT / "configs/wikitext2/layerdrop.yaml"
    flags = run("fairseq-layerdrop", "flags", config, *(f"{field}={value}" for field, value in overrides.items()))
    folder.mkdir(parents=True, exist_ok=True)
    run("fairseq-train", *shlex.split(flags), log=folder / "train.log")
    return folder / "checkpoint_last.pt"


def table(rows: list[dict]) -> str:
    lines = ["| model | layers kept | pruned | pruned and fine-tuned |", "|---|---:|---:|---:|"]
    found = {}
    for row in sorted(rows, key=lambda row: row["updates"]):
        found.setdefault((row["model"], row["keep"]), []).append(f"{row['perplexity']:.1f}")
    lines += [f"| {model} | {keep} | {' | '.join(cells)} |" for (model, keep), cells in found.items()]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=lambda path: Path(path).resolve())
    parser.add_argument("--path", nargs="+", metavar="[NAME=]CKPT", required=True)
    parser.add_argument("--work", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=int, nargs="+", default=[8, 6, 4, 3])
    parser.add_argument("--updates", type=int, default=750)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    log = args.work / "log.jsonl"
    for name, path in named_checkpoints(args.path).items():
        for keep in args.keep:
            spec = f"keep:{keep}@every_other"
            for updates in (0, args.updates):
                row = {"model": name, "keep": keep, "updates": updates}
                if any(row.items() <= old.items() for old in rows_of(log)):
                    continue
                folder = args.work / f"{name}-{keep}-{updates}"
                folder.mkdir(exist_ok=True)
                checkpoint = fine_tuned(args, str(Path(path).resolve()), spec, folder) if updates else Path(path)
                log_of_it = folder / "evaluate.log"
                row["perplexity"] = perplexity(args.data, checkpoint.resolve(), None if updates else spec, log_of_it)
                with log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)
    rows = [row for row in rows_of(log) if row["updates"] in (0, args.updates)]
    write_results(args.out, rows, table(rows))


if __name__ == "__main__":
    main()
