"""Files that version 0.1 of this program wrote are read, and mean what they meant."""

import json
from pathlib import Path

import pytest

from fairseq_layerdrop.plan import (
    ModelFacts,
    parse,
    read_ladder,
    read_plan,
    transformer_structure,
    write_ladder,
    write_plan,
)

SAMPLES = Path(__file__).with_name("samples")
FULL = transformer_structure({"encoder": 4, "decoder": 3})
FOUR = ModelFacts({"encoder": 4, "decoder": 4})
HEADS = (
    "encoder=drop:1.ffn,3.self_attn.head1,3.self_attn.head3/"
    "decoder=drop:0,1.self_attn,2.self_attn.head0,2.encoder_attn.head0-2"
)
PRUNED = parse(HEADS).resolve(FULL, FOUR).pruned


@pytest.mark.parametrize(
    "name, structure, text, words",
    [
        (
            "layers", FULL, "encoder=keep:2@every_other/decoder=drop:1-1",
            "encoder 2 of 4 layers (0,2), decoder 2 of 3 layers (0,2)",
        ),
        (
            "heads", FULL, HEADS,
            "encoder 4 of 4 layers (0-3 without 1.ffn,3.self_attn.head1,3.self_attn.head3), decoder 2 of 3 layers (1-2 "
            "without 1.self_attn,2.self_attn.head0,2.encoder_attn.head0,2.encoder_attn.head1,2.encoder_attn.head2)",
        ),
        (
            "pruned_again", PRUNED, "encoder=drop:0,3.self_attn.head0/decoder=keep:1-1",
            "encoder 3 of 4 layers (1-3 without 3.self_attn.head0), decoder 1 of 2 layers (1)",
        ),
    ],
)  # fmt: skip
def test_plan(name, structure, text, words):
    plan = parse(str(SAMPLES / f"{name}.json")).resolve(structure)
    assert plan == parse(text).resolve(structure, FOUR)
    assert str(plan) == words


WHOLE = "encoder 4 of 4 layers (0-3)"


@pytest.mark.parametrize(
    "name, part, words",
    [
        ("layers", "drop:1", f"{WHOLE}, decoder 2 of 3 layers (0,2)"),
        ("layers", "encoder=keep:2", "encoder 2 of 4 layers (0,3), decoder 3 of 3 layers (0-2)"),
        ("layers", "decoder=drop:2", f"{WHOLE}, decoder 1 of 3 layers (2)"),
        ("layers", "keep:3", "encoder 2 of 4 layers (0,3), decoder 1 of 3 layers (2)"),
        ("sublayers", "drop:1", f"{WHOLE}, decoder 3 of 3 layers (0-2 without 1.encoder_attn)"),
        ("sublayers", "encoder=drop:1", "encoder 4 of 4 layers (0-3 without 3.ffn), decoder 3 of 3 layers (0-2)"),
        ("sublayers", "decoder=drop:3", f"{WHOLE}, decoder 2 of 3 layers (0,2)"),
        (
            "sublayers", "drop:5",
            "encoder 4 of 4 layers (0-3 without 0.self_attn,3.ffn), decoder 2 of 3 layers (0,2)",
        ),
    ],
)  # fmt: skip
def test_ladder(name, part, words):
    assert str(parse(f"{part}@{SAMPLES}/ladder_of_{name}.json").resolve(FULL)) == words


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_written_anew_it_is_the_same_to_that_version(path, tmp_path):
    """All that it reads of a file, the checksum among it, is as it wrote it."""
    if path.stem.startswith("ladder"):
        write_ladder(read_ladder(path), tmp_path / "new.json")
    else:
        read = read_plan(path)
        write_plan(read.plan, tmp_path / "new.json", read.origin)
    old, new = (file.read_text(encoding="utf-8") for file in (path, tmp_path / "new.json"))
    assert json.loads(new) == json.loads(old)
    assert len(new.splitlines()) == len(old.splitlines())  # a line for each layer and each removal
