"""A process that has imported fairseq, and forks for each of fairseq's commands: that saves the seconds of the import.

A command is a process of its own, as from a shell: with its own arguments, environment, folder and files, and with
Python's usual end. Our package isn't imported before the fork; ``--user-dir`` does that, or the command itself.
"""

import importlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = {
    "fairseq-eval-lm": "fairseq_cli.eval_lm:cli_main",
    "fairseq-generate": "fairseq_cli.generate:cli_main",
    "fairseq-interactive": "fairseq_cli.interactive:cli_main",
    "fairseq-layerdrop": "fairseq_layerdrop.cli.main:main",
    "fairseq-preprocess": "fairseq_cli.preprocess:cli_main",
    "fairseq-train": "fairseq_cli.train:cli_main",
    "fairseq-validate": "fairseq_cli.validate:cli_main",
}

# What the commands import, but for their own modules.
LIBRARIES = (
    "fairseq.models.transformer_lm", "fairseq.tasks.language_modeling", "fairseq.trainer", "sacrebleu", "torch",
)  # fmt: skip


class FairseqServer:
    """The client's side: starts the process, which ends with this one, and asks it for commands."""

    def __init__(self):
        self.address = os.path.join(tempfile.mkdtemp(), "socket")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fairseq_server", self.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        assert self.process.stdout.readline() == b"ready\n"

    def run(self, program: str, arguments, stdin: str, cwd, env) -> subprocess.CompletedProcess:
        with tempfile.TemporaryDirectory() as folder:
            files = {name: os.path.join(folder, name) for name in ("stdin", "stdout", "stderr")}
            Path(files["stdin"]).write_text(stdin)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self.address)
                request = {"argv": [program, *arguments], "files": files, "cwd": str(cwd), "env": dict(env)}
                connection.sendall(f"{json.dumps(request)}\n".encode())
                code = json.loads(connection.makefile().readline())
            printed = [Path(files[name]).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess([program, *arguments], code, *printed)


def become(request) -> None:
    """Let this process, just forked, be the command of *request*."""
    for name, mode, number in (("stdin", os.O_RDONLY, 0), ("stdout", os.O_WRONLY, 1), ("stderr", os.O_WRONLY, 2)):
        file = os.open(request["files"][name], mode | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]


def serve(address: str) -> list[str] | None:
    """Answer requests until standard input ends; returns the arguments in a process that has become a command."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while server in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            with connection:
                if os.fork():
                    while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
                        pass
                    continue
                request = json.loads(connection.makefile().readline())
                command = os.fork()
                if not command:
                    become(request)
                    return sys.argv
                code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
                connection.sendall(f"{code}\n".encode())
            os._exit(0)


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    logging.root.handlers.clear()  # a command sets up logging before it imports fairseq
    logging.root.setLevel(logging.WARNING)
    if serve(sys.argv[1]):
        module, _, function = COMMANDS[os.path.basename(sys.argv[0])].partition(":")
        sys.exit(getattr(importlib.import_module(module), function)())
