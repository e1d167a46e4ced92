"""A process that has imported fairseq, and forks for each of fairseq's commands: that saves the seconds of the import.

A command is a process of its own, as from a shell: with its own arguments, environment, folder and files, and with
Python's usual end. Our package isn't imported before the fork; ``--user-dir`` does that, or the command itself. It is
no child of who asks for it, and so outlives one that is killed.
"""

import contextlib
import gc
import importlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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

# What the commands import, but for their own modules; torch's optimizers import torch._dynamo.
LIBRARIES = (
    "fairseq.models.transformer_lm", "fairseq.tasks.language_modeling", "fairseq.trainer", "sacrebleu", "torch",
    "torch._dynamo", "torch.distributed.fsdp",
)  # fmt: skip


ROOT = Path(__file__).parents[1]
CLIENT = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.fairseq_server import ask
sys.exit(ask({{address!r}}, sys.argv, os.getcwd(), os.environ, [0, 1, 2]))
"""


def ask(address: str, argv: Sequence[str], cwd: str, env: Mapping[str, str], files: Sequence[int]) -> int:
    """Let a server run a command, with these standard files; gives its exit status, below 0 for a signal."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"!"], files)
        connection.sendall(f"{json.dumps({'argv': argv, 'cwd': cwd, 'env': dict(env)})}\n".encode())
        return json.loads(connection.makefile().readline())


class FairseqServer:
    """The client's side: starts the process, which ends with this one, and asks it for commands.

    Attributes:
        address: of its socket.
        programs: folder with programs, named as the commands, that ask for them.
    """

    def __init__(self):
        folder = Path(tempfile.mkdtemp())
        self.address = str(folder / "socket")
        self.programs = folder / "bin"
        self.programs.mkdir()
        for command in COMMANDS:
            program = self.programs / command
            program.write_text(CLIENT.format(address=self.address))
            program.chmod(0o700)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fairseq_server", self.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout.readline() == b"ready\n"

    def run(self, program: str, arguments, stdin: str, cwd, env) -> subprocess.CompletedProcess:
        argv = [program, *arguments]
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            files[0].write(stdin)
            files[0].seek(0)
            code = ask(self.address, argv, str(cwd), env, [file.fileno() for file in files])
            for file in files:
                file.seek(0)
            return subprocess.CompletedProcess(argv, code, files[1].read(), files[2].read())


def become(request, files: Sequence[int]) -> None:
    """Let this process, just forked, be the command of *request* with these standard files."""
    for number, file in enumerate(files):
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
                _, files, *_ = socket.recv_fds(connection, 1, 3)
                request = json.loads(connection.makefile().readline())
                command = os.fork()
                if not command:
                    become(request, files)
                    return sys.argv
                for file in files:
                    os.close(file)
                code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
                connection.sendall(f"{code}\n".encode())
            os._exit(0)


def warm_up() -> None:
    """Read a command line as fairseq does: hydra's parser is slow until it has seen its grammar."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    words = ["data", "--arch", "transformer_tiny", "--optimizer", "adam", "--lr", "0.1", "--max-tokens", "9"]
    convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), words))


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    warm_up()
    gc.freeze()  # what is there now is neither searched nor copied in the forks
    logging.root.handlers.clear()  # a command sets up logging before it imports fairseq
    logging.root.setLevel(logging.WARNING)
    if serve(sys.argv[1]):
        module, _, function = COMMANDS[os.path.basename(sys.argv[0])].partition(":")
        sys.exit(getattr(importlib.import_module(module), function)())
