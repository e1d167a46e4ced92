"""Every configuration: both of fairseq's commands read it alike, it builds its model, and the small ones train."""

import importlib.util
import json
import re
import shlex
import shutil
from argparse import Namespace

import pytest
import torch
from fairseq import options
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.roberta import model as roberta
from fairseq.models.transformer import TransformerConfig
from omegaconf import OmegaConf

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.corpora.glue import TASKS
from fairseq_layerdrop.recipes.config import config_flags, read_config
from fairseq_layerdrop.recipes.devices import fit_to_devices, usable_devices
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.config import complete_architecture
from tests.commands import EVALUATE, NEEDS_FAIRSEQ_MAIN, ROOT, USER_DIR, ends_in_one_line, layerdrop, run
from tests.models.test_layerdrop_models import build, count

pytestmark = NEEDS_FAIRSEQ_MAIN
CONFIGS = sorted((ROOT / "configs").glob("*/*.yaml"))
# Number of symbols, and of the model's parameters where it is known from elsewhere or measured.
MODELS = {
    "cnn_dm/baseline_6_6": (32_000, 60_522_496),
    "cnn_dm/layerdrop_6_6": (32_000, 60_522_496),
    "cnn_dm/layerdrop_6_8": (32_000, 68_930_560),
    "cnn_dm/teacher_6_6": (32_000, 60_522_496),
    "eli5/layerdrop_6_6": (40_000, None),
    "iwslt14_de_en/baseline": (10_000, None),
    "iwslt14_de_en/layerdrop": (10_000, None),
    "multi30k/baseline": (5_908, 5_591_040),
    **{f"multi30k/{run}": (5_908, 5_591_040) for run in ("layerdrop", "teacher", "teacher_plans", "rdrop")},
    **{
        f"glue/{task}": (50_265, 355_411_033)
        for task in ("CoLA", "MNLI", "MRPC", "QNLI", "QQP", "RTE", "SST-2", "STS-B")
    },
    "roberta/base": (50_265, 124_696_665),
    "roberta/large": (50_265, 355_411_033),
    "roberta/large_48": (50_265, 657_720_409),
    "roberta/teacher_base": (50_265, 124_696_665),
    "roberta/small_baseline": (4_905, None),
    "roberta/small_baseline_short": (4_905, None),
    "roberta/small_layerdrop": (4_905, None),
    "roberta/small_layerdrop_short": (4_905, None),
    "wikitext103/baseline_16": (267_744, 246_933_504),
    "wikitext103/layerdrop_16": (267_744, 246_933_504),
    "wikitext103/layerdrop_40": (267_744, 423_352_320),
    "wikitext103/teacher_16": (267_744, 246_933_504),
    "wikitext2/baseline": (4_904, None),
    **{f"wikitext2/{run}": (4_904, None) for run in ("layerdrop", "teacher", "teacher_plans", "rdrop")},
    "wmt16_en_de/baseline_12_6": (32_768, 285_489_152),
    "wmt16_en_de/baseline_6_6": (32_768, 209_911_808),
    "wmt16_en_de/layerdrop_12_6": (32_768, 285_489_152),
    "wmt16_en_de/layerdrop_6_6": (32_768, 209_911_808),
    "wmt16_en_de/teacher_6_6": (32_768, 209_911_808),
}


def name_of(config):
    return f"{config.parent.name}/{config.stem}"


def is_full(config):
    """Whether it is a run of a paper's size."""
    return config.parent.name not in ("multi30k", "wikitext2") and not config.stem.startswith("small_")


def by_flags(config):
    """The configuration of ``fairseq-train`` with the flags that ``fairseq-layerdrop flags`` prints."""
    printed = layerdrop("flags", config).stdout
    arguments = shlex.split(printed.replace("--user-dir fairseq_layerdrop", f"--user-dir {USER_DIR}"))
    args = options.parse_args_and_arch(options.get_training_parser(), arguments)
    return convert_namespace_to_omegaconf(args)


def by_hydra(config):
    """The configuration of ``fairseq-hydra-train``."""
    from hydra import compose, initialize_config_dir  # of hydra >= 1.2

    hydra_init(config.stem)
    with initialize_config_dir(str(config.parent), version_base="1.1"):
        cfg = compose(config_name=config.stem, overrides=[f"common.user_dir={USER_DIR}"])
    add_defaults(cfg)
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True), flags={"allow_objects": True})


def model_settings(cfg):
    """A model's settings, complete."""
    model = cfg.model
    flat = Namespace(**(vars(model) if isinstance(model, Namespace) else OmegaConf.to_container(model)))
    complete_architecture(flat)
    return flat


def test_all_are_known():
    assert {name_of(config) for config in CONFIGS} == set(MODELS)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_flags_resolve_as_the_file_does(config):
    flags, hydra = by_flags(config), by_hydra(config)
    for section in hydra:
        if section not in ("model", "_name", "scoring"):  # scoring is for generation, and has a default in flags alone
            assert flags[section] == hydra[section], section
    ours, theirs = model_settings(flags), model_settings(hydra)
    assert ours._name == theirs._name
    if getattr(ARCH_MODEL_REGISTRY[ours._name], "__dataclass", None):
        assert vars(ours) == vars(theirs)
    else:  # a namespace has the whole command line
        assert TransformerConfig.from_namespace(ours) == TransformerConfig.from_namespace(theirs)
        assert {key: getattr(ours, key) for key in vars(theirs)} == vars(theirs)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_builds_its_model(config, monkeypatch):
    run = by_hydra(config)
    cfg = model_settings(run)
    vars(cfg).setdefault("max_positions", run.task.get("max_positions"))  # fairseq's sentence prediction does so
    symbols, parameters = MODELS[name_of(config)]
    monkeypatch.setattr(roberta, "init_bert_params", lambda module: None)  # can't do without memory
    with torch.device("meta"):
        built = count(build(cfg, cfg._name, symbols))
    assert parameters is None or built == parameters


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_header_tells_what_it_is(config):
    text = config.read_text()
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert max(map(len, header)) <= 130
    launches = re.findall(r"fairseq-layerdrop flags (configs/\S+)\)", text)
    assert launches == [f"configs/{name_of(config)}.yaml"] or any("bash scripts/" in line for line in header)
    assert any("Batch:" in line for line in header) and any("Hardware:" in line for line in header)
    if is_full(config):
        assert any("Reproduces:" in line for line in header)


@pytest.mark.parametrize("folder", sorted({config.parent for config in CONFIGS}), ids=lambda path: path.name)
def test_baselines_differ_in_layerdrop_and_dropout_alone(folder):
    for baseline in folder.glob("*baseline*.yaml"):
        ours = OmegaConf.load(folder / baseline.name.replace("baseline", "layerdrop"))
        other = OmegaConf.load(baseline)
        for cfg in (ours, other):
            for name in ("encoder_layerdrop", "decoder_layerdrop", "dropout"):
                cfg.model.pop(name, None)
            del cfg.hydra.run.dir
            start = cfg.checkpoint.pop("finetune_from_model", None)
            assert start is None or start == f"{cfg.checkpoint.save_dir}_short/checkpoint_last.pt"
            del cfg.checkpoint.save_dir
        assert ours == other


TAUGHT = [config for config in CONFIGS if config.stem.startswith(("teacher", "rdrop"))]


@pytest.mark.parametrize("config", TAUGHT, ids=name_of)
def test_teachers_differ_from_the_plain_run_alone_in_what_they_teach(config):
    plain = {"roberta": "base"}.get(config.parent.name, f"baseline{config.stem.removeprefix('teacher')}")
    plain = config.parent / f"{plain}.yaml"
    ours, other = (OmegaConf.load(path) for path in (config, plain if plain.exists() else plain.with_stem("baseline")))
    assert ours.task.layerdrop_teacher == ("r_drop" if config.stem == "rdrop" else "self")
    for cfg in (ours, other):
        for name in [name for name in cfg.task if name.startswith("layerdrop_")]:
            del cfg.task[name]
        for name in ("encoder_layerdrop", "decoder_layerdrop"):
            cfg.model.pop(name, None)
        del cfg.hydra.run.dir, cfg.checkpoint.save_dir
    assert ours == other
    if is_full(config):
        header = config.read_text().split("common:")[0]
        assert "Expected: updates that take" in header and "Hoped for, and not" in header


@pytest.mark.parametrize("name", ["layerdrop", "baseline"])
def test_short_blocks_differ_in_length_and_updates_alone(name):
    ours, short = (OmegaConf.load(ROOT / f"configs/roberta/small_{name}{end}.yaml") for end in ("", "_short"))
    assert (short.task.tokens_per_sample, short.optimization.max_update) == (16, 3000)
    for cfg in (ours, short):
        del cfg.task.tokens_per_sample, cfg.optimization.max_update, cfg.lr_scheduler.total_num_update
        del cfg.checkpoint.save_dir, cfg.hydra.run.dir
    del ours.checkpoint.finetune_from_model
    assert ours == short


@pytest.mark.parametrize(
    "name, rate, overrides",
    [
        ("multi30k/layerdrop", 0.2, ()),
        ("multi30k/baseline", 0.0, ()),
        ("multi30k/teacher", 0.5, ("common.bf16=true",)),  # fairseq-train takes --bf16 without a GPU for a TPU's
    ],
)
def test_trains(name, rate, overrides, translation_data, tmp_path):
    """fairseq-hydra-train on tiny data, and the pruned model translates."""
    config = ROOT / "configs" / f"{name}.yaml"
    data = tmp_path / "data-bin"  # the binarised files carry their languages in their names
    data.mkdir()
    for path in translation_data.iterdir():
        renamed = path.name.replace("a-b.a.", "en-de.en.").replace("a-b.b.", "en-de.de.")
        shutil.copy(path, data / renamed.replace("dict.a", "dict.en").replace("dict.b", "dict.de"))
    run(
        "fairseq-hydra-train", "--config-dir", config.parent, "--config-name", config.stem,
        f"common.user_dir={USER_DIR}", "common.seed=7", f"task.data={data}", f"checkpoint.save_dir={tmp_path / 'save'}",
        f"hydra.run.dir={tmp_path}", "dataset.max_tokens=200", "optimization.max_epoch=1", *overrides,
    )  # fmt: skip
    saved = load_checkpoint(tmp_path / "save" / "checkpoint_best.pt")
    model = saved["cfg"]["model"]
    assert (model["encoder_layerdrop"], model["decoder_layerdrop"], model["seed"]) == (rate, rate, 7)
    assert all(torch.isfinite(tensor).all() for tensor in saved["model"].values())
    done = run(
        "fairseq-generate", data, "--user-dir", USER_DIR, "--task", "layerdrop_translation", "--path",
        tmp_path / "save" / "checkpoint_best.pt", "--prune-layers", "keep:3@every_other", *EVALUATE,
    )  # fmt: skip
    assert "Translated 16 sentences" in done.stdout + done.stderr


class TestMistakes:
    @pytest.mark.parametrize(
        "text, words",
        [
            ("common: [", "is not valid YAML"),
            ("comon: {seed: 1}", "unknown section 'comon'; the sections are common, "),
            ("model: {_name: transformer_huge}", "unknown architecture 'transformer_huge'"),
            ("task: {_name: translate}", "task: unknown _name 'translate'; there are "),
            ("common: {sed: 1}", "common has no setting 'sed'"),
            ("model: {_name: layerdrop_transformer, encoder_layer: 3}", "model has no setting 'encoder_layer'"),
        ],
    )
    def test_in_a_file(self, tmp_path, text, words):
        (tmp_path / "run.yaml").write_text(text)
        ends_in_one_line(layerdrop("flags", tmp_path / "run.yaml", check=False), words)

    def test_no_file(self, tmp_path):
        ends_in_one_line(layerdrop("flags", tmp_path / "none.yaml", check=False), "cannot read", "No such file")


BIG_BATCH = {
    "common": {"fp16": True}, "dataset": {"max_tokens": 3584}, "optimization": {"update_freq": [16]},
    "distributed_training": {"distributed_world_size": 8},
}  # fmt: skip


def test_estimates_are_of_these_configurations():
    """configs/estimates.json, by scripts/bench/estimate_runs.py, has every full run with its batch."""
    rows = {row["run"]: row for row in json.loads((ROOT / "configs/estimates.json").read_text())["rows"]}
    full = {name_of(config): config for config in CONFIGS if is_full(config) and config.parent.name != "glue"}
    assert set(rows) == set(full)
    for name, row in rows.items():
        told = OmegaConf.load(full[name])
        assert row["tokens"] == told.dataset.max_tokens and row["updates"] == told.optimization.max_update
        assert row["accumulations"] == told.optimization.get("update_freq", [1])[0]
        assert row["devices"] == OmegaConf.select(told, "distributed_training.distributed_world_size", default=1)


def test_estimate_by_counting():
    """One run again, and its operations by hand: two for each weight and token, three times over forward and back."""
    spec = importlib.util.spec_from_file_location("estimate_runs", ROOT / "scripts/bench/estimate_runs.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    args = Namespace(device="counted", tflops=125, utilisation=0.3, updates=None)
    row = bench.estimate(ROOT / "configs/iwslt14_de_en/baseline.yaml", args)
    assert row in json.loads((ROOT / "configs/estimates.json").read_text())["rows"]
    sentences, length = 4000 // 24, 24
    layers, attention = 6, 4 * 512**2
    weights = layers * (attention + 2 * 512 * 1024) + layers * (2 * attention + 2 * 512 * 1024) + 512 * 10_000
    scores = 2 * 3 * layers * length * 512  # of three attentions a pair of layers: queries by keys, weights by values
    by_hand = 3 * 2 * sentences * length * (weights + scores)
    assert row["teraflops_a_micro_batch"] * 1e12 == pytest.approx(by_hand, rel=0.01)
    assert row["hours"] == pytest.approx(50_000 * by_hand / (125e12 * 0.3) / 3600, rel=0.01)


class TestDevices:
    """The batch stays what it is: tokens x accumulations x devices."""

    @staticmethod
    def batch(config):
        return (
            config["dataset"]["max_tokens"], config["optimization"]["update_freq"][0],
            config["distributed_training"]["distributed_world_size"],
        )  # fmt: skip

    @pytest.mark.parametrize("cpu", [False, True])
    @pytest.mark.parametrize("devices, update_freq", [(8, 16), (1, 128), (4, 32), (16, 8), (128, 1)])
    def test_accumulates_more_on_fewer(self, devices, update_freq, cpu):
        fitted = fit_to_devices(BIG_BATCH, devices, cpu)
        assert self.batch(fitted) == (3584, update_freq, devices)
        assert fitted["common"] == {"fp16": not cpu, "cpu": cpu}

    def test_smaller_micro_batches(self):
        assert self.batch(fit_to_devices(BIG_BATCH, 4, update_freq=64)) == (1792, 64, 4)
        assert BIG_BATCH["optimization"] == {"update_freq": [16]}

    @pytest.mark.parametrize(
        "gpus, update_freq, words",
        [
            (6, None, "a batch of 16 accumulations x 8 devices can't be shared by 6; .* divides 128"),
            (4, 33, "3584 tokens x 128 can't be shared by 4 devices that accumulate 33 times; 32 times would"),
        ],
    )
    def test_uneven(self, gpus, update_freq, words):
        with pytest.raises(UserError, match=words):
            fit_to_devices(BIG_BATCH, gpus, update_freq=update_freq)

    def test_a_sample_must_fit(self):
        with pytest.raises(UserError, match="leaves 1536 tokens, too few for a sample of 3072"):
            fit_to_devices(
                {**BIG_BATCH, "dataset": {"max_tokens": 3072}, "task": {"tokens_per_sample": 3072}}, 8, update_freq=32
            )

    @pytest.mark.parametrize("most, devices", [(1, 1), (7, 4), (8, 8), (12, 8), (500, 128)])
    def test_usable(self, most, devices):
        assert usable_devices(BIG_BATCH, most) == devices

    def test_overrides(self):
        config = ROOT / "configs/cnn_dm/layerdrop_6_6.yaml"
        told = read_config(
            config,
            [
                "task.data=/tmp/run #2", 'task.eval_rouge_args={"beam": 2}', "optimization.lr=[0.1]",
                "task.eval_rouge=true", "optimization.update_freq=16", "checkpoint.save_dir=a b: c", "common.seed=3",
            ],
        )  # fmt: skip
        assert told["task"]["data"] == "/tmp/run #2" and told["task"]["eval_rouge_args"] == '{"beam": 2}'
        assert told["checkpoint"]["save_dir"] == "a b: c" and told["optimization"]["lr"] == [0.1]
        assert told["task"]["eval_rouge"] is True and told["common"]["seed"] == 3
        assert fit_to_devices(told, 4)["optimization"]["update_freq"] == [32]

    def test_settings_may_stand_behind_options(self):
        printed = layerdrop(
            "flags", ROOT / "configs/multi30k/layerdrop.yaml", "--cpus", "1", "model.dropout=0.2"
        ).stdout
        assert "--dropout 0.2" in printed and "--cpu" in printed

    def test_command(self):
        config = ROOT / "configs/wmt16_en_de/layerdrop_6_6.yaml"
        printed = layerdrop("flags", config, "model.dropout=0.3", "task.data=here", "--cpus", "1").stdout
        assert printed.startswith("here ") and "--dropout 0.3" in printed and "--fp16" not in printed
        assert "--cpu" in printed and "--update-freq 128" in printed and "--distributed-world-size 1 " in printed
        for arguments, words in {
            ("dropout=0.3",): "'dropout=0.3' is not SECTION.FIELD=VALUE",
            ("model.drop_out=0.3",): "model has no setting 'drop_out'",
            ("--gpus", "0"): "numbers of GPUs and CPUs and --update-freq must be at least 1",
            ("optimization.update_freq=[8,16]", "--gpus", "8"): "update_freq must be one number above 0",
            ("--gpus", "8", "--frobnicate"): "unrecognized arguments: --frobnicate",
            ("--update-freq", "2"): "--update-freq wants --gpus, --most-gpus or --cpus",
        }.items():
            ends_in_one_line(layerdrop("flags", config, *arguments, check=False), words)


@pytest.mark.parametrize("config", [config for config in CONFIGS if config.parent.name == "glue"], ids=name_of)
def test_header_tells_the_batch_of_a_fine_tuning(config):
    sentences, tokens = re.search(r"# Batch: (\d+) sentences, of ([\d,]+) tokens at most", config.read_text()).groups()
    told = OmegaConf.load(config)
    assert (told.dataset.batch_size, told.dataset.max_tokens) == (int(sentences), int(tokens.replace(",", "")))
    assert "update_freq" not in told.optimization and "distributed_training" not in told


@pytest.mark.parametrize("config", [config for config in CONFIGS if config.parent.name == "glue"], ids=name_of)
def test_fine_tuning_is_of_its_task(config):
    """Ten epochs, 6 % of warm-up in all but one of fairseq's recipes, and as many classes as the task has."""
    told, task = OmegaConf.load(config), TASKS[config.stem]
    assert told.task.num_classes == (len(task.labels) or 1)
    assert told.criterion.get("regression_target", False) == task.is_regression
    updates = told.optimization.max_update
    assert told.lr_scheduler.total_num_update == updates
    warmup = 0.25 if config.stem == "QQP" else 0.06
    assert told.lr_scheduler.warmup_updates == pytest.approx(warmup * updates, abs=2)
    assert f"work/glue/{config.stem}/data-bin" == told.task.data and f"GLUE's {config.stem}." in config.read_text()


@pytest.mark.parametrize("config", [config for config in CONFIGS if config.parent.name != "glue"], ids=name_of)
def test_header_tells_the_batch(config):
    tokens, accumulations, devices = re.search(
        r"# Batch: ([\d,]+) tokens x (\d+) accumulations? x (\d+) ", config.read_text()
    ).groups()
    told = OmegaConf.load(config)
    assert told.dataset.max_tokens == int(tokens.replace(",", ""))
    assert list(told.optimization.get("update_freq", [1])) == [int(accumulations)]
    assert OmegaConf.select(told, "distributed_training.distributed_world_size", default=1) == int(devices)


@pytest.mark.parametrize("paper", sorted((ROOT / "configs").glob("*/paper.json")), ids=lambda path: path.parent.name)
def test_headers_tell_the_papers_values(paper):
    """docs/recipes.md takes them from there."""
    told = json.loads(paper.read_text())
    for name, values in told["values"].items():
        text = (paper.parent / f"{name}.yaml").read_text()
        for value in [values] if isinstance(values, str) else map(str, values.values()):
            assert value in text
        assert told["table"] in text


def test_switches_that_turn_a_default_off(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "task: {_name: layerdrop_translation, data: here, left_pad_source: false, left_pad_target: false}\n"
        "common: {fp16: false, cpu: true}\noptimization: {lr: [0.1, 0.2], update_freq: [2]}\n"
    )
    assert config_flags(read_config(tmp_path / "run.yaml")) == [
        "here", "--task", "layerdrop_translation", "--left-pad-source", "--cpu",
        "--lr", "0.1,0.2", "--update-freq", "2",
    ]  # fmt: skip
