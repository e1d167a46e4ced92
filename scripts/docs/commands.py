"""Print the reference of the command line, in Markdown, from the program's own parsers."""

import argparse
import contextlib
import os
import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fairseq_layerdrop.cli.main import VERBS, main


def parser_of(*words: str) -> argparse.ArgumentParser:
    """The parser that answers ``fairseq-layerdrop WORDS --help``, whichever way it is made."""
    found = []
    asked = mock.patch.object(argparse.ArgumentParser, "print_help", lambda self, file=None: found.append(self))
    with asked, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return found[0]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _value(action: argparse.Action) -> str:
    """How help shows the values that an option takes."""
    if action.nargs == 0:
        return ""
    formatter = argparse.HelpFormatter("")
    default = action.dest.upper() if action.option_strings else action.dest
    return formatter._format_args(action, default)


def _rows(actions) -> list[str]:
    lines = ["| argument | meaning |", "|---|---|"]
    for action in actions:
        value = _value(action).replace("|", "\\|")
        names = ", ".join(f"`{f'{name} {value}'.strip()}`" for name in action.option_strings or [""])
        meaning = (action.help or "") % {**vars(action), "prog": "fairseq-layerdrop"}
        if action.required and action.option_strings:
            meaning = f"{meaning} (required)".strip()
        lines.append(f"| {names} | {_cell(meaning)} |")
    return lines


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}".removesuffix(".") + "." if text else ""


def commands() -> str:
    """The reference of all verbs, in Markdown."""
    lines = []
    for name in VERBS:
        parser = parser_of(name)
        usage = parser.format_usage().removeprefix("usage: ").strip()
        lines += [f"## {name}", "", _sentence(parser.description), "", "```text", usage, "```", ""]
        plain, groups = [], []
        for group in parser._action_groups:
            actions = [
                action for action in group._group_actions if action.dest != "help" and action.help != argparse.SUPPRESS
            ]
            if group.title in ("positional arguments", "options"):
                plain += actions
            elif actions:
                groups += [f"**{group.title[0].upper()}{group.title[1:]}**", "", *_rows(actions), ""]
        lines += [*(_rows(plain) if plain else []), "", *groups]
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"  # of the usage
    print(commands())
