"""What README and the documentation name exists and means something; their commands and examples are run or parsed."""

import argparse
import ast
import contextlib
import functools
import inspect
import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from fairseq import options
from fairseq.dataclass.initialize import hydra_init
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY

import fairseq_layerdrop
from fairseq_layerdrop import LayerDropTransformerModel  # noqa: F401  (registers all)
from fairseq_layerdrop.cli.main import VERBS
from fairseq_layerdrop.plan import ModelFacts, parse, parse_plans, transformer_structure
from fairseq_layerdrop.version import __version__
from tests.commands import LAYERDROP_TRANSLATION, NEEDS_FAIRSEQ_MAIN, ROOT, USER_DIR, layerdrop, server

sys.path.insert(0, str(ROOT / "scripts/docs"))
import commands

pytestmark = NEEDS_FAIRSEQ_MAIN
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "configs/README.md")
PAGES = [*(ROOT / name for name in OUTSIDE), *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
ALL = "\n".join(TEXT.values())
README = TEXT["README.md"]
pages = pytest.mark.parametrize("page", TEXT)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """Code within a line."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def table_below(text: str, heading: str) -> list[str]:
    """The code with which each row of the first table below a heading begins."""
    return re.findall(r"^\| `(.+?)` *\|", text.split(heading, 1)[1].split("\n#", 1)[0], re.MULTILINE)


def test_one_version():
    cited = re.search(r"^version: (.*)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert cited == __version__ and f"\n## {__version__}\n" in TEXT["CHANGELOG.md"]


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


class TestNames:
    PLANS = re.findall(r"--layerdrop-plans '([^']*)'", ALL)
    SPECS = sorted(
        set(
            re.findall(
                r"(?:(?:encoder|decoder)=)?(?:keep|drop):[\w,@.-]*\w(?:/decoder=keep:[\w,@-]+)?",
                re.sub(r"--layerdrop-plans '.*?'", "", ALL),
            )
        )
    )

    def test_specs_are_found(self):
        assert len(self.SPECS) > 20

    @pytest.mark.parametrize("spec", SPECS)
    def test_spec_is_in_the_grammar(self, spec):
        if not spec.endswith((":COUNT@RULE", ".json")):  # a ladder is read
            facts = ModelFacts({"encoder": 8, "decoder": 8}, {"encoder": (1 / 16,) * 16, "decoder": (1 / 16,) * 16})
            parse(spec).resolve(transformer_structure({"encoder": 16, "decoder": 16}), facts)

    def test_plans_of_a_teacher_are_in_the_grammar(self, products, monkeypatch):
        monkeypatch.chdir(products["plan.json"].parent)
        assert self.PLANS
        for plans in self.PLANS:
            assert len(parse_plans(plans)) > 1

    @pytest.mark.parametrize("name", sorted(set(re.findall(r"layerdrop_(?:transformer|roberta)\w*", ALL))))
    def test_architecture_is_registered(self, name):
        assert name in ARCH_MODEL_REGISTRY

    @pytest.mark.parametrize("name", sorted(set(re.findall(r"--task (layerdrop_\w+)", ALL))))
    def test_task_is_registered(self, name):
        assert name in TASK_REGISTRY

    @pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:scripts|configs|tests)/[\w/-]+\.\w+", ALL))))
    def test_file_is_there(self, path):
        assert "BENCHMARK" in path or (ROOT / path).is_file()

    @pages
    def test_links_lead_somewhere(self, page):
        """MkDocs itself checks those within docs/, with their anchors."""
        found = re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", re.sub(r"`[^`\n]*`", "", TEXT[page]))
        for link in found:
            assert link.startswith("https://") or (ROOT / page).parent.joinpath(link).exists(), link

    def test_every_verb_and_method_has_its_row(self):
        assert sorted(row.split()[0] for row in table_below(README, "## Commands")[1:]) == sorted(VERBS)
        methods = commands.parser_of("select")._option_string_actions["--method"].choices
        assert sorted(table_below(TEXT["docs/guide/choosing.md"], "## Methods")) == sorted(["--method", *methods])

    def test_every_extra_has_its_row(self):
        toml = (ROOT / "pyproject.toml").read_text()
        extras = re.findall(
            r"^(\w+) = \[", toml.split("[project.optional-dependencies]")[1].split("\n[")[0], re.MULTILINE
        )
        assert sorted(table_below(TEXT["docs/start/install.md"], "## Extras")[1:]) == sorted(extras)


# Flags of other programs than fairseq's and ours.
OTHERS = {"--master-addr", "--version", "--help"}
NAMED = {f"fairseq-layerdrop {verb}" for verb in VERBS}  # a verb is named so
# How code begins that is a command.
COMMANDS = ("fairseq-layerdrop ", "python ", "bash ", "pip install ", "pip wheel ", "ruff ")


@functools.cache
def known_flags() -> set[str]:
    """Every flag of fairseq's commands, with our tasks and models, and of our own verbs."""
    found = set(OTHERS)
    for arch in ("layerdrop_transformer", "layerdrop_transformer_lm", "layerdrop_roberta"):
        for task in filter(lambda name: name.startswith("layerdrop_"), TASK_REGISTRY):
            parser = options.get_training_parser()
            words = ("data", "--task", task, "--arch", arch, "--optimizer", "adam", "--criterion", "masked_lm")
            options.parse_args_and_arch(parser, words, parse_known=True)
            found |= parser._option_string_actions.keys()
    for make in FAIRSEQ.values():
        found |= make()._option_string_actions.keys()
    for verb in VERBS:
        found |= commands.parser_of(verb)._option_string_actions.keys()
    return found


FAIRSEQ = {
    "fairseq-eval-lm": options.get_eval_lm_parser,
    "fairseq-generate": options.get_generation_parser,
    "fairseq-interactive": options.get_interactive_generation_parser,
    "fairseq-preprocess": options.get_preprocessing_parser,
    "fairseq-train": options.get_training_parser,
    "fairseq-validate": options.get_validation_parser,
}


@pages
def test_flags_are_known(page):
    told = [span for span in spans(TEXT[page]) if not span.startswith(COMMANDS)]
    flags = {flag for span in told for flag in re.findall(r"(?:^|\s)(--[a-z][\w-]+)", span)}
    assert not {flag for flag in flags - known_flags() if not flag.endswith("-")}


# Commands: bash itself takes them apart, with programs that only note how they were called.

PROGRAMS = (
    "bash", "fairseq-hydra-train", "fairseq-layerdrop", "fairseq-preprocess", "mkdocs", "pip", "pre-commit", "python",
    "ruff", "srun", "torchrun", *FAIRSEQ,
)  # fmt: skip
NOTE = """#!/bin/bash
printf '%s\\0' "${0##*/}" "$@" $'\\1' >> "$CALLS"
case "${0##*/} $1" in # what they print is a part of other commands
    "fairseq-layerdrop flags") [ ! -e "$2" ] || PATH=$REAL_PATH exec "$REAL" "$@" ;;
    "fairseq-layerdrop user-dir") PATH=$REAL_PATH exec "$REAL" "$@" ;;
esac
"""


def calls_of(script: str, folder: Path) -> list[list[str]]:
    """How *script* calls programs, each with its arguments as bash expands them, in a folder with ``stubs``."""
    noted = folder / "calls"
    noted.write_text("")
    env = {
        "PATH": str(folder / "stubs"), "CALLS": str(noted), "REAL": str(server().programs / "fairseq-layerdrop"),
        "REAL_PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    bash = (shutil.which("bash"), "-euo", "pipefail", "-c", f"source() {{ :; }}\n{script}")
    done = subprocess.run(bash, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return [call.split("\0")[:-1] for call in noted.read_text().split("\1\0")[:-1]]


def commands_of(text: str) -> list[str]:
    """The scripts of a page: blocks of bash, both sides of blocks that show a difference, and commands in a line."""
    found = blocks(text, "bash")
    for block in blocks(text, "diff"):
        for side in "-+":
            found.append("".join(line[1:] for line in block.splitlines(keepends=True) if line[0] in f" {side}"))
    return found + [
        span
        for span in spans(text)
        if span.startswith(COMMANDS) and span not in NAMED and not re.search(r"VERB|\[…\]|layerdrop …|--version", span)
    ]


def program_parser(path: str) -> argparse.ArgumentParser:
    """The parser of a program of ours that isn't a verb."""
    found = []

    def ask(parser, *_):
        found.append(parser)
        raise SystemExit

    run = runpy.run_path if path.endswith(".py") else runpy.run_module
    folder = [str((ROOT / path).parent), *sys.path]
    with (
        mock.patch.object(sys, "argv", [path]), mock.patch.object(sys, "path", folder),
        mock.patch.object(argparse.ArgumentParser, "parse_args", ask), contextlib.suppress(SystemExit),
    ):  # fmt: skip
        run(str(ROOT / path) if path.endswith(".py") else path, run_name="__main__")
    return found[0]


class Checks:
    """What must hold of a command; each takes its arguments, without the ``…`` that stand for more."""

    def __call__(self, program: str, *arguments: str) -> None:
        left_out = "…" in arguments
        given = [argument for argument in arguments if argument != "…"]
        if program in FAIRSEQ:
            self.fairseq(program, given, left_out)
        else:
            getattr(self, program.replace("-", "_"))(*given)

    def fairseq(self, program, given, left_out):
        given = [USER_DIR if argument.rstrip("/").endswith("fairseq_layerdrop") else argument for argument in given]
        if left_out and "--task" not in given:
            given += LAYERDROP_TRANSLATION
        if program == "fairseq-preprocess":
            FAIRSEQ[program]().parse_args(given)
            return
        if program != "fairseq-interactive" and (not given or given[0].startswith("-")):
            given = ["data-bin", *given]
        options.parse_args_and_arch(FAIRSEQ[program](), given)

    def fairseq_layerdrop(self, verb, *given):
        _, more = commands.parser_of(verb).parse_known_args(given)
        assert not more or (verb == "flags" and all(re.fullmatch(r"\w+\.\w+=.*", word) for word in more)), more

    def fairseq_preprocess(self, *given):
        options.get_preprocessing_parser().parse_args(given)

    def fairseq_hydra_train(self, *given):
        from hydra import compose, initialize_config_dir  # of hydra >= 1.2

        named = dict(itertools.pairwise(given))
        hydra_init(named["--config-name"])
        folder, name = ROOT / named["--config-dir"], named["--config-name"]
        overrides = [word for word in given if re.match(r"(?!hydra)\w+\.\w+=", word)]
        with initialize_config_dir(str(folder), version_base="1.1"):
            compose(config_name=name, overrides=overrides)
        assert all("=" in word for word in given if word.startswith("hydra"))

    def bash(self, script, *given):
        assert (ROOT / script).is_file()
        if script.endswith("train.sh") and given:
            assert (ROOT / f"configs/{Path(script).parent.name}/{given[0]}.yaml").is_file()

    def python(self, *given):
        if given[0] == "-m":
            given = given[1:]
        if given[0] == "pytest":
            assert all((ROOT / path).exists() for path in given[1:])
        else:
            parser = program_parser(given[0])
            if given[1:]:  # otherwise the program is named, no more
                parser.parse_args(given[1:])

    def pip(self, command, *given):
        assert command in ("install", "wheel")
        parser = argparse.ArgumentParser()
        parser.add_argument("-c")
        parser.add_argument("--no-build-isolation", action="store_true")
        parser.add_argument("--no-deps", action="store_true")
        parser.add_argument("--wheel-dir")
        parser.add_argument("packages", nargs="+")
        args = parser.parse_args(given)
        assert args.c is None or (ROOT / args.c).is_file()
        for extra in re.findall(r"fairseq-layerdrop\[(\w+)\]", " ".join(args.packages)):
            assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()

    def torchrun(self, *given):
        self(*given[given.index("--no-python") + 1 :])

    def srun(self, *given):
        self(*given[given.index("bash") :])

    def mkdocs(self, command, *given):
        assert command in ("build", "serve") and set(given) <= {"--strict"}

    def pre_commit(self, command):
        assert command == "install" and (ROOT / ".pre-commit-config.yaml").is_file()

    def ruff(self, command, *given):
        assert command in ("check", "format") and set(given) <= {".", "--check"}


@pytest.fixture(scope="module")
def products(checkpoint, translation_data, tmp_path_factory) -> dict[str, Path]:
    """What the examples name, by the name that they give it."""
    folder = tmp_path_factory.mktemp("products")
    layerdrop(
        "select", translation_data, "--path", checkpoint, "--method", "contribution", "--stacks", "decoder", "--cpu",
        "-o", folder / "order.json",
    )  # fmt: skip
    layerdrop(
        "export",
        checkpoint,
        "--prune-layers",
        "decoder=drop:4.self_attn",
        "--format",
        "plan",
        "-o",
        folder / "plan.json",
    )
    return {
        "checkpoint_best.pt": checkpoint,
        "checkpoints/checkpoint_best.pt": checkpoint,
        "data-bin/wmt16_en_de": translation_data,
        "order.json": folder / "order.json",
        "sweep": ROOT / "configs/multi30k/sweep",
        "work/multi30k/sweep": ROOT / "configs/multi30k/sweep",
        "work/quickstart/layerdrop/checkpoint_last.pt": checkpoint,
        "configs": ROOT / "configs",
        "plan.json": folder / "plan.json",
    }


def furnish(folder: Path, products: dict[str, Path]) -> None:
    for name, path in products.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(path)


@pytest.fixture(scope="module")
def calls(products, tmp_path_factory) -> dict[str, list[list[str]]]:
    """Every call of a program, by page."""
    folder = tmp_path_factory.mktemp("calls")
    furnish(folder, products)
    (folder / "stubs").mkdir()
    for program in PROGRAMS:
        (folder / "stubs" / program).write_text(NOTE)
        (folder / "stubs" / program).chmod(0o700)
    return {
        page: [call for script in commands_of(text) for call in calls_of(script, folder)] for page, text in TEXT.items()
    }


# Verbs that are run where what they read is there.
CHEAP = {"choose", "describe", "export", "flags", "report", "user-dir"}


def is_run(call: list[str], products: dict[str, Path]) -> bool:
    if call[0] != "fairseq-layerdrop" or call[1] not in CHEAP:
        return False
    return len(call) == 2 or call[2] in {*products, "small.pt"} or call[2].startswith("configs/")


# Functions that take long; their arguments are only compared with what they take.
SLOW = {"glue", "import_model", "mixture", "sensitivity", "sweep"}


def run_example(tree: ast.Module, page: str) -> None:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    if not SLOW & {call.func.id for call in calls}:
        exec(compile(tree, page, "exec"), {})
    for call in calls:
        if call.func.id in SLOW:
            named = {keyword.arg: keyword.value for keyword in call.keywords}
            inspect.signature(getattr(fairseq_layerdrop, call.func.id)).bind(*call.args, **named)


def test_arguments_of_slow_examples_are_compared():
    with pytest.raises(TypeError, match="no_such"):
        run_example(ast.parse("sweep({}, data, 'out', no_such=1)"), "")


def test_every_function_has_its_example():
    found = {name for block in blocks(TEXT["docs/reference/python.md"], "python") for name in re.findall(r"\w+", block)}
    assert {name for name in fairseq_layerdrop.__all__ if name[0].islower()} <= found


@pages
def test_commands(page, calls, products, tmp_path, monkeypatch):
    """Every command of a page is parsed by the program's own parser, and run where that is cheap."""
    furnish(tmp_path, products)
    monkeypatch.chdir(tmp_path)
    for call in calls[page]:
        Checks()(*call)
        if is_run(call, products):
            if "-o" in call:
                Path(call[call.index("-o") + 1]).unlink(missing_ok=True)
            layerdrop(*call[1:])
    for example in blocks(TEXT[page], "python"):
        run_example(compile(example, page, "exec", ast.PyCF_ONLY_AST), page)


def test_all_kinds_of_commands_are_found(calls, products):
    found = [call for of_page in calls.values() for call in of_page]
    assert len(found) > 100
    # What flags printed of a checkpoint.
    assert any(
        call[0] == "fairseq-train" and "--finetune-from-model=checkpoint_best.pt" in "=".join(call) for call in found
    )
    assert {call[1] for call in found if is_run(call, products)} == CHEAP
    assert {call[0] for call in found} == set(PROGRAMS) - {"fairseq-interactive", "fairseq-validate"}


def test_checks_refuse_what_is_wrong():
    for wrong in (
        "fairseq-layerdrop describe", "fairseq-layerdrop select d --path c --method magic -o o.json",
        "fairseq-train d --arch layerdrop_transformer --no-such-flag", "python -m fairseq_layerdrop.corpora.none",
        "fairseq-layerdrop flags configs/multi30k/layerdrop.yaml --cpus", "bash scripts/none.sh",
        "fairseq-hydra-train --config-dir configs/wikitext103 --config-name layerdrop_16 model.no_such=1",
        "pip install 'fairseq-layerdrop[none]'", "bash scripts/roberta/train.sh none",
    ):  # fmt: skip
        with pytest.raises((SystemExit, Exception)):
            Checks()(*shlex.split(wrong))


@pages
def test_variables_of_scripts_are_read(page):
    """``NAME=value bash scripts/…``: the script reads that variable."""
    for variables, script in re.findall(r"((?:[A-Z_]\w*=\S+ )+)bash (scripts/[\w/]+\.sh)", TEXT[page]):
        shared = ROOT / "scripts/recipe.sh"
        text = (ROOT / script).read_text() + shared.read_text() + "".join(
            path.read_text() for path in (ROOT / script).parent.glob("*.py")
        )  # fmt: skip
        for name in re.findall(r"([A-Z_]\w*)=", variables):
            assert name in text, f"{script} doesn't know {name}"


class TestReference:
    def test_every_option_is_in_it(self):
        text = commands.commands()
        assert re.findall(r"^## (.*)", text, re.MULTILINE) == list(VERBS)
        for section, verb in zip(text.split("\n## "), VERBS, strict=True):
            for action in commands.parser_of(verb)._actions:
                for name in action.option_strings:
                    assert name in ("-h", "--help") or f"`{name}" in section


class TestFigures:
    """Numbers and tables come from what was measured."""

    @pytest.fixture(scope="class")
    def generate(self):
        pytest.importorskip("cogapp")
        return __import__("generate")

    def test_a_number_is_brought_up_to_date(self, generate):
        text = 'It has 1.0<!--= bleu("layerdrop", 6, 3) --> BLEU with 7<!--= swept(6, 3)["parameters"] -->.'
        assert generate.with_numbers(text) == text.replace("1.0<", "34.3<").replace(" 7<", " 4,253,376<")

    def test_a_table_is_brought_up_to_date(self, generate, tmp_path):
        page = tmp_path / "page.md"
        page.write_text("<!-- [[[cog show(fine_tuning()) ]]] -->\nold\n<!-- [[[end]]] -->\n")
        assert not generate.generate(page, check=True) and "old" in page.read_text()
        assert not generate.generate(page, check=False) and "| 41.7 |" in re.sub(" +", " ", page.read_text())
        assert generate.generate(page, check=True)

    @pages
    def test_figures_are_up_to_date(self, generate, page):
        if ROOT / page in generate.PAGES:
            assert generate.generate(ROOT / page, check=True)


class TestClaims:
    """What the text says of the figures without a number."""

    @pytest.fixture(scope="class")
    def measured(self):
        return __import__("measured")

    @pytest.mark.parametrize("threads", [1, 2])
    def test_ctranslate2_translates_as_fairseq_does(self, measured, threads):
        for depth in ("full", "pruned"):
            assert measured.speed("CTranslate2", depth, threads=threads)["same_as_fairseq_generate"] >= 0.99

    def test_glue(self, measured):
        score = measured.glue_accuracy
        models = ("layerdrop", "baseline")
        assert all(score(model, "bottom", 6) < score(model, "top", 6) for model in models)
        assert all(score(model) < score("random") for model in models)
        seeds = [{mean["seeds"] for mean in measured.read(f"roberta/{task}")["means"]} for task in ("SST-2", "MRPC")]
        assert seeds == [{3}, {2}]
        best = max(mean["scores"]["accuracy"] for mean in measured.read("roberta/MRPC")["means"])
        standard_error = 100 * (0.684 * 0.316 / 408) ** 0.5
        assert best < measured.read("roberta/MRPC")["majority"]["accuracy"] + standard_error

    def test_half_the_layers(self, measured):
        assert measured.bleu("baseline", 3, 3) < measured.bleu("baseline", 6, 6) / 2
        assert measured.perplexity("layerdrop", 8) < measured.perplexity("baseline", 8)
        assert measured.perplexity("layerdrop", 10) > measured.perplexity("baseline", 10)

    def test_choosing(self, measured):
        """No method is ahead of Every Other on WikiText-2 with LayerDrop and half of the layers or more."""
        rows = [row for row in measured.read("wikitext2/selection")["rows"] if row["model"] == "layerdrop"]
        for keep in (8, 6):
            best = min(row["score"] for row in rows if row["keep"] == keep)
            assert best == measured.chosen("wikitext2", "layerdrop", "every_other", keep)

    def test_what_to_drop(self, measured):
        drop = measured.dropping
        half = "keep:4@every_other"
        assert drop("layers", half) < drop("sub-layers", half) < drop("heads", half)
        assert drop("layers, learned", "keep:4@learned") < drop("layers", half)
        assert drop("layers, learned") < drop("layers")
