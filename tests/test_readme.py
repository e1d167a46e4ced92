"""What the README names exists and means something."""

import json
import re

import pytest
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY

from fairseq_layerdrop.plan import Details, parse, transformer_structure
from tests.commands import ROOT

README = (ROOT / "README.md").read_text()
MODELS = ("small_layerdrop", "small_baseline")
SPECS = sorted(
    set(re.findall(r"(?:(?:encoder|decoder)=)?(?:keep|drop):[\w,@.-]*\w(?:/decoder=keep:[\w,@-]+)?", README))
)


def test_specs_are_found():
    assert len(SPECS) > 8


@pytest.mark.parametrize("spec", SPECS)
def test_spec_is_in_the_grammar(spec):
    if not spec.endswith((":COUNT@RULE", ".json")):  # a ladder is read
        details = Details({"encoder": 8, "decoder": 8}, {"encoder": (1 / 16,) * 16, "decoder": (1 / 16,) * 16})
        parse(spec).resolve(transformer_structure({"encoder": 16, "decoder": 16}), details)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"layerdrop_(?:transformer|roberta)\w*", README))))
def test_architecture_is_registered(name):
    assert name in ARCH_MODEL_REGISTRY


@pytest.mark.parametrize("name", sorted(set(re.findall(r"--task (layerdrop_\w+)", README))))
def test_task_is_registered(name):
    assert name in TASK_REGISTRY


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:scripts|configs)/[\w/]+\.\w+", README))))
def test_file_is_there(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("name", ["speed", "speed_two_threads"])
def test_ctranslate2_translates_as_fairseq_does(name):
    """What scripts/bench/translation_speed.py measured on the 1,000 test sentences of Multi30k."""
    rows = json.loads((ROOT / f"configs/multi30k/{name}.json").read_text())["rows"]
    same = [row["same_as_fairseq_generate"] for row in rows if row["weights"] == "float32"]
    assert len(same) == 4 and min(same) >= 0.99


@pytest.mark.parametrize("name, score, count", [("wikitext2", "perplexity by word", 12), ("roberta", "perplexity", 8)])
def test_table_by_depth_is_what_was_measured(name, score, count):
    rows = json.loads((ROOT / f"configs/{name}/result.json").read_text())["rows"]
    assert len(rows) == count
    for row in rows:
        [line] = [line for line in README.splitlines() if f"| {row['parameters']:,} |" in line]
        assert f"{row['scores'][score]:.1f}" == line.split("|")[3 if "layerdrop" in row["model"] else 4].strip()


@pytest.mark.parametrize(
    "name",
    [
        "multi30k/selection",
        "wikitext2/selection",
        "roberta/glue",
        "selection_speed",
        "wikitext2/what_to_drop",
        "wikitext2/training_speed",
        "multi30k/generation_speed",
    ],
)
def test_table_is_what_a_script_wrote(name):
    assert (ROOT / f"configs/{name}.md").read_text().strip() in README


def test_guidelines_are_what_a_sweep_measured():
    lines = (ROOT / "configs/multi30k/sweep/sweep.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines[1:]]
    found = {(point["model"], *(kept for kept, _ in point["depths"].values())): point for point in points}
    whole = found["layerdrop", 6, 6]

    def lost(encoder, decoder, model="layerdrop"):
        return f"{found[model, 6, 6]['quality']['BLEU'] - found[model, encoder, decoder]['quality']['BLEU']:.1f}"

    def saved(encoder, decoder):
        return f"{100 - 100 * found['layerdrop', encoder, decoder]['parameters'] / whole['parameters']:.0f} %"

    before, after = (f"{1e3 * found['layerdrop', 6, kept]['latency']['median']:.1f}" for kept in (6, 3))
    for told in (
        f"take {before} ms a sentence to {after} for {lost(6, 3)} BLEU",
        f"those 4 layers are {saved(2, 6)} of the parameters for {lost(2, 6)} BLEU",
        f"2 decoder layers less are {saved(6, 4)} for {lost(6, 4)}",
        f"costs {lost(2, 6, 'baseline')} there, and of 2 decoder layers {lost(6, 4, 'baseline')}",
    ):
        assert told in " ".join(README.split())


def test_glue_is_what_was_measured():
    means = json.loads((ROOT / "configs/roberta/SST-2.json").read_text())["means"]
    found = {(mean["model"], mean["strategy"], mean["dropped"]): mean for mean in means}

    def lost(model, strategy):
        full, pruned = found[model, "full", 0], found[model, strategy, 6]
        return f"{full['scores']['accuracy'] - pruned['scores']['accuracy']:.1f}"

    def faster(dropped):
        mean = found["small_layerdrop", "top", dropped]
        return f"{mean['tuning_speedup']:.1f}", f"{mean['inference_speedup']:.1f}"

    def left(dropped):
        full, pruned = found["small_layerdrop", "full", 0], found["small_layerdrop", "top", dropped]
        return f"{100 * pruned['parameters'] / full['parameters']:.0f} %"

    (tuning, inference), both = faster(4), " and ".join(faster(6))
    costs = [" or ".join(lost(model, f"{kind}_alternate") for kind in ("odd", "even")) for model in MODELS]
    for told in (
        f"leave {left(4)} of the parameters, and make fine-tuning {tuning} and inference {inference} times as fast",
        f"6 less leave {left(6)}, and {both} times",
        f"costs {costs[0]} points of SST-2 with LayerDrop, and {costs[1]} without",
    ):
        assert told in " ".join(README.split())
    full, random = (found[model, "full", 0]["scores"]["accuracy"] for model in ("small_layerdrop", "random weights"))
    assert random > full > found["small_baseline", "full", 0]["scores"]["accuracy"]
    result = json.loads((ROOT / "configs/roberta/MRPC.json").read_text())
    best = max(mean["scores"]["accuracy"] for mean in result["means"])
    assert best < result["majority"]["accuracy"] + 2.3  # a standard error: 100 (0.684 x 0.316 / 408)^0.5


def test_fine_tuning_is_what_was_measured():
    rows = json.loads((ROOT / "configs/wikitext2/fine_tuning.json").read_text())
    found = {(row["model"], row["updates"]): f"{row['perplexity']:.1f}" for row in rows}
    for model in ("layerdrop", "baseline"):
        assert f"from {found[model, 0]} to {found[model, 750]}" in " ".join(README.split())


def test_speed_table_is_what_was_measured():
    for line in (ROOT / "configs/multi30k/speed.md").read_text().splitlines()[2:]:
        assert line in README
