"""The wheel, installed into an environment of its own, works with what it holds."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.commands import NEEDS_FAIRSEQ_MAIN, ROOT, SETTINGS

pytestmark = NEEDS_FAIRSEQ_MAIN


def run(*command, cwd) -> str:
    """Run a command that knows nothing of this checkout; returns what it printed."""
    env = {key: value for key, value in {**os.environ, **SETTINGS}.items() if key != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment with the wheel alone; what it requires is lent to it by this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, so that nothing is built in the checkout, nor taken from an earlier build
    source.mkdir()
    for name in ("fairseq_layerdrop", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    [wheel] = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin/python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A folder that is named in a .pth is searched last, and its own .pth files, as of an editable install, don't count.
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment


@pytest.fixture(scope="module")
def user_dir(installed) -> Path:
    return Path(run(installed / "bin/fairseq-layerdrop", "user-dir", cwd=installed).strip())


def test_is_on_its_own(installed, user_dir):
    assert user_dir.is_relative_to(installed) and user_dir.name == "fairseq_layerdrop"


def test_has_every_configuration(user_dir):
    for pattern in ("*/*.yaml", "*/paper.json"):
        held = {str(path.relative_to(user_dir / "configs")) for path in (user_dir / "configs").glob(pattern)}
        assert held == {str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").glob(pattern)}


def test_has_every_module_and_page(user_dir):
    for pattern in ("**/*.py", "**/*.html", "**/py.typed"):
        package = ROOT / "fairseq_layerdrop"
        held = {str(path.relative_to(user_dir)) for path in user_dir.glob(pattern)}
        assert held == {str(path.relative_to(package)) for path in package.glob(pattern)}


def test_works(installed, user_dir, checkpoint, tmp_path):
    """In one process, since each imports fairseq: a configuration as flags, an export and a page."""
    shutil.copytree(ROOT / "configs/multi30k/sweep", tmp_path / "sweep")
    commands = [
        ["flags", str(user_dir / "configs/multi30k/layerdrop.yaml"), "model.dropout=0.3"],
        ["export", str(checkpoint), "--prune-layers", "decoder=drop:0.ffn,3-5", "-o", "small.pt"],
        ["describe", "small.pt"],
        ["report", "sweep", "-o", "page.html"],
    ]
    script = f"from fairseq_layerdrop.cli.main import main\nfor command in {commands}:\n    main(command)"
    told = run(installed / "bin/python", "-c", script, cwd=tmp_path)
    assert "--arch layerdrop_transformer" in told and "--dropout 0.3" in told
    assert "decoder 3 of 6 layers (0-2 without 0.ffn)" in told
    assert "<html" in (tmp_path / "page.html").read_text()
