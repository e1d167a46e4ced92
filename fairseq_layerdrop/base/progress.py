"""How far long work is: a bar on a terminal, and elsewhere a plain line now and then; on standard error."""

import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


class Progress:
    """Shows the progress of work that consists of equal parts.

    Args:
        what: name of the work.
        unit: what it consists of, in the plural.
        total: how many there are; None where nobody knows.
        done: how many an earlier run did.
        shown: whether to show anything; of several processes one does.
    """

    def __init__(self, what: str, unit: str, total: int | None = None, done: int = 0, shown: bool = True):
        self.unit, self.total, self.done = unit, total, done
        self._bar = tqdm(total=total, initial=done, desc=what, unit=f" {unit}", disable=None if shown else True)
        self._lines = shown and self._bar.disable
        self._before, self._started, self._last_line = done, time.monotonic(), time.monotonic()
        if self._lines and total is not None:
            self.write(f"{what}: {total - done:,} of {total:,} {unit} to do")

    def update(self, note: str = "", count: int = 1) -> None:
        """Tell that *count* more parts are done, with a *note* on the work so far."""
        self.done += count
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)
        if self._lines and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.write(f"{self.place} {self.unit}{f', {note}' if note else ''}")

    @property
    def place(self) -> str:
        """How many parts are done, and where that is known, how long the others will take: ``[3/12, 4 min left]``."""
        if self.total is None:
            return f"[{self.done:,}]"
        since = self.done - self._before
        seconds = (time.monotonic() - self._started) / since * (self.total - self.done) if since else None
        left = f", {_minutes(seconds)} left" if seconds and self.done < self.total else ""
        return f"[{self.done:,}/{self.total:,}{left}]"

    def write(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        self._bar.write(line, file=sys.stderr)
        sys.stderr.flush()

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
