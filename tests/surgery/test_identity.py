"""Five ways to a pruned model compute the same, bit for bit."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fairseq_layerdrop.plan import ModelFacts, parse
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.state import state_structure
from tests.commands import NEEDS_FAIRSEQ_MAIN, ROOT, layerdrop, run, train_lm, train_translation
from tests.outputs import load, outputs, same_but_for_steps
from tests.surgery.test_build import skip

WHOLE_LAYERS = ["encoder=keep:0,1,4/decoder=keep:0,2,3,5", "decoder=keep:3@every_other"]
SUB_LAYERS = [
    "encoder=drop:2,4.self_attn/decoder=drop:0.ffn,1.self_attn,3.encoder_attn,5",
    "encoder=drop:2,4.self_attn.head1/decoder=drop:0.ffn,1.self_attn.head0,3.encoder_attn,5",
]
HEADS = ModelFacts({"encoder": 2, "decoder": 2})


@pytest.fixture(scope="module", params=["pre-norm", "post-norm", "language model"])
def family(request, tmp_path_factory):
    """Training command, data and full checkpoint of a kind of model."""
    out = tmp_path_factory.mktemp("full")
    if request.param == "language model":
        train, data, flags = train_lm, request.getfixturevalue("lm_data"), ("--decoder-attention-heads", "2")
    else:
        train, data = train_translation, request.getfixturevalue("translation_data")
        flags = () if request.param == "post-norm" else ("--encoder-normalize-before", "--decoder-normalize-before")
    train(data, out, 2, *flags)
    return train, data, flags, out / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def specs(family):
    if family[0] is train_lm:
        return [text.rpartition("/")[2].replace("3.encoder_attn,", "") for text in WHOLE_LAYERS + SUB_LAYERS]
    return WHOLE_LAYERS + SUB_LAYERS


@pytest.fixture(scope="module")
def expected(family, specs):
    """The full model with what each spec drops skipped."""
    _, data, _, full = family
    structure = state_structure(load_checkpoint(full)["model"])
    return [
        outputs(skip(model, parse(text).resolve(structure, HEADS)), task)
        for text in specs
        for model, task in [load(full, data)]
    ]


@pytest.fixture(scope="module")
def exported(family, specs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for i, text in enumerate(specs):
        layerdrop("export", family[-1], "--prune-layers", text, "-o", folder / f"{i}.pt")
    return [folder / f"{i}.pt" for i in range(len(specs))]


def test_prune_layers(family, specs, expected):
    _, data, _, full = family
    pruned = [outputs(*load(full, data, prune_layers=text)) for text in specs]
    assert all(map(torch.equal, pruned, expected))
    assert not any(torch.equal(outputs(*load(full, data)), other) for other in expected)


@NEEDS_FAIRSEQ_MAIN
def test_exported(family, expected, exported):
    for path, out in zip(exported, expected):
        same_but_for_steps(outputs(*load(path, family[1])), out)


@NEEDS_FAIRSEQ_MAIN
def test_exported_in_stock_fairseq(family, expected, exported, tmp_path):
    whole_layers = exported[: len(WHOLE_LAYERS)]
    run("python", ROOT / "tests/outputs.py", family[1], tmp_path / "out.pt", *whole_layers, cwd=tmp_path, PYTHONPATH="")
    for out, ours in zip(torch.load(tmp_path / "out.pt"), expected):
        same_but_for_steps(out, ours)


def test_after_fine_tuning_that_changes_nothing(family, specs, expected, tmp_path):
    """One update at learning rate 0; the checkpoint that it saves loads by itself."""
    train, data, flags, full = family

    def tuned(text):
        out = tmp_path / text.replace("/", "-")
        train(
            data, out, 1, *flags, "--prune-layers", text, "--finetune-from-model", full,
            "--optimizer", "sgd", "--lr", "0",
        )  # fmt: skip
        return out / "checkpoint_last.pt"

    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(tuned, specs))
    assert all(map(torch.equal, [outputs(*load(path, data)) for path in paths], expected))


def test_export_of_an_export(family, tmp_path):
    """Pruning twice is pruning by both plans at once, and both are noted."""
    _, data, _, full = family
    first, second, both = "decoder=drop:1,4.ffn", "decoder=drop:0.self_attn,4", "decoder=drop:0.self_attn,1,4.ffn,5"
    layerdrop("export", full, "--prune-layers", first, "-o", tmp_path / "first.pt")
    layerdrop("export", tmp_path / "first.pt", "--prune-layers", second, "-o", tmp_path / "second.pt")
    twice = outputs(*load(tmp_path / "second.pt", data))
    assert torch.equal(twice, outputs(*load(full, data, prune_layers=both)))
    told = json.loads(layerdrop("describe", tmp_path / "second.pt", "--json").stdout)
    assert [entry["checkpoint"] for entry in told["pruning_history"]] == ["checkpoint_last.pt", "first.pt"]
