"""Processor time of the commands that look at no model, against that of another version of this package.

    git worktree add ../before a330744
    python scripts/bench/front_door.py --before ../before --out work/front_door

Each command runs in turn with either version, once a round. Time is the processor's, user and system, of the whole
process. Writes OUT.json and OUT.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.base.tables import table
from fairseq_layerdrop.evaluation.cost import machine

HERE = Path(__file__).resolve().parents[2]
# Command -> the largest share of the time before that it may take.
COMMANDS = {
    ("--help",): 1 / 20,
    ("user-dir",): 1 / 20,
    ("select", "--help"): 1 / 8,
    ("export", "--help"): 1 / 8,
    ("flags", "configs/multi30k/layerdrop.yaml"): 1 / 8,
    ("score", "--hypotheses", "{text}", "--references", "{text}"): 1 / 8,
}


def seconds(folder: Path, words: list[str]) -> float:
    """Processor time of a command of the package in *folder*."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fairseq_layerdrop", *words], cwd=folder, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed in {folder}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, metavar="DIR", help="a checkout of the other version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    versions = {"before": args.before.resolve(), "now": HERE}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch, "text")
        text.write_text("One two three four.\n")
        for command, limit in COMMANDS.items():
            words = [word.format(text=text) for word in command]
            times = {name: [] for name in versions}
            for _ in range(args.rounds + 1):
                for name, folder in versions.items():
                    times[name].append(seconds(folder, words))
            found = {name: statistics.median(of[1:]) for name, of in times.items()}  # the first fills caches
            shares = [now / before for before, now in zip(*(of[1:] for of in times.values()))]
            rows.append(
                {
                    "command": " ".join(command), "limit": limit, **found,
                    "share": statistics.median(shares), "low": min(shares), "high": max(shares),
                }
            )  # fmt: skip
            print(rows[-1])
    result = {"machine": machine(torch.device("cpu")), "rounds": args.rounds, "rows": rows}
    lines = [
        [
            f"`{row['command']}`", f"{row['before']:.2f}", f"{row['now']:.2f}", f"1/{1 / row['share']:.0f}",
            f"1/{1 / row['high']:.0f} to 1/{1 / row['low']:.0f}", f"1/{1 / row['limit']:.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    headings = ["fairseq-layerdrop …", "before, s", "now, s", "share", "rounds", "at most"]
    how = f"{result['machine']}; processor time, medians of {args.rounds} rounds in turn."
    for ending, content in {
        "json": json.dumps(result, indent=1) + "\n", "md": f"{table(headings, lines)}\n\n{how}\n",
    }.items():  # fmt: skip
        with write_atomically(f"{args.out}.{ending}") as file:
            file.write(content.encode())
    print(table(headings, lines))


if __name__ == "__main__":
    main()
