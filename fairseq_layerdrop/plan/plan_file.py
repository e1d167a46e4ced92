"""Plan files and ladder files: plans as JSON.

::

    {
      "format": "fairseq-layerdrop plan",
      "version": 1,
      "checksum": "sha256:…",
      "stacks": {"decoder": [{"keep": ["self_attn", "encoder_attn"], "drop": ["ffn"]}, …]},
      "origin": {…}
    }

Each stack lists all layers of the full model, so a plan says for which model it is. The checksum is that of the rest:
a damaged file is never taken for another plan. An attention that loses some of its heads is in both lists, as in
``"keep": ["self_attn.head0-1,3of4", …], "drop": ["self_attn.head2of4"]``. What a person writes by hand is the
grammar's text.

A ladder's file has the format "fairseq-layerdrop ladder", the whole model's stacks, and the removals in order::

    "removals": [{"drop": "decoder.3.ffn", "score": 4.25}, …]
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.files import StrPath, write_atomically
from .errors import PlanError
from .ladder import Ladder, Unit, unit_name
from .plan import NO_FACTS, ModelFacts, Plan, Structure, check_structure
from .plan_json import plan_from_dict, plan_to_dict

FORMAT = "fairseq-layerdrop plan"
LADDER_FORMAT = "fairseq-layerdrop ladder"
VERSION = 1
# Far more than a plan of thousands of layers needs.
_MOST_BYTES = 16 * 2**20
_UNIT = re.compile(r"(\w+)\.(\d{1,4})(?:\.(\w+))?", re.ASCII)


@dataclass(frozen=True)
class PlanFile:
    """A plan that was read from a file; a ``--prune-layers`` like those of the grammar.

    Attributes:
        plan: the plan.
        origin: where the plan comes from, as it was written.
        path: where it was read.
    """

    plan: Plan
    origin: Mapping[str, Any]
    path: str

    def __str__(self) -> str:
        return self.path

    def resolve(self, structure: Structure, facts: ModelFacts = NO_FACTS) -> Plan:
        """The plan, if it is for a model of this *structure*.

        Raises:
            PlanError: it is for another one.
        """
        check_structure(self.plan.full, structure, self.path)
        return self.plan


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {field: value for field, value in content.items() if field != "checksum"}
    # NaN and lone surrogates are refused here with a ValueError, as JSON has neither.
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _rows(items: Iterable[Any]) -> str:
    return "[\n  " + ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n ]"


def _in_lines(content: Mapping[str, Any]) -> str:
    """*content* as JSON with a line for each layer and each removal."""
    texts = {field: json.dumps(value, indent=1, ensure_ascii=False) for field, value in content.items()}
    stacks = ",".join(f'\n "{stack}": {_rows(layers)}' for stack, layers in content["stacks"].items())
    texts["stacks"] = f"{{{stacks}\n}}"
    if "removals" in content:
        texts["removals"] = _rows(content["removals"])
    return "{\n" + ",\n".join(f'"{field}": {text}' for field, text in texts.items()) + "\n}\n"


def _write(path: StrPath, file_format: str, plan: Plan, origin: Mapping[str, Any], **fields: Any) -> None:
    """Write a file with a plan and other *fields*, whole or not at all; raises as :func:`write_plan` does."""
    if not str(path).endswith(".json"):
        raise PlanError(f"a plan file's name must end in .json, not {path}")
    head = {"format": file_format, "version": VERSION}
    rest = {"stacks": plan_to_dict(plan), **fields, "origin": dict(origin)}
    with write_atomically(path) as file:
        file.write(_in_lines({**head, "checksum": _checksum({**head, **rest}), **rest}).encode())


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field that occurs twice")
    return fields


def _read(path: StrPath, kind: str, file_format: str, fields: Collection[str] = ()) -> tuple[Plan, dict[str, Any]]:
    """The plan in a file that :func:`_write` wrote, and all of its content; *fields* aren't looked into.

    Raises:
        PlanError: there is no such file, or it isn't one; the message names the field.
    """
    path = Path(path)
    if not os.path.isfile(path):  # False where Path.is_file would raise: no access, a name too long
        raise PlanError(f"no such {kind} file: {path}")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise PlanError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise PlanError(f"{path} is too long to be a {kind} file")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_reject_duplicate_keys)
        content = content if isinstance(content, dict) else {}
        checksum = _checksum(content)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is not a {kind} file: not valid JSON ({str(error).splitlines()[0][:80]})") from error
    if content.get("format") != file_format:
        is_ladder = content.get("format") == LADDER_FORMAT
        hint = " (it is a ladder: name a size, as in keep:6@FILE.json)" if is_ladder else ""
        raise PlanError(f'{path} is not a {kind} file: format must be "{file_format}"{hint}')
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise PlanError(f"{path}: version must be {VERSION}, the one that this program knows")
    unknown = sorted(set(content) - {"format", "version", "checksum", "stacks", "origin", *fields})
    if unknown:
        raise PlanError(f"{path}: unknown field '{unknown[0]}'")
    plan = plan_from_dict(content.get("stacks"), str(path))
    if not isinstance(content.get("origin"), dict):
        raise PlanError(f"{path}: origin must be an object")
    if content.get("checksum") != checksum:
        raise PlanError(
            f"{path}: checksum doesn't fit the rest, so the file was changed after it was written; "
            "write it anew, or give the plan as text"
        )
    return plan, content


def read_format(path: StrPath) -> str | None:
    """The format that a JSON file says it has; None where it can't be read as one, which its reader then tells."""
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_MOST_BYTES).decode("utf-8"))
        return content.get("format") if isinstance(content, dict) else None
    except (OSError, ValueError, RecursionError):
        return None


def write_plan(plan: Plan, path: StrPath, origin: Mapping[str, Any] | None = None) -> None:
    """Write a plan file, whole or not at all.

    Args:
        plan: the plan.
        path: a name that ends in ``.json``.
        origin: where the plan comes from: method, metric, score, data, checkpoint fingerprint, seed, version, …

    Raises:
        PlanError: *path* doesn't end in ``.json``.
        UserError: the file can't be written.
    """
    _write(path, FORMAT, plan, origin or {})


def read_plan(path: StrPath) -> PlanFile:
    """Read a plan file.

    Raises:
        PlanError: there is no such file, or it isn't a plan as :func:`write_plan` writes it; the message names the
            field.
    """
    plan, content = _read(path, "plan", FORMAT)
    return PlanFile(plan, content["origin"], str(path))


def write_ladder(ladder: Ladder, path: StrPath) -> None:
    """Write a ladder's file, whole or not at all; its origin goes with it.

    Raises:
        PlanError: *path* doesn't end in ``.json``.
        UserError: the file can't be written.
    """
    removals = [{"drop": unit_name(unit), "score": score} for unit, score in zip(ladder.removals, ladder.scores)]
    _write(path, LADDER_FORMAT, Plan.whole(ladder.full), ladder.origin, removals=removals)


def read_ladder(path: StrPath) -> Ladder:
    """Read a ladder's file.

    Raises:
        PlanError: there is no such file, or it isn't a ladder as :func:`write_ladder` writes it; the message names the
            field.
    """
    plan, content = _read(path, "ladder", LADDER_FORMAT, {"removals"})
    removals: list[Unit] = []
    scores: list[float | None] = []
    found = content.get("removals")
    for number, item in enumerate(found if isinstance(found, list) else [None]):
        match item:
            case {"drop": str(drop), "score": None | int() | float() as score, **rest} if not (
                rest or isinstance(score, bool)
            ) and (unit := _UNIT.fullmatch(drop)):
                removals.append((unit[1], int(unit[2]), unit[3]))
                scores.append(score)
            case _:
                right = 'an object with "drop", as decoder.3.ffn, and "score"'
                raise PlanError(f"{path}: removals[{number}] must be {right}")
    try:
        return Ladder(plan.full, tuple(removals), tuple(scores), content["origin"], str(path))
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
