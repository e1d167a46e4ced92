"""How the package is entered: commands that need neither torch nor fairseq, and the ways to register with fairseq."""

import json
import os
import subprocess
import sys

import pytest

from fairseq_layerdrop.cli.main import VERBS
from fairseq_layerdrop.version import __version__
from tests.commands import ROOT, USER_DIR
from tests.reports.sweeps import point, write

HEAVY = ("torch", "fairseq")


def python(code: str, *arguments, **env) -> subprocess.CompletedProcess:
    """Run *code* in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )  # fmt: skip


def light(*commands) -> None:
    """Assert that commands, one after the other in one interpreter, load neither torch nor fairseq."""
    code = f"""
import contextlib, io, json, runpy, sys
for command in json.loads(sys.argv[1]):
    program, *sys.argv[1:] = command
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_module(program, run_name="__main__")
    except SystemExit as stop:
        assert stop.code in (0, None), (command, stop.code)
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, f"{{command}} loads {{loaded}}"
"""
    done = python(code, json.dumps([[str(word) for word in command] for command in commands]))
    assert done.returncode == 0, done.stderr


def test_help_is_light():
    light(*(("fairseq_layerdrop", *words, "--help") for words in ((), *((verb,) for verb in VERBS))))


def test_light_verbs(tmp_path):
    write(tmp_path, [point(), point(plan="decoder=keep:3@top", layers=(6, 3), ms=20.0, million=40.0)])
    (tmp_path / "text").write_text("One two three four.\n")
    light(
        ("fairseq_layerdrop", "--version"),
        ("fairseq_layerdrop", "user-dir"),
        ("fairseq_layerdrop", "choose", tmp_path, "--max-latency", "1s"),
        ("fairseq_layerdrop", "report", tmp_path),
        ("fairseq_layerdrop", "score", "--hypotheses", tmp_path / "text", "--references", tmp_path / "text"),
        ("fairseq_layerdrop", "describe", ROOT / "tests/plan/samples/plan.json"),
        ("fairseq_layerdrop", "flags", ROOT / "configs/multi30k/layerdrop.yaml"),
    )


def test_corpora_are_light():
    modules = [path.stem for path in (ROOT / "fairseq_layerdrop/corpora").glob("*.py")]
    runnable = [name for name in modules if "__main__" in (ROOT / f"fairseq_layerdrop/corpora/{name}.py").read_text()]
    assert len(runnable) >= 6
    light(*((f"fairseq_layerdrop.corpora.{name}", "--help") for name in runnable))


def test_version():
    assert python("from fairseq_layerdrop.cli.main import main; main(['--version'])").stdout.split()[-1] == __version__


REGISTERED = """
from fairseq import tasks, models
assert "layerdrop_translation" in tasks.TASK_REGISTRY and "layerdrop_transformer_tiny" in models.ARCH_MODEL_REGISTRY
from fairseq import checkpoint_utils
assert hasattr(checkpoint_utils.load_checkpoint_to_cpu, "__wrapped__")
"""


@pytest.mark.parametrize(
    "door",
    [
        "import fairseq, fairseq_layerdrop",
        "import fairseq_layerdrop.register",
        "from fairseq_layerdrop import LayerDropTransformerModel",
        f"from argparse import Namespace; from fairseq import utils;"
        f"utils.import_user_module(Namespace(user_dir={USER_DIR!r}))",
    ],
)
def test_doors(door):
    done = python(f"{door}\n{REGISTERED}")
    assert done.returncode == 0, done.stderr


def test_a_bare_import_loads_nothing():
    done = python("import sys, fairseq_layerdrop; print(sorted({'torch', 'fairseq', 'numpy'} & set(sys.modules)))")
    assert done.stdout == "[]\n"


def test_unknown_names():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        import fairseq_layerdrop

        fairseq_layerdrop.nothing  # noqa: B018


def test_shells_are_answered():
    line = "fairseq-layerdrop choose --max-"
    code = "import os; os.dup2(os.open(os.environ['ANSWER'], os.O_WRONLY | os.O_CREAT), 8);"
    code += "from fairseq_layerdrop.cli.main import main; main([])"
    answer = ROOT / ".pytest_cache" / "completions"
    answer.parent.mkdir(exist_ok=True)
    python(
        code, ANSWER=str(answer), _ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)),
        _ARGCOMPLETE_IFS=" ",
    )  # fmt: skip
    found = answer.read_text().split()
    answer.unlink()
    assert {"--max-latency", "--max-params", "--max-loss"} <= set(found)
