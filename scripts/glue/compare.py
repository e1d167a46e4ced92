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
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_REGISTRY

from fairseq_layerdrop.analysis.glue import check_libraries, glue
from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.cli.data_flags import at_least_one
from fairseq_layerdrop.evaluation.cost import machine
from fairseq_layerdrop.evaluation.glue import METRICS, majority_scores
from fairseq_layerdrop.plan import parse, read_ladder, transformer_structure
from fairseq_layerdrop.recipes.config import config_flags, read_config
from fairseq_layerdrop.recipes.devices import fit_to_devices
from fairseq_layerdrop.reports.glue_table import (
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
from fairseq_layerdrop.running.loading import Data, be_quiet
from fairseq_layerdrop.surgery.checkpoint import Checkpoint

# Settings of the pre-trained model that its fine-tuning must repeat, beside its architecture's name.
SHAPE = (
    "encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads", "activation_fn",
    "encoder_normalize_before", "layernorm_embedding", "untie_weights_roberta", "encoder_share_layers",
)  # fmt: skip
WARMUP = 0.06  # share of the updates, as in RoBERTa's recipe


class Comparison:
    """One pre-trained model on one task."""

    def __init__(self, args):
        check_libraries()
        at_least_one(args, "epochs", "batch_size")
        if args.learning_rate is not None and not args.learning_rate > 0:
            raise UserError(f"--learning-rate must be above 0, not {args.learning_rate}")
        self.args = args
        self.folder: Path = args.folder
        self.rows = self.folder / "rows.jsonl"
        checkpoint = Checkpoint.load(args.checkpoint)
        structure = checkpoint.structure
        if list(structure) != ["encoder"] or checkpoint.stock_task_settings["_name"] != "masked_lm":
            raise UserError(f"{args.checkpoint} is no masked language model")
        self.depth = len(structure["encoder"])
        self.name = args.name or Path(args.checkpoint).resolve().parent.name
        if "/" in self.name or self.name == RANDOM:
            raise UserError(f"NAME can't be {self.name!r}; it goes into names of files, and {RANDOM!r} is taken")
        self.seconds_before = (checkpoint.content.get("extra_state") or {}).get("previous_training_time", 0)
        self.fingerprint = checkpoint.fingerprint
        settings = checkpoint.flat_settings
        name = f"layerdrop_{settings._name.removeprefix('layerdrop_')}"
        if name not in ARCH_MODEL_REGISTRY:
            raise UserError(f"there is no architecture {name} for {args.checkpoint}")
        positions = next(value for key, value in checkpoint.weights.items() if key.endswith("embed_positions.weight"))
        given = {setting: getattr(settings, setting, None) for setting in SHAPE}  # stock models don't share layers
        self.shape = {"_name": name, **{setting: value for setting, value in given.items() if value is not None}}
        self.max_positions = len(positions) - 2  # the first two are for padding
        dictionary = Dictionary.load(str(self.folder / "data-bin/input0/dict.txt"))
        dictionary.add_symbol("<mask>")  # as fairseq's tasks do
        symbols = next(len(value) for key, value in checkpoint.weights.items() if key.endswith("embed_tokens.weight"))
        if symbols != len(dictionary):
            raise UserError(
                f"{args.checkpoint} has {symbols:,} symbols and {self.folder} {len(dictionary):,}; prepare the task "
                "with PIECES and DICT of its pre-training"
            )
        self.train, self.gold = (
            (self.folder / "text" / f"{split}.label").read_text().split() for split in ("train", "valid")
        )
        tuning = read_config(f"configs/glue/{args.task}.yaml")
        self.batch = tuning["dataset"]["batch_size"] if args.batch_size is None else args.batch_size
        self.rate = tuning["optimization"]["lr"][0] if args.learning_rate is None else args.learning_rate
        self.data = digest_of(
            *(path.read_bytes() for path in sorted((self.folder / "text").iterdir()) if path.is_file())
        )
        self.on = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
        self.machine = machine(self.on) + f", {torch.get_num_threads()} used" * (self.on.type == "cpu")

    def counts(self) -> list[int]:
        """How many layers to drop.

        Raises:
            UserError: so many can't be dropped.
        """
        given = self.args.drop if self.args.drop is not None else [0, self.depth // 3, self.depth // 2]
        if not all(0 <= count < self.depth for count in given):
            raise UserError(f"K must be in 0-{self.depth - 1}, of {self.depth} layers, not {' '.join(map(str, given))}")
        return sorted(set(given))

    @property
    def settings(self) -> dict:
        """What all runs of a table have in common."""
        return {
            "epochs": self.args.epochs, "learning rate": self.rate, "batch": self.batch, "data": self.data,
            "device": self.on.type, "configuration": digest_of(json.dumps(self.configuration()).encode()),
        }  # fmt: skip

    def start(self, run: Run) -> str:
        """What a run begins with."""
        return self.fingerprint if run.model != RANDOM else digest_of(json.dumps(self.shape).encode())

    def done(self) -> dict[Run, Row]:
        """The rows that are there.

        Raises:
            UserError: they don't belong into one table with ours.
        """
        rows, settings = read_rows(self.rows), self.settings
        for run, row in rows.items():
            changed = [name for name, value in settings.items() if row.settings.get(name) != value]
            changed = [name for name in changed if name != "configuration"] or changed  # which has the others
            if changed:
                raise UserError(f"{self.rows} has runs with another {' and '.join(changed)}; give another OUT")
            if run.model == RANDOM and row.start != self.start(run):
                raise UserError(f"{self.rows} has runs of models of another shape; give another OUT")
            if run.model == self.name and row.start != self.start(run):
                raise UserError(f"{self.rows} has runs of another {self.name}; give another NAME")
        return rows

    def check(self, runs: list[Run]) -> None:
        """Check, before hours of work, that the layers of each run can be dropped.

        Raises:
            UserError: some can't.
        """
        for run in runs:
            if run.dropped and run.strategy != "contribution":
                self.layers(run)

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
        path = self.folder / "contribution" / f"{self.name}-{self.data}.json"
        if not path.exists() or read_ladder(path).origin["fingerprint"] != self.fingerprint:
            path.parent.mkdir(exist_ok=True)
            overrides = {"sample_break_mode": "eos", "skip_masking": True, "shorten_method": "truncate"}
            run_command(
                path.with_suffix(".log"), "fairseq-layerdrop", "select", self.folder / "data-bin" / "inputs", "--path",
                self.args.checkpoint, "--method", "contribution", "--model-overrides", overrides, "--batch-size", 32,
                "--force", "-o", path, *self.device(),
            )  # fmt: skip
        return path

    def device(self) -> list[str]:
        return ["--cpu"] * self.args.cpu

    def configuration(self) -> dict:
        """What all runs tell ``fairseq-train``, of whatever model: configs/glue, for a few epochs."""
        updates = self.args.epochs * math.ceil(len(self.train) / self.batch)
        config = read_config(f"configs/glue/{self.args.task}.yaml")
        config["model"].update(encoder_layerdrop=0)
        config["task"].update(group_by_length=True)
        config["common"].update(log_interval=50)
        config["dataset"].update(batch_size=self.batch, max_tokens=None, disable_validation=True, num_workers=0)
        config["optimization"].update(lr=[self.rate], max_epoch=self.args.epochs, max_update=updates)
        config["lr_scheduler"].update(total_num_update=updates, warmup_updates=int(WARMUP * updates))
        config["checkpoint"] = {"no_epoch_checkpoints": True}
        return fit_to_devices(config, 1, self.args.cpu)

    def flags(self, run: Run, save_dir: Path) -> list[str]:
        """The arguments of ``fairseq-train`` for a run."""
        config = self.configuration()
        config["model"].update(self.shape)
        config["task"].update(
            data=str(self.folder / "data-bin"), prune_layers=self.spec(run), max_positions=self.max_positions
        )
        config["common"].update(seed=run.seed)
        start = None if run.model == RANDOM else self.args.checkpoint
        config["checkpoint"].update(save_dir=str(save_dir), finetune_from_model=start)
        return config_flags(config)

    def name_of(self, run: Run) -> str:
        """What a run's files are called."""
        digest = digest_of(json.dumps([self.settings, self.start(run)]).encode())
        return f"{run.model}-{run.strategy}-{run.dropped}-{run.seed}-{digest}".replace(" ", "_")

    def tune(self, run: Run, wait: bool) -> None:
        """Fine-tune, score dev and add the row, if it isn't there; what another process is at only where we *wait*."""
        name = self.name_of(run)
        save_dir = self.folder / "runs" / name
        if run in self.done() and not save_dir.exists():
            return
        with locked(save_dir.with_name(f"{name}.lock"), wait) as lock:
            if lock is None:
                return
            if run not in self.done():
                log = self.folder / "logs" / f"{name}.log"
                run_command(log, "fairseq-train", *self.flags(run, save_dir), hold=[lock])
                row = self.row(run, save_dir / "checkpoint_last.pt")
                add_row(self.rows, row)
                print(json.dumps(row.record), flush=True)
                self.write()
            shutil.rmtree(save_dir, ignore_errors=True)

    def row(self, run: Run, checkpoint: Path) -> Row:
        """What a run's last checkpoint gives."""
        found = measure(self.args.task, self.folder / "data-bin", checkpoint, *self.device())
        trained = Checkpoint.load(checkpoint).content["extra_state"]["previous_training_time"]
        return Row(
            run=run,
            layers=self.layers(run),
            parameters=found["parameters"],
            scores=found["scores"],
            tuning=trained - (0 if run.model == RANDOM else self.seconds_before),
            inference=found["seconds"],
            settings=self.settings,
            start=self.start(run),
            machine=self.machine,
        )

    def write(self) -> str:
        """Write the table of all rows."""
        rows = self.done().values()
        means = means_of(rows)
        majority = majority_scores(self.args.task, self.gold, self.train)
        machines = sorted({row.machine for row in rows})
        how = f"{self.args.epochs} epochs with a learning rate of {self.rate:g} and batches of {self.batch}"
        table = to_markdown(self.args.title, majority, means, f"{how}, on {'; '.join(machines)}.")
        result = {
            "title": self.args.title,
            "task": self.args.task,
            "settings": self.settings,
            "machines": machines,
            "majority": majority,
            "means": list(map(asdict, means)),
        }
        for ending, text in {"md": table, "json": json.dumps(result, indent=1) + "\n"}.items():
            with write_atomically(self.folder / f"result.{ending}") as file:
                file.write(text.encode())
        return table


def measure(task: str, data: Path, checkpoint: Path, *flags: str) -> dict:
    """As ``fairseq-layerdrop glue`` does, in this process."""
    be_quiet()
    return glue(checkpoint, Data(str(data), batch_size=32, cpu="--cpu" in flags), task)


def digest_of(*contents: bytes) -> str:
    """Eight letters that tell contents apart."""
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:8]


@contextlib.contextmanager
def locked(path: Path, wait: bool) -> Iterator[int | None]:
    """Hold a lock file: its descriptor, or None where another process holds it and we don't wait."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            lock = file.fileno()
        except BlockingIOError:
            lock = None
        yield lock


def run_command(log: Path, program: str, *arguments, hold: Sequence[int] = ()) -> None:
    """Run a command of this environment, with itself and its output added to *log*.

    Args:
        log: file.
        program: name of the command.
        *arguments: of the command.
        hold: descriptors of locks, which it goes on holding should it outlive us.

    Raises:
        UserError: it failed; tells its last line.
    """
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as file:
        command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
        file.write(f"# {shlex.join([program, *command[1:]])}\n".encode())
        file.flush()
        failed = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False, pass_fds=hold).returncode
    if failed:
        last = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise UserError(f"{program} failed, see {log}: {last}")


def parser() -> argparse.ArgumentParser:
    """The command line, as compare.sh gives it."""
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
    return parser


def main() -> None:
    comparison = Comparison(parser().parse_args())
    runs = runs_of(comparison.name, comparison.counts(), comparison.args.strategies, comparison.args.seeds)
    comparison.check(runs)
    done = comparison.done()
    print(f"{len(runs)} runs, {sum(run in done for run in runs)} of them are there", flush=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and so end what we run
    for wait in (False, True):  # what another process is at comes last
        for run in runs:
            comparison.tune(run, wait)
    print(f"\n{comparison.write()}\ntable: {comparison.folder}/result.md, {comparison.folder}/result.json")


if __name__ == "__main__":
    main()
