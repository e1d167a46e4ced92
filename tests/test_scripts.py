"""The README's first command, small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="the script would make a virtual environment and install")
def test_quickstart_runs_twice(tmp_path):
    environment = {
        **os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OUT": str(tmp_path), "UPDATES": "2", "PAIRS": "2000", "DEPTHS": "6 2",
    }  # fmt: skip
    for _ in range(2):
        done = subprocess.run(
            ["bash", ROOT / "scripts" / "quickstart.sh"], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert f"picture: {tmp_path}/result.png" in done.stdout
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert [(row["model"], row["kept_layers"]) for row in rows] == [
        ("layerdrop", 6), ("plain", 6), ("layerdrop", 2), ("plain", 2),
    ]  # fmt: skip
    assert rows[0]["parameters"] > rows[2]["parameters"]
    assert (tmp_path / "result.png").stat().st_size > 10000
