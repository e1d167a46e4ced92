"""Plan files: written, read, and refused when damaged."""

import contextlib
import copy
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import (
    Layer,
    ModelFacts,
    Plan,
    PlanError,
    StackPlan,
    parse,
    plan_from_dict,
    plan_to_dict,
    read_plan,
    transformer_structure,
    write_plan,
)
from fairseq_layerdrop.plan.plan_file import _checksum

TWELVE = transformer_structure({"encoder": 12, "decoder": 6})
PLAN = parse("encoder=drop:1,9.self_attn,11.ffn/decoder=keep:0,2.ffn,4").resolve(TWELVE)
ORIGIN = {"method": "finercut", "score": 1.25, "note": "ä", "checkpoint": "sha256:0", "seed": None}


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.json"
    write_plan(PLAN, path, ORIGIN)
    return path


def changed(path, change, sign=True):
    """Change the content of a plan file, and write a fitting checksum with *sign*."""
    content = json.loads(path.read_text())
    change(content)
    if sign:
        content["checksum"] = _checksum(content)
    path.write_text(json.dumps(content))
    return path


class TestRoundTrip:
    def test_of_a_plan(self, plan_file):
        read = read_plan(plan_file)
        assert read.plan == PLAN and read.origin == ORIGIN
        assert parse(str(plan_file)).resolve(TWELVE) == PLAN
        assert os.listdir(plan_file.parent) == ["plan.json"]

    @given(st.data())
    def test_of_any_plan(self, tmp_path_factory, data):
        stacks = {}
        for stack, layers in TWELVE.items():
            keep = [Layer(part for part in layer if data.draw(st.booleans())) for layer in layers]
            stacks[stack] = StackPlan(layers, tuple(keep) if any(keep) else layers)
        path = tmp_path_factory.getbasetemp() / "any.json"
        write_plan(Plan(stacks), path)
        assert read_plan(path).plan == Plan(stacks)

    def test_gives_each_layer_what_it_keeps(self):
        layers = plan_to_dict(PLAN)["encoder"]
        assert layers[0] == {"keep": ["self_attn", "ffn"], "drop": []}
        assert layers[1] == {"keep": [], "drop": ["self_attn", "ffn"]}
        assert layers[9] == {"keep": ["ffn"], "drop": ["self_attn"]}

    def test_replaces_a_file_with_the_umasks_rights(self, plan_file):
        plan_file.chmod(0o600)
        other = parse("drop:1@top").resolve(TWELVE)
        write_plan(other, plan_file)
        assert read_plan(plan_file).plan == other
        umask = os.umask(0)
        os.umask(umask)
        assert plan_file.stat().st_mode & 0o777 == 0o666 & ~umask


class TestHeads:
    HEADS = ModelFacts({"encoder": 4, "decoder": 4})

    def test_there_and_back(self, tmp_path):
        plan = parse("encoder=drop:1.self_attn.head0,2/decoder=drop:0.encoder_attn.head1-2,0.ffn").resolve(
            TWELVE, self.HEADS
        )
        write_plan(plan, tmp_path / "plan.json")
        assert parse(str(tmp_path / "plan.json")).resolve(TWELVE) == plan
        again = parse("encoder=drop:1.self_attn.head2").resolve(plan.pruned, self.HEADS)
        write_plan(again, tmp_path / "again.json")
        assert read_plan(tmp_path / "again.json").plan == again
        layer = plan_to_dict(again)["encoder"][1]
        assert layer == {"keep": ["self_attn.head1,3of4", "ffn"], "drop": ["self_attn.head2of4"]}

    @pytest.mark.parametrize(
        "keep, drop",
        [
            (["self_attn.head0of4"], ["self_attn.head0,2of4"]),
            (["self_attn.head0of4"], ["self_attn"]),
            (["self_attn.head0of4"], ["self_attn.head1of3"]),
            (["self_attn.head0-3of4"], []),
            (["self_attn.head4of4"], []),
            (["self_attn.head0-99999999999of4"], []),
            (["self_attn.head1,0of4"], []),
            (["ffn.head0of4"], []),
        ],
    )
    def test_refused(self, keep, drop):
        with pytest.raises(PlanError, match=r"stacks.encoder\[0\]"):
            plan_from_dict({"encoder": [{"keep": keep, "drop": drop}]}, "plan.json")


class TestRefusal:
    @pytest.mark.parametrize(
        "structure, words",
        [
            ({"encoder": 6, "decoder": 6}, "a plan for 12 encoder layers, and this model has 6"),
            ({"encoder": 12, "decoder": 12}, "a plan for 6 decoder layers, and this model has 12"),
            ({"decoder": 6}, "a plan for 12 encoder layers, and this model has 0"),
        ],
    )
    def test_of_another_depth(self, plan_file, structure, words):
        with pytest.raises(PlanError, match=words):
            read_plan(plan_file).resolve(transformer_structure(structure))

    def test_of_another_structure(self, plan_file):
        with pytest.raises(PlanError, match="decoder layer 0 has self_attn, encoder_attn, ffn; here it has self_attn"):
            read_plan(plan_file).resolve(transformer_structure({"encoder": 12, "decoder": 6}, encoder_attn=False))

    @pytest.mark.parametrize(
        "change, words",
        [
            (lambda c: c.update(format="x"), 'format must be "fairseq-layerdrop plan"'),
            (lambda c: c.pop("format"), "format must be"),
            (lambda c: c.update(version=2), "version must be 1"),
            (lambda c: c.update(version=True), "version must be 1"),
            (lambda c: c.update(extra=1), "unknown field 'extra'"),
            (lambda c: c.update(origin=[]), "origin must be an object"),
            (lambda c: c.pop("stacks"), "stacks must be an object with encoder or decoder or both"),
            (lambda c: c["stacks"].update(middle=[]), "stacks must be an object with"),
            (lambda c: c["stacks"].update(decoder={}), "stacks.decoder must be a list"),
            (lambda c: c["stacks"].update(decoder=[]), "stacks.decoder must be a list"),
            (lambda c: c["stacks"]["decoder"].insert(3, 3), r"stacks.decoder\[3\] must be an object"),
            (lambda c: c["stacks"]["decoder"][2].pop("drop"), r"stacks.decoder\[2\] must be an object"),
            (lambda c: c["stacks"]["decoder"][2].update(keep="ffn"), r"stacks.decoder\[2\].keep must be a list"),
            (lambda c: c["stacks"]["decoder"][2].update(keep=[["ffn"]]), r"stacks.decoder\[2\].keep must be a list"),
            (lambda c: c["stacks"]["decoder"][2].update(keep=["ffn", "ffn"]), r"stacks.decoder\[2\].keep must be"),
            (lambda c: c["stacks"]["decoder"][0].update(drop=["ffn"]), r"stacks.decoder\[0\] must be a layer with"),
            (lambda c: c["stacks"]["decoder"][2].update(keep=[], drop=[]), r"stacks.decoder\[2\] must be a layer"),
            (
                lambda c: [layer.update(keep=[], drop=["ffn"]) for layer in c["stacks"]["encoder"]],
                "stacks.encoder must be a list of layers of which at least one is kept",
            ),
        ],
    )
    def test_names_the_field(self, plan_file, change, words):
        with pytest.raises(PlanError, match=words):
            parse(str(changed(plan_file, change)))

    def test_of_a_change_without_the_checksum(self, plan_file):
        def swap(content):
            layers = content["stacks"]["decoder"]
            layers[0], layers[1] = layers[1], layers[0]

        changed(plan_file, swap, sign=False)
        with pytest.raises(PlanError, match="checksum doesn't fit the rest"):
            read_plan(plan_file)

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"a": 1, "a": 1}',
            b'{"version": ' + b"1" * 5000 + b"}",
        ],
    )
    def test_of_what_is_no_plan_file(self, tmp_path, text):
        (tmp_path / "plan.json").write_bytes(text)
        with pytest.raises(PlanError, match="is not a plan file"):
            parse(str(tmp_path / "plan.json"))

    def test_of_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(PlanError, match=r"no such plan file: none\.json"):
            parse("none.json")
        (tmp_path / "folder.json").mkdir()
        with pytest.raises(PlanError, match="no such plan file"):
            parse(str(tmp_path / "folder.json"))

    def test_of_a_name_that_prune_layers_would_not_take(self, tmp_path):
        with pytest.raises(PlanError, match=r"must end in \.json"):
            write_plan(PLAN, tmp_path / "plan.txt")

    def test_of_a_folder_that_cannot_be_written(self, tmp_path):
        for path in [tmp_path / "none" / "plan.json", "/proc/plan.json", tmp_path / "folder.json"]:
            (tmp_path / "folder.json").mkdir(exist_ok=True)
            with pytest.raises(UserError, match="cannot write"):
                write_plan(PLAN, path)
        assert os.listdir(tmp_path) == ["folder.json"]


SIGNED = {"format": "fairseq-layerdrop plan", "version": 1, "stacks": plan_to_dict(PLAN), "origin": ORIGIN}
SIGNED["checksum"] = _checksum(SIGNED)


def _places(value, path=()):
    """Paths to all values within a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _places(value[key], (*path, key))


@st.composite
def damaged_files(draw):
    """A plan file after one to three changes, of its bytes or of its JSON."""
    content = copy.deepcopy(SIGNED)
    if draw(st.booleans()):
        data = bytearray(json.dumps(content, indent=draw(st.sampled_from([None, 1]))).encode())
        for _ in range(draw(st.integers(1, 3))):
            start = draw(st.integers(0, len(data)))
            end = min(len(data), start + draw(st.sampled_from([0, 1, 1, 8, 100, 10_000])))
            data[start:end] = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"1", b"ffn", b"keep", b"}", b","]))
        return bytes(data)
    for _ in range(draw(st.integers(1, 3))):
        places = [place for place in _places(content) if place]
        *parents, key = draw(st.sampled_from(places))
        parent = content
        for step in parents:
            parent = parent[step]
        siblings = list(parent.values()) if isinstance(parent, dict) else parent
        change = draw(st.sampled_from(["delete", "replace", "copy"]))
        if change == "delete":
            del parent[key]
        elif change == "copy":
            parent[key] = copy.deepcopy(draw(st.sampled_from(siblings)))
        else:
            scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
            parent[key] = draw(scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars))
    if draw(st.booleans()):  # then only the fields can tell
        with contextlib.suppress(ValueError):
            content["checksum"] = _checksum(content)
    return json.dumps(content).encode()


@settings(max_examples=200)
@given(damaged_files())
def test_a_damaged_file_is_refused_or_gives_an_equal_plan(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(data)
    try:
        plan = parse(str(path)).resolve(TWELVE)
    except PlanError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1
        return
    content = json.loads(data)
    assert plan_to_dict(plan) == content["stacks"]
    assert plan == PLAN or content["checksum"] != SIGNED["checksum"]  # another plan only where it was signed anew
