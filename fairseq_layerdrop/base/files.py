"""Files and folders that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from uuid import uuid4

from .errors import UserError

StrPath = str | os.PathLike[str]


def _open_unnamed(folder: Path) -> IO[bytes] | None:
    """A file in *folder* that has no name yet, and so is gone if the process dies; None where there are none such."""
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), "w+b")
    except (AttributeError, OSError):  # not Linux, or a file system that can't; what else is wrong shows in open()
        return None


def _reason(path: Path, error: OSError) -> str:
    """Why *path* can't be written."""
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {path.parent}"
    return error.strerror or str(error)


@contextlib.contextmanager
def write_atomically(path: StrPath) -> Iterator[IO[bytes]]:
    """Open *path* for writing bytes; what was written takes its place when the block ends without an exception.

    Until then, and if the block fails, what was there stays. A process that is killed leaves nothing behind on Linux's
    usual file systems; elsewhere it leaves a hidden file beside *path*.

    Raises:
        UserError: the folder or the file can't be written, or the disk is full.
    """
    path = Path(path)
    if not path.name:
        raise UserError(f"'{path}' is not the name of a file")
    hidden = path.with_name(f".{uuid4().hex}.tmp")
    try:
        unnamed = _open_unnamed(path.parent)
        with unnamed or hidden.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if unnamed:
                # With a directory's descriptor, Python calls linkat(), which can follow /proc's link to the file.
                source = f"/proc/self/fd/{file.fileno()}"
                os.link(source, hidden, src_dir_fd=file.fileno(), follow_symlinks=True)
        hidden.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(path, error)}") from error
    finally:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)


@contextlib.contextmanager
def write_folder_atomically(path: StrPath) -> Iterator[Path]:
    """A new folder to fill; it takes the place of *path* when the block ends without an exception.

    Until then, and if the block fails, what was there stays. A process that is killed may leave a hidden folder beside
    *path*.

    Raises:
        UserError: the folder can't be written, or the disk is full.
    """
    path = Path(path)
    if not path.name:
        raise UserError(f"'{path}' is not the name of a folder")
    staged, replaced = (path.with_name(f".{uuid4().hex}.tmp") for _ in range(2))
    try:
        staged.mkdir()
        yield staged
        if path.exists():
            path.rename(replaced)
        staged.rename(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(path, error)}") from error
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        for folder in (staged, replaced):
            shutil.rmtree(folder, ignore_errors=True)
