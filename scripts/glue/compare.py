"""Drop layers of a pre-trained model, fine-tune it on a task of GLUE, score dev: all runs of scripts/glue/compare.sh.

Writes FOLDER/rows.jsonl, a row a run as soon as it is done, and FOLDER/result.md and result.json. Logs of fairseq-train
stay in FOLDER/logs; the checkpoint of an unfinished run is in FOLDER/runs.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from fairseq.models import ARCH_MODEL_REGISTRY

from fairseq_layerdrop.cli import glue
from fairseq_layerdrop.cli.devices import fit_to_devices
from fairseq_layerdrop.cli.flags import config_flags, read_config
from fairseq_layerdrop.evaluation.glue import METRICS, majority_scores
from fairseq_layerdrop.evaluation.glue_table import (
    RANDOM,
    STRATEGIES,
    Row,
    Run,
    add_row,
    means_of,
    read_rows,
    runs_of,
    to_markdown,
)
from fairseq_layerdrop.plan import UserError, parse, read_ladder, transformer_structure, write_atomically
from fairseq_layerdrop.surgery import fingerprint, flat_settings, load_checkpoint, structure_of, task_settings

# Settings of the pre-trained model that its fine-tuning must repeat, beside its architecture's name.
SHAPE = (
    "encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads", "activation_fn",
    "encoder_normalize_before", "untie_weights_roberta",
)  # fmt: skip
WARMUP = 0.06  # share of the updates, as in RoBERTa's recipe


class Comparison:
    """One pre-trained model on one task."""

    def __init__(self, args):
        self.args = args
        self.folder: Path = args.folder
        self.rows = self.folder / "rows.jsonl"
        checkpoint = load_checkpoint(args.checkpoint)
        structure = structure_of(checkpoint)
        if list(structure) != ["encoder"] or task_settings(checkpoint)["_name"] != "masked_lm":
            raise UserError(f"{args.checkpoint} is no masked language model")
        self.depth = len(structure["encoder"])
        self.name = args.name or Path(args.checkpoint).parent.name
        self.trained_before = (checkpoint.get("extra_state") or {}).get("previous_training_time", 0)
        self.fingerprint = fingerprint(checkpoint["model"])
        settings = flat_settings(checkpoint)
        name = f"layerdrop_{settings._name.removeprefix('layerdrop_')}"
        if name not in ARCH_MODEL_REGISTRY:
            raise UserError(f"there is no architecture {name} for {args.checkpoint}")
        positions = next(value for key, value in checkpoint["model"].items() if key.endswith("embed_positions.weight"))
        self.shape = {"_name": name, **{setting: getattr(settings, setting) for setting in SHAPE}}
        self.max_positions = len(positions) - 2  # the first two are for padding
        self.train, self.gold = (
            (self.folder / "text" / f"{split}.label").read_text().split() for split in ("train", "valid")
        )
        tuning = read_config(f"configs/glue/{args.task}.yaml")
        self.batch = args.batch_size or tuning["dataset"]["batch_size"]
        self.rate = args.learning_rate or tuning["optimization"]["lr"][0]

    def counts(self) -> list[int]:
        """How many layers to drop.

        Raises:
            UserError: so many can't be dropped.
        """
        given = self.args.drop if self.args.drop is not None else [0, self.depth // 3, self.depth // 2]
        if not all(0 <= count < self.depth for count in given):
            raise UserError(f"K must be in 0-{self.depth - 1}, of {self.depth} layers, not {' '.join(map(str, given))}")
        return sorted(set(given))

    def settings(self, run: Run) -> dict:
        """What else a run's scores depend on."""
        return {
            "epochs": self.args.epochs, "learning rate": self.rate, "batch": self.batch, "examples": len(self.train),
            "checkpoint": self.fingerprint if run.model != RANDOM else self.shape,
        }  # fmt: skip

    def check(self, runs: list[Run]) -> None:
        """Check, before hours of work, that each run can be done, and that rows that are there are of these settings.

        Raises:
            UserError: one can't, or isn't.
        """
        for run in runs:
            if run.dropped and run.strategy != "contribution":
                self.layers(run)
        for run, row in self.done().items():
            if run in runs and row.settings != self.settings(run):
                changed = [name for name, value in self.settings(run).items() if row.settings.get(name) != value]
                what = f"{run.model} with another {' and '.join(changed)}"
                raise UserError(f"{self.rows} has runs of {what}; give another OUT or NAME")

    def done(self) -> dict[Run, Row]:
        return read_rows(self.rows)

    def spec(self, run: Run) -> str | None:
        """What a run gives to --prune-layers."""
        if not run.dropped:
            return None
        how = self.ladder() if run.strategy == "contribution" else run.strategy
        return f"encoder=drop:{run.dropped}@{how}"

    def layers(self, run: Run) -> tuple[int, ...]:
        """The layers that a run drops."""
        spec = self.spec(run)
        if spec is None:
            return ()
        kept = parse(spec).resolve(transformer_structure({"encoder": self.depth})).stacks["encoder"].layers
        return tuple(layer for layer in range(self.depth) if layer not in kept)

    def ladder(self) -> Path:
        """The order of Sajjad's contribution: what changes [CLS] least in the pre-trained model, on dev's inputs."""
        path = self.folder / "contribution" / f"{self.name}.json"
        if not path.exists() or read_ladder(path).origin["fingerprint"] != self.fingerprint:
            path.parent.mkdir(exist_ok=True)
            overrides = {"sample_break_mode": "eos", "skip_masking": True}
            run_command(
                path.with_suffix(".log"), "fairseq-layerdrop", "select", self.folder / "data-bin" / "inputs", "--path",
                self.args.checkpoint, "--method", "contribution", "--model-overrides", overrides, "--batch-size", 32,
                "--force", "-o", path, *self.device(),
            )  # fmt: skip
        return path

    def device(self) -> list[str]:
        return ["--cpu"] * self.args.cpu

    def flags(self, run: Run, save_dir: Path) -> list[str]:
        """The arguments of ``fairseq-train`` for a run."""
        updates = self.args.epochs * math.ceil(len(self.train) / self.batch)
        config = read_config(f"configs/glue/{self.args.task}.yaml")
        config["model"].update(self.shape, encoder_layerdrop=0)
        config["task"].update(
            data=str(self.folder / "data-bin"), prune_layers=self.spec(run), max_positions=self.max_positions
        )
        config["common"].update(seed=run.seed, log_interval=50)
        config["dataset"].update(batch_size=self.batch, max_tokens=None, disable_validation=True, num_workers=0)
        config["optimization"].update(lr=[self.rate], max_epoch=self.args.epochs, max_update=updates)
        config["lr_scheduler"].update(total_num_update=updates, warmup_updates=int(WARMUP * updates))
        start = None if run.model == RANDOM else self.args.checkpoint
        config["checkpoint"] = {
            "save_dir": str(save_dir), "no_epoch_checkpoints": True, "finetune_from_model": start,
        }  # fmt: skip
        return config_flags(fit_to_devices(config, 1, self.args.cpu))

    def tune(self, run: Run) -> None:
        """Fine-tune, score dev, and add the row, unless another process has done so meanwhile."""
        digest = hashlib.sha256(json.dumps(self.settings(run)).encode()).hexdigest()[:8]
        name = f"{run.model}-{run.strategy}-{run.dropped}-{run.seed}-{digest}".replace(" ", "_")
        save_dir = self.folder / "runs" / name
        with locked(save_dir.with_suffix(".lock")):
            if run in self.done():
                return
            run_command(self.folder / "logs" / f"{name}.log", "fairseq-train", *self.flags(run, save_dir))
            checkpoint = save_dir / "checkpoint_last.pt"
            found = measure(self.args.task, self.folder / "data-bin", checkpoint, *self.device())
            trained = load_checkpoint(checkpoint)["extra_state"]["previous_training_time"]
            tuning = trained - (0 if run.model == RANDOM else self.trained_before)
            row = Row(
                run,
                self.layers(run),
                found["parameters"],
                found["scores"],
                tuning,
                found["seconds"],
                self.settings(run),
            )
            add_row(self.rows, row)
            print(row.to_json(), flush=True)
            shutil.rmtree(save_dir)

    def write(self) -> str:
        """Write the table of all rows."""
        means = means_of(self.done().values())
        majority = majority_scores(self.args.task, self.gold, self.train)
        table = to_markdown(self.args.title, majority, means)
        told = {
            "title": self.args.title,
            "task": self.args.task,
            "majority": majority,
            "means": list(map(asdict, means)),
        }
        for ending, text in {"md": table, "json": json.dumps(told, indent=1) + "\n"}.items():
            with write_atomically(self.folder / f"result.{ending}") as file:
                file.write(text.encode())
        return table


def measure(task: str, data: Path, checkpoint: Path, *flags: str) -> dict:
    """As ``fairseq-layerdrop glue`` does, in this process."""
    parser = argparse.ArgumentParser()
    glue.add_arguments(parser)
    arguments = [data, "--path", checkpoint, "--task", task, "--batch-size", 32, *flags]
    return glue.measure(parser.parse_args(list(map(str, arguments))))


@contextlib.contextmanager
def locked(path: Path):
    """Wait for a lock file, and hold it."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_command(log: Path, program: str, *arguments) -> None:
    """Run a command of this environment, with its output added to *log*.

    Raises:
        UserError: it failed; tells its last line.
    """
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as file:
        command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
        failed = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False, env=os.environ).returncode
    if failed:
        last = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise UserError(f"{program} failed, see {log}: {last}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="pre-trained model")
    parser.add_argument("task", choices=METRICS)
    parser.add_argument("folder", type=Path, help="where scripts/glue/prepare.sh has put the task")
    parser.add_argument("--name", help="of the model in the table; default: that of the checkpoint's folder")
    parser.add_argument(
        "--drop", type=int, nargs="+", metavar="K", help="numbers of layers; default: 0, 1/3, 1/2 of all"
    )
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES, help="default: all")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--learning-rate", type=float, help="default: that of configs/glue")
    parser.add_argument("--batch-size", type=int, help="likewise, in sentences")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--title", default="", help="of the table")
    comparison = Comparison(parser.parse_args())
    runs = runs_of(comparison.name, comparison.counts(), comparison.args.strategies, comparison.args.seeds)
    comparison.check(runs)
    missing = [run for run in runs if run not in comparison.done()]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} of them are there", flush=True)
    for run in missing:
        comparison.tune(run)
        comparison.write()
    print(f"\n{comparison.write()}\ntable: {comparison.folder}/result.md, {comparison.folder}/result.json")


if __name__ == "__main__":
    main()
