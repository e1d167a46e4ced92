"""The steps of scripts/setup.sh, without downloads."""

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

from tests.commands import ROOT

PYTHONS = ("python3", "python3.10", "python3.11", "python3.12", "python3.13")
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PROJECT = (ROOT / "pyproject.toml").read_text()


def steps(commands: str, path="", check=True, **env):
    """What shell commands print that may call the steps."""
    env = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "PYTHON": "", **{k: str(v) for k, v in env.items()}}
    script = f"set -euo pipefail; source {ROOT}/scripts/setup_steps.sh; {commands}"
    done = subprocess.run(["bash", "-c", script], env=env, cwd=ROOT, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if check else done


def stops(commands: str, *words: str, **kwargs) -> None:
    """Assert that shell commands end with one line."""
    done = steps(commands, check=False, **kwargs)
    assert done.returncode == 1 and re.fullmatch(r"setup: .*\n", done.stderr), done.stderr
    for word in words:
        assert word in done.stderr


def program(path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)


class TestFindPython:
    @pytest.fixture
    def machine(self, tmp_path):
        """A folder of programs of a machine without a Python that fits, uv and pyenv."""
        for name in (*PYTHONS, "uv", "pyenv"):
            program(tmp_path / "bin" / name, "exit 1")
        return tmp_path / "bin"

    def found(self, machine, **env) -> str:
        return steps('find_python; echo "$python"', machine, **env).strip()

    @pytest.mark.parametrize("name", ["python3", "python3.12"])
    def test_of_the_system(self, machine, name):
        program(machine / name, f'exec {sys.executable} "$@"')
        assert self.found(machine) == name

    def test_of_uv(self, machine):
        program(machine / "uv", f"echo {sys.executable}")
        assert self.found(machine) == sys.executable

    def test_of_pyenv(self, machine, tmp_path):
        program(machine / "pyenv", f"echo {tmp_path}")
        python = tmp_path / "versions/3.12.1/bin/python"
        program(python, f'exec {sys.executable} "$@"')
        assert self.found(machine) == str(python)

    def test_one_that_is_named(self, machine):
        assert self.found(machine, PYTHON=sys.executable) == sys.executable
        stops("find_python", "PYTHON=python3.12 is no Python 3.10 to 3.13", path=machine, PYTHON="python3.12")

    def test_none(self, machine):
        stops("find_python", "uv python install", path=machine)

    def test_the_range_is_that_of_the_package(self):
        oldest, newest = 10, 13
        assert f'requires-python = ">=3.{oldest},<3.{newest + 1}"' in PROJECT
        assert re.findall(r"Python :: 3\.(\d+)", PROJECT) == [str(minor) for minor in range(oldest, newest + 1)]
        for minor, inside in ((oldest - 1, False), (oldest, True), (newest, True), (newest + 1, False)):
            fake = f'{sys.executable} -c "$(echo "$2" | sed "s/sys.version_info/(3, {minor})/")"'
            told = steps(f"fake() {{ {fake}; }}; runs fake 10 && echo inside || echo outside")
            assert told.strip() == ("inside" if inside else "outside")


def test_extras_of_each_caller():
    for caller in ("quickstart", "recipe", "test"):
        for extra in steps(f"extras_for {caller}").strip().split(","):
            assert f"\n{extra} = [" in PROJECT
    stops("extras=$(extras_for other)", "not for other")
    for script in ("quickstart.sh", "recipe.sh", "test.sh"):
        [word] = re.findall(r"^source scripts/setup.sh (\w+)$", (ROOT / "scripts" / script).read_text(), re.MULTILINE)
        steps(f"extras_for {word}")


class TestConstraints:
    def written(self, commands="", **env) -> list[str]:
        return steps(f"{commands} constraints=/dev/stdout; write_constraints", **env).splitlines()

    def test_an_installed_torch_stays(self):
        installed = importlib.metadata.version("torch").partition("+")[0]
        assert f"torch=={installed}" in self.written()
        assert "torch==2.7.1" in self.written("installed() { echo 2.7.1+cu126; };")
        assert self.written("installed() { return 1; };") == CONSTRAINTS.splitlines()

    def test_another_numpy(self):
        assert {line for line in self.written(NUMPY="2.4.6") if line.startswith("numpy")} == {"numpy==2.4.6"}


class TestTorch:
    """With a pip that installs nothing and tells what it was asked for."""

    STAND_INS = 'constraints=; install() { echo "pip $*"; }; uname() { echo Linux; }; installed() { return 1; };'

    def told(self, version, gpu, **env) -> str:
        report = f'{{"install": [{{"metadata": {{"version": "{version}"}}}}]}}'
        python = f"""python() {{ if [ "$1" = -m ]; then echo '{report}'; else command python "$@"; fi; }};"""
        gpu = f"has_gpu() {{ {'true' if gpu else 'false'}; }};"
        return steps(f"{self.STAND_INS} {python} {gpu} install_torch wheel", **env)

    def test_what_is_fetched_is_told_before(self):
        assert self.told("2.13.0+cpu", gpu=False).splitlines() == [
            "setup: fetching PyTorch 2.13.0+cpu, 0.2 GB", "pip torch numpy wheel",
        ]  # fmt: skip
        for gpu in (True, False):
            told = self.told("2.13.0", gpu)
            assert "fetching PyTorch 2.13.0, with CUDA" in told and ("TORCH_INDEX" not in told) == gpu

    def test_its_index(self):
        told = self.told("2.13.0+cpu", gpu=False, TORCH_INDEX="http://example.org")
        assert "pip --extra-index-url http://example.org torch" in told

    def test_one_that_is_there(self):
        told = steps(f"{self.STAND_INS} installed() {{ echo 2.7.1; }}; install_torch")
        assert told.splitlines() == ["setup: PyTorch 2.7.1 is there", "pip torch numpy"]

    def test_none(self):
        stops(f"{self.STAND_INS} python() {{ false; }}; install_torch", "finds no PyTorch")


class TestFairseq:
    """With stand-ins for pip and for the check whether what it installed can be imported."""

    def told(self, fits: str, stop=False):
        commands = f'install() {{ echo "pip $*"; }}; install_torch() {{ :; }}; fairseq_fits() {{ {fits}; }};'
        return (stops if stop else steps)(f"{commands} install_fairseq")

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="official fairseq compiles with build isolation")
    def test_compiled_for_another_numpy(self):
        assert "--force-reinstall" not in self.told("true")
        told = self.told('[ -n "${asked:-}" ] || { asked=1; false; }')
        assert told.count("--no-cache-dir --no-deps --force-reinstall fairseq-fixed") == 1

    def test_the_check(self):
        steps("fairseq_fits")


class TestWhole:
    def test_done_before(self, tmp_path):
        """What is there for the tests does for all; for a recipe it does for recipes alone."""
        commands = "install() { :; }; install_fairseq() { :; }; enter_environment() { :; }; write_constraints() { :; };"
        for first, then, done in (("test", "quickstart", True), ("recipe", "recipe", True), ("recipe", "test", False)):
            told = steps(
                f"{commands} rm -f {tmp_path}/*.setup; set_up {first}; set_up {then}", VIRTUAL_ENV=tmp_path, SETUP=""
            )
            assert told.splitlines()[-1] == f"setup: {'already done' if done else 'done'}"

    def test_one_process_alone(self, tmp_path):
        commands = "enter_environment() { :; }; set_up recipe"
        stops(commands, "several processes", VIRTUAL_ENV=tmp_path, SETUP="", WORLD_SIZE=2)
