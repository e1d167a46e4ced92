"""Files in which long work notes its results one by one, so that it can be stopped and started again."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import UserError

Record = dict[str, Any]


def describe_difference(name: str, old: object, new: object) -> str:
    """In which setting two runs differ, in words."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return next(
            describe_difference(key, old.get(key), value) for key, value in new.items() if old.get(key) != value
        )
    if str(new).startswith("sha256:"):
        known = {"data": "it looked at other data", "fingerprint": "it is of another checkpoint"}
        return known.get(name, f"other {name}")
    return f"its {name} is {old}, not {new}"


def check_same_run(where: Path, found: Mapping[str, Any], run: Mapping[str, Any], remedy: str) -> None:
    """Refuse results that were made in another way.

    Args:
        where: the file or folder that holds them.
        found: how they were made.
        run: how they are to be made: settings by name.
        remedy: what the user can do about it.

    Raises:
        UserError: a setting of *run* was another one.
    """
    for name, value in run.items():
        if found.get(name) != value:
            difference = describe_difference(name, found.get(name), value)
            raise UserError(f"{where} is of another run: {difference}; {remedy}")


def read_journal(path: Path, kind: Mapping[str, Any], remedy: str) -> tuple[Record, list[Record]]:
    """The run that a journal is of, and its records. A last line that a killed process left unfinished doesn't count.

    Args:
        path: a file of JSON lines, a head and then the records.
        kind: what its head says beside the run: the name of the format, maybe its version.
        remedy: what the user can do about a file of another kind.

    Raises:
        UserError: the file is not such a journal, or can't be read.
    """
    try:
        lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        head, *records = lines or [{**kind, "run": {}}]
        if {name: head[name] for name in kind} != dict(kind) or not all(isinstance(line, dict) for line in records):
            raise ValueError
        return dict(head["run"]), records
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        known = kind["format"] + (f", version {kind['version']}" if "version" in kind else "")
        raise UserError(f"{path} isn't a file of the format '{known}'; {remedy}") from error


class Journal:
    """Records in a file of JSON lines. Each is on the disk as soon as it is added, and a run started again finds them.

    The first line, the head, says of which run the records are. A run that ends before its first record leaves no file.

    Args:
        path: the file.
        kind: what its head says beside the run; see :func:`read_journal`.
        run: how the records are made, values of JSON. Records of another run are refused.
        remedy: what the user can do then.

    Raises:
        UserError: the file is of another run or kind, or can't be read.
    """

    def __init__(self, path: Path, kind: Mapping[str, Any], run: Mapping[str, Any], remedy: str):
        self.path = path
        self.kind = dict(kind)
        self.run: Record = json.loads(json.dumps(run))
        self.records: list[Record] = []
        if path.exists():
            found, self.records = read_journal(path, kind, remedy)
            if found:
                check_same_run(path, found, self.run, remedy)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record.

        Raises:
            UserError: the file can't be written.
        """
        append_lines(self.path, [record], head={**self.kind, "run": self.run})
        self.records.append(dict(record))


def append_lines(path: Path, records: Iterable[Mapping[str, Any]], head: Mapping[str, Any] | None = None) -> None:
    """Append JSON lines to a file, below *head* where it is empty, in place of an unfinished last line.

    Raises:
        UserError: the file can't be written.
    """
    try:
        with path.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            first = [head] if head is not None and file.seek(0, os.SEEK_END) == 0 else []
            file.write("".join(f"{json.dumps(line)}\n" for line in (*first, *records)).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
