"""Shared helpers: real fairseq commands on tiny data that the tests make."""

import contextlib
import functools
import io
import os
import random
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairseq_layerdrop.cli.main import main
from tests.fairseq_server import COMMANDS, FairseqServer

# On Python 3.10 we use official fairseq 0.12.2. With torch >= 2 its own post-norm encoders fail in evaluation, its
# encoder layers have parameters that the main branch's don't, and its hydra is older than our configurations.
NEEDS_FAIRSEQ_MAIN = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="official fairseq 0.12.2 can't do this itself"
)

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
USER_DIR = str(ROOT / "fairseq_layerdrop")


@functools.cache
def server() -> FairseqServer:
    """The process that runs fairseq's commands for this one."""
    return FairseqServer()


def run(*command, check=True, stdin="", cwd=ROOT, **env) -> subprocess.CompletedProcess:
    """Run a command of this environment to its end; with *check*, a failure shows the end of its output."""
    program, *arguments = (str(part) for part in command)
    forks = program in COMMANDS and "PYTHONPATH" not in env  # which only a new interpreter reads
    path, env = str(Path(sys.executable).parent / program), {**os.environ, **SETTINGS, **env}
    if forks:
        done = server().run(path, arguments, stdin, cwd, env)
    else:
        done = subprocess.run([path, *arguments], input=stdin, capture_output=True, text=True, cwd=cwd, env=env)
    if check and done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}", pytrace=False)
    return done


def layerdrop(*arguments, check=True) -> subprocess.CompletedProcess:
    """The ``fairseq-layerdrop`` command in this process, which saves the seconds of importing fairseq."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
            if code == 1:
                print(stop.code, file=stderr)
    done = subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())
    if check and code:
        pytest.fail(f"{' '.join(map(str, arguments))}\n{said(done)}", pytrace=False)
    return done


def said(done: subprocess.CompletedProcess) -> str:
    """All that a command printed; fairseq's log lines go now to standard output, now to standard error."""
    return done.stdout + done.stderr


def ends_in_one_line(done: subprocess.CompletedProcess, *words: str) -> None:
    """Assert that a command failed and told so in one line, without a traceback."""
    assert done.returncode not in (0, None)
    assert "Traceback" not in said(done)
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1 and done.stderr.rstrip("\n").endswith(errors[0])
    for word in words:
        assert word in errors[0]


def write_sentences(path: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(30)]
    lines = [" ".join(rng.choices(words, k=rng.randint(3, 9))) for _ in range(count)]
    path.write_text("".join(f"{line}\n" for line in lines))


TRAIN = (
    "--optimizer", "adam", "--lr", "0.001", "--cpu", "--num-workers", "0", "--no-epoch-checkpoints",
    "--disable-validation", "--log-format", "simple", "--log-interval", "1",
)  # fmt: skip
TRANSLATION = (
    *TRAIN,
    "--max-tokens",
    "200",
    "--share-all-embeddings",
    "--encoder-layers",
    "6",
    "--decoder-layers",
    "6",
)
# torch >= 2.6 by itself refuses what stock fairseq saves.
STOCK = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
EVALUATE = ("--cpu", "--num-workers", "0", "--max-tokens", "400", "--required-batch-size-multiple", "1")
LAYERDROP_TRANSLATION = ("--user-dir", USER_DIR, "--task", "layerdrop_translation")


def train_translation(data, out, updates, *flags, **kwargs) -> subprocess.CompletedProcess:
    """Train a 6 + 6-layer model of ours with LayerDrop 0.5; an update has two micro-batches, an epoch six updates."""
    return run(
        "fairseq-train", data, *LAYERDROP_TRANSLATION, "--arch", "layerdrop_transformer_tiny", *TRANSLATION,
        "--encoder-layerdrop", "0.5", "--decoder-layerdrop", "0.5", "--max-tokens", "60", "--update-freq", "2",
        "--max-update", updates, "--save-dir", out, *flags, **kwargs,
    )  # fmt: skip


def train_on_two(data, out, updates, *flags, **kwargs) -> list[subprocess.CompletedProcess]:
    """Train as :func:`train_translation` does, in two gloo processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    def rank(number):
        return train_translation(
            data, out, updates, "--distributed-world-size", "2", "--distributed-rank", number,
            "--distributed-init-method", address, "--distributed-backend", "gloo", "--distributed-no-spawn", *flags,
            **kwargs,
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(rank, (0, 1)))


def train_lm(data, out, updates, *flags, **kwargs) -> subprocess.CompletedProcess:
    """Train a 6-layer language model of ours with LayerDrop 0.5."""
    return run(
        "fairseq-train", data, "--user-dir", USER_DIR, "--task", "layerdrop_language_modeling",
        "--arch", "layerdrop_transformer_lm_tiny", *TRAIN, "--decoder-layers", "6", "--tokens-per-sample", "32",
        "--max-tokens", "128", "--decoder-layerdrop", "0.5", "--max-update", updates, "--save-dir", out,
        *flags, **kwargs,
    )  # fmt: skip


ROBERTA = (
    "--user-dir", USER_DIR, "--arch", "layerdrop_roberta_tiny", "--encoder-layers", "6", "--max-positions", "32",
    "--batch-size", "8", "--encoder-layerdrop", "0.5",
)  # fmt: skip


def train_masked_lm(data, out, updates, *flags, **kwargs) -> subprocess.CompletedProcess:
    """Train a 6-layer RoBERTa of ours with LayerDrop 0.5; an update has two micro-batches."""
    return run(
        "fairseq-train", data, "--task", "layerdrop_masked_lm", "--criterion", "masked_lm", *ROBERTA, *TRAIN,
        "--tokens-per-sample", "32", "--update-freq", "2", "--max-update", updates, "--save-dir", out, *flags, **kwargs,
    )  # fmt: skip


def train_classifier(data, out, updates, *flags, **kwargs) -> subprocess.CompletedProcess:
    """Train such a RoBERTa to tell long sentences from short ones."""
    return run(
        "fairseq-train", data, "--task", "layerdrop_sentence_prediction", "--criterion", "sentence_prediction",
        "--num-classes", "2", "--classification-head-name", "length", "--init-token", "0", *ROBERTA, *TRAIN,
        "--max-update", updates, "--save-dir", out, *flags, **kwargs,
    )  # fmt: skip


def generate(data, checkpoint, *flags, **kwargs) -> subprocess.CompletedProcess:
    return run("fairseq-generate", data, "--path", checkpoint, "--beam", "3", *EVALUATE, *flags, **kwargs)
