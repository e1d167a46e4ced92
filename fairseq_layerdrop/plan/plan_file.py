"""Plan files: a plan as JSON.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..base.files import write_atomically
from .errors import PlanError
from .heads import heads_of, is_entry, sub_layer, with_heads
from .ladder import Ladder, Unit, unit_name
from .plan import STACKS, SUB_LAYERS, Details, Plan, StackPlan, Structure, matching

FORMAT = "fairseq-layerdrop plan"
LADDER_FORMAT = "fairseq-layerdrop ladder"
VERSION = 1
# Far more than a plan of thousands of layers needs.
_MOST_BYTES = 16 * 2**20


def plan_to_dict(plan: Plan) -> dict:
    """*plan* as the ``stacks`` of a plan file."""
    return {
        stack: [
            {"keep": list(keep), "drop": [name for name in map(partial(_dropped, keep=keep), full) if name]}
            for full, keep in zip(part.full, part.keep)
        ]
        for stack, part in plan.stacks.items()
    }


def _dropped(full: str, keep: Sequence[str]) -> str | None:
    """What of the sub-layer *full* isn't among those kept."""
    left = matching(full, keep)
    if left is None or left == full:
        return full if left is None else None
    heads, total = heads_of(left)
    had = heads_of(full) or (range(total), total)
    return with_heads(full, set(had[0]) - set(heads), total)


def _together(keep: Sequence[str], drop: Sequence[str]) -> tuple[str, ...]:
    """The layer of which *keep* and *drop* are the parts.

    Raises:
        ValueError: they overlap.
    """
    layer = []
    for name in SUB_LAYERS:
        parts = [part for part in (matching(name, keep), matching(name, drop)) if part]
        if len(parts) < 2:
            layer.extend(parts)
            continue
        (kept, total), (dropped, of) = map(heads_of, parts)
        if total != of or set(kept) & set(dropped):
            raise ValueError
        layer.append(with_heads(name, {*kept, *dropped}, total))
    return tuple(layer)


def plan_from_dict(stacks: object, where: str) -> Plan:
    """The plan that :func:`plan_to_dict` wrote.

    Args:
        stacks: any value that JSON can hold.
        where: what the value was read from, for messages.

    Raises:
        PlanError: the value isn't a plan; the message names the field.
    """

    def wrong(field: str, right: str):
        return PlanError(f"{where}: {field} must be {right}")

    if not isinstance(stacks, dict) or not stacks or not set(stacks) <= set(STACKS):
        raise wrong("stacks", f"an object with {' or '.join(STACKS)} or both")
    plans = {}
    for stack in (name for name in STACKS if name in stacks):
        layers = stacks[stack]
        if not isinstance(layers, list) or not layers:
            raise wrong(f"stacks.{stack}", "a list with an item for each layer")
        full, kept = [], []
        for number, layer in enumerate(layers):
            field = f"stacks.{stack}[{number}]"
            if not isinstance(layer, dict) or set(layer) != {"keep", "drop"}:
                raise wrong(field, 'an object with "keep" and "drop"')
            for part, names in layer.items():
                known = isinstance(names, list) and all(isinstance(n, str) and is_entry(n, SUB_LAYERS) for n in names)
                order = [SUB_LAYERS.index(sub_layer(name)) for name in names] if known else [0, 0]
                if order != sorted(set(order)):
                    raise wrong(f"{field}.{part}", f"a list of sub-layers in the order {', '.join(SUB_LAYERS)}")
            keep, drop = layer["keep"], layer["drop"]
            try:
                full.append(_together(keep, drop))
            except (TypeError, ValueError):  # one of them is whole, or heads are in both
                raise wrong(field, "a layer with each of its sub-layers either kept or dropped") from None
            if not full[-1]:
                raise wrong(field, "a layer with each of its sub-layers either kept or dropped")
            kept.append(tuple(keep))
        if not any(kept):
            raise wrong(f"stacks.{stack}", "a list of layers of which at least one is kept")
        plans[stack] = StackPlan(tuple(full), tuple(kept))
    return Plan(plans)


@dataclass(frozen=True)
class PlanFile:
    """A plan that was read from a file; a ``--prune-layers`` like those of the grammar.

    Attributes:
        plan: the plan.
        origin: where the plan comes from, as it was written.
        path: where it was read.
    """

    plan: Plan
    origin: Mapping
    path: str

    def __str__(self) -> str:
        return self.path

    def resolve(self, structure: Structure, details: Details = Details()) -> Plan:  # noqa: B008
        """The plan, if it is for a model of this *structure*.

        Raises:
            PlanError: it is for another one.
        """
        check_structure(self.plan.full, structure, self.path)
        return self.plan


def check_structure(made_for: Structure, structure: Structure, path: str) -> None:
    """Check that a file that was made for a model *made_for* is used for one of that structure.

    Raises:
        PlanError: it isn't.
    """
    for stack in STACKS:
        planned, has = len(made_for.get(stack, ())), len(structure.get(stack, ()))
        if planned != has:
            raise PlanError(f"{path} is a plan for {planned} {stack} layers, and this model has {has}")
    for stack, full in made_for.items():
        for number, (planned, layer) in enumerate(zip(full, structure[stack])):
            if planned != layer:
                raise PlanError(
                    f"{path} is for a model whose {stack} layer {number} has {', '.join(planned)}; "
                    f"here it has {', '.join(layer)}"
                )


def _checksum(content: Mapping) -> str:
    rest = {field: value for field, value in content.items() if field != "checksum"}
    # NaN and lone surrogates are refused here with a ValueError, as JSON has neither.
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _in_lines(content: Mapping) -> str:
    """*content* as JSON with a line for each layer and each removal."""
    layers = {stack: ",\n   ".join(map(json.dumps, layers)) for stack, layers in content["stacks"].items()}
    stacks = ",\n".join(f'  "{stack}": [\n   {lines}\n  ]' for stack, lines in layers.items())
    rest = json.dumps({**content, "stacks": None, "removals": None}, indent=1, ensure_ascii=False)
    if "removals" in content:
        removals = ",\n".join(f"  {json.dumps(removal)}" for removal in content["removals"])
        rest = rest.replace('"removals": null', f'"removals": [\n{removals}\n ]', 1)
    else:
        rest = rest.replace(',\n "removals": null', "", 1)
    return rest.replace('"stacks": null', f'"stacks": {{\n{stacks}\n }}', 1)


def _write(content: Mapping, path) -> None:
    if not str(path).endswith(".json"):
        raise PlanError(f"a plan file's name must end in .json, not {path}")
    head = {field: content[field] for field in ("format", "version")}
    with write_atomically(path) as file:
        file.write(f"{_in_lines({**head, 'checksum': _checksum(content), **content})}\n".encode())


def write_plan(plan: Plan, path, origin: Mapping | None = None) -> None:
    """Write a plan file, whole or not at all.

    Args:
        plan: the plan.
        path: a name that ends in ``.json``.
        origin: where the plan comes from: method, metric, score, data, checkpoint fingerprint, seed, version, …

    Raises:
        PlanError: *path* doesn't end in ``.json``.
        UserError: the file can't be written.
    """
    _write({"format": FORMAT, "version": VERSION, "stacks": plan_to_dict(plan), "origin": dict(origin or {})}, path)


def write_ladder(ladder: Ladder, path) -> None:
    """Write a ladder's file, whole or not at all; its origin goes with it.

    Raises:
        PlanError: *path* doesn't end in ``.json``.
        UserError: the file can't be written.
    """
    removals = [
        {"drop": unit_name(unit), "score": score} for unit, score in zip(ladder.removals, ladder.scores, strict=True)
    ]
    whole = plan_to_dict(Plan.whole(ladder.full))
    _write(
        {
            "format": LADDER_FORMAT, "version": VERSION, "stacks": whole, "removals": removals,
            "origin": dict(ladder.origin),
        },
        path,
    )  # fmt: skip


def _once(pairs) -> dict:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field that occurs twice")
    return fields


def _read(path, kind: str, file_format: str, fields: set[str]) -> dict:
    """The content of a file that :func:`_write` wrote, checked but for the plan in it.

    Raises:
        PlanError: there is no such file, or it isn't one.
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
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
        checksum = _checksum(content) if isinstance(content, dict) else None
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is not a {kind} file: not valid JSON ({str(error).splitlines()[0][:80]})") from error
    if not isinstance(content, dict) or content.get("format") != file_format:
        found = content.get("format") if isinstance(content, dict) else None
        hint = " (it is a ladder: name a size, as in keep:6@FILE.json)" if found == LADDER_FORMAT else ""
        raise PlanError(f'{path} is not a {kind} file: format must be "{file_format}"{hint}')
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise PlanError(f"{path}: version must be {VERSION}, the one that this program knows")
    unknown = sorted(set(content) - {"format", "version", "checksum", "stacks", "origin"} - fields)
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
    return {**content, "plan": plan}


def read_format(path) -> str | None:
    """The format that a JSON file says it has; None where it can't be read as one, which its reader then tells."""
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_MOST_BYTES).decode("utf-8"))
        return content.get("format") if isinstance(content, dict) else None
    except (OSError, ValueError, RecursionError):
        return None


def read_plan(path) -> PlanFile:
    """Read a plan file.

    Raises:
        PlanError: there is no such file, or it isn't a plan as :func:`write_plan` writes it; the message names the
            field.
    """
    content = _read(path, "plan", FORMAT, set())
    return PlanFile(content["plan"], content["origin"], str(path))


def _unit(text: object) -> Unit | None:
    match = re.fullmatch(r"(\w+)\.(\d{1,4})(?:\.(\w+))?", text, re.ASCII) if isinstance(text, str) else None
    return (match[1], int(match[2]), match[3]) if match else None


def read_ladder(path) -> Ladder:
    """Read a ladder's file.

    Raises:
        PlanError: there is no such file, or it isn't a ladder as :func:`write_ladder` writes it; the message names the
            field.
    """
    content = _read(path, "ladder", LADDER_FORMAT, {"removals"})
    removals, scores = [], []
    found = content.get("removals")
    for number, item in enumerate(found if isinstance(found, list) else [None]):
        fields = item if isinstance(item, dict) and set(item) == {"drop", "score"} else {}
        score = fields.get("score")
        if _unit(fields.get("drop")) is None or not (score is None or type(score) in (int, float)):
            raise PlanError(f'{path}: removals[{number}] must be an object with "drop", as decoder.3.ffn, and "score"')
        removals.append(_unit(fields["drop"]))
        scores.append(score)
    try:
        return Ladder(content["plan"].full, tuple(removals), tuple(scores), content["origin"], str(path))
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
