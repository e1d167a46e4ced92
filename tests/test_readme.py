"""What the README names exists and means something."""

import json
import re

import pytest
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY

from fairseq_layerdrop.evaluation.glue_table import read_result, side_by_side
from fairseq_layerdrop.plan import Details, parse_plans, transformer_structure
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
        for plan, _ in parse_plans(spec):
            plan.resolve(transformer_structure({"encoder": 16, "decoder": 16}), details)


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
    results = {task: read_result(ROOT / f"configs/roberta/{task}.json") for task in ("SST-2", "MRPC")}
    assert side_by_side(list(results.values())) in README
    assert [{mean["seeds"] for mean in result["means"]} for result in results.values()] == [{3}, {2}]
    found = {(mean["model"], mean["strategy"], mean["dropped"]): mean for mean in results["SST-2"]["means"]}
    score = {run: mean["scores"]["accuracy"] for run, mean in found.items()}

    def lost(model, strategy):
        return f"{score[model, 'full', 0] - score[model, strategy, 6]:.1f}"

    def without(dropped):
        full, pruned = found[MODELS[0], "full", 0], found[MODELS[0], "top", dropped]
        times = (
            f"fine-tuned {pruned['tuning_speedup']:.1f} and predicted {pruned['inference_speedup']:.1f} times as fast"
        )
        return f"{100 * pruned['parameters'] / full['parameters']:.0f} %", times

    (left, times), (left_of_half, times_of_half) = without(4), without(6)
    odd, even = ([lost(model, f"{kind}_alternate") for model in MODELS] for kind in ("odd", "even"))
    for told in (
        f"Without 4 of the 12 layers, {left} of the parameters are left, and SST-2 is {times}",
        f"without 6, {left_of_half}, and {times_of_half}.",
        f"half from the top costs SST-2 {max(lost(model, 'top') for model in MODELS)} points at most",
        f"costs {odd[0]} points of SST-2 with LayerDrop, and {odd[1]} without",
        f"costs {even[0]} and {even[1]}: there",
    ):
        assert told in " ".join(README.split())
    assert all(score[model, "bottom", 6] < score[model, "top", 6] for model in MODELS)
    assert all(score[model, "full", 0] < score["random weights", "full", 0] for model in MODELS)
    best = max(mean["scores"]["accuracy"] for mean in results["MRPC"]["means"])
    assert best < results["MRPC"]["majority"]["accuracy"] + 2.3  # a standard error: 100 (0.684 x 0.316 / 408)^0.5


def test_fine_tuning_is_what_was_measured():
    rows = json.loads((ROOT / "configs/wikitext2/fine_tuning.json").read_text())
    found = {(row["model"], row["updates"]): f"{row['perplexity']:.1f}" for row in rows}
    for model in ("layerdrop", "baseline"):
        assert f"from {found[model, 0]} to {found[model, 750]}" in " ".join(README.split())


def test_speed_table_is_what_was_measured():
    for line in (ROOT / "configs/multi30k/speed.md").read_text().splitlines()[2:]:
        assert line in README
