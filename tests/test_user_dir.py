"""A user's own package beside ours in one ``--user-dir``: architectures, a task and a criterion of theirs."""

from argparse import Namespace

import pytest
from fairseq.models import build_model
from fairseq.models.transformer import TransformerModel
from fairseq.utils import import_user_module
from omegaconf import OmegaConf

from fairseq_layerdrop.analysis.sweep import _Model as SweptModel
from fairseq_layerdrop.modules import LayerDropModuleList
from fairseq_layerdrop.plan import parse, transformer_structure
from fairseq_layerdrop.surgery.checkpoint import Checkpoint
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.export import pruned_settings
from fairseq_layerdrop.surgery.state import stacks_of
from tests.commands import EVALUATE, TRAIN, USER_DIR, ends_in_one_line, layerdrop, run, said
from tests.models.test_layerdrop_models import FakeTask

PACKAGE = """
from dataclasses import dataclass

from fairseq.criterions import register_criterion
from fairseq.criterions.cross_entropy import CrossEntropyCriterion, CrossEntropyCriterionConfig
from fairseq.logging import metrics
from fairseq.models import register_model, register_model_architecture
from fairseq.models.roberta.model import base_architecture as roberta
from fairseq.models.transformer import base_architecture as transformer
from fairseq.models.transformer_lm import base_lm_architecture as transformer_lm
from fairseq.tasks import register_task

from fairseq_layerdrop import (
    LayerDropSentencePredictionTask,
    LayerDropTransformerModel,
    LayerDropTranslationTask,
)
from fairseq_layerdrop.tasks.layerdrop_sentence_prediction import LayerDropSentencePredictionConfig
from fairseq_layerdrop.tasks.layerdrop_translation import LayerDropTranslationConfig


def small(architecture, *stacks):
    def own(args):
        for stack in stacks:
            for name, value in {"layers": 3, "embed_dim": 16, "ffn_embed_dim": 16, "attention_heads": 2}.items():
                setattr(args, f"{stack}_{name}", getattr(args, f"{stack}_{name}", None) or value)
        architecture(args)

    return own


@register_model("own_model")
class OwnModel(LayerDropTransformerModel):
    pass


register_model_architecture("layerdrop_transformer", "own_transformer")(small(transformer, "encoder", "decoder"))
register_model_architecture("layerdrop_transformer_lm", "own_transformer_lm")(small(transformer_lm, "decoder"))
register_model_architecture("layerdrop_roberta", "own_roberta")(small(roberta, "encoder"))
register_model_architecture("own_model", "own_model_small")(small(transformer, "encoder", "decoder"))


@dataclass
class OwnConfig(LayerDropTranslationConfig):
    depth: int = 0


@register_task("own_translation", dataclass=OwnConfig)
class OwnTask(LayerDropTranslationTask):
    def build_model(self, cfg, from_checkpoint=False):
        model = super().build_model(cfg, from_checkpoint)
        self.cfg.depth = len(model.decoder.layers)
        return model


@register_task("own_sentence_prediction", dataclass=LayerDropSentencePredictionConfig)
class OwnSentencePrediction(LayerDropSentencePredictionTask):
    pass


@register_criterion("own_criterion", dataclass=CrossEntropyCriterionConfig)
class OwnCriterion(CrossEntropyCriterion):
    @staticmethod
    def reduce_metrics(logging_outputs):
        CrossEntropyCriterion.reduce_metrics(logging_outputs)
        metrics.log_scalar("own", 5)
"""


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The package, imported here as ``--user-dir`` imports it; fairseq's registries take a name once in a process."""
    path = tmp_path_factory.mktemp("user") / "own_package"
    path.mkdir()
    (path / "__init__.py").write_text(PACKAGE)
    import_user_module(Namespace(user_dir=str(path)))
    return path


GIVEN = {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5, "tokens_per_sample": 32, "max_positions": 32}


class DictionaryTask(FakeTask):
    def __init__(self):
        super().__init__(40)
        self.dictionary = self.source_dictionary


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("arch", ["own_transformer", "own_transformer_lm", "own_roberta", "own_model_small"])
class TestArchitectures:
    """They know fairseq's settings alone; each of ours has its default."""

    def test_command_line(self, arch):
        args = Namespace(arch=arch, _name=arch, seed=7, **GIVEN)
        for stack in stacks_of(build_model(args, DictionaryTask())).values():
            assert type(stack.layers) is LayerDropModuleList and stack.layers.rates.layers == (0.5,) * 3
            assert stack.layers.schedule is None and stack.layers.seed == 7

    def test_hydra(self, arch):
        """The model learns the run's seed, which isn't among its own settings."""
        run = {"common": {"seed": 7}, "distributed_training": {"ddp_backend": "legacy_ddp"}}
        run = OmegaConf.create({**run, "model": {"_name": arch, **GIVEN}})
        for stack in stacks_of(build_model(run.model, DictionaryTask())).values():
            assert stack.layers.rates.layers == (0.5,) * 3 and stack.layers.seed == 7


@pytest.fixture(scope="module")
def train(package, translation_data):
    """Train a small model of theirs with all that is theirs."""

    def train(out, *flags):
        return run(
            "fairseq-train", translation_data, "--user-dir", package, "--task", "own_translation", "--arch",
            "own_transformer", "--criterion", "own_criterion", "--share-all-embeddings", "--decoder-layerdrop", "0.5",
            "--max-tokens", "200", "--max-update", "1", "--save-dir", out, *TRAIN, *flags,
        )  # fmt: skip

    return train


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    out = tmp_path_factory.mktemp("own")
    assert " | own 5 | " in said(train(out))
    return out / "checkpoint_last.pt"


def test_trains(trained):
    cfg = load_checkpoint(trained)["cfg"]
    assert cfg["task"]["_name"] == "own_translation" and cfg["model"]._name == "own_transformer"
    assert cfg["model"].layerdrop_time_schedule == "constant" and cfg["model"].decoder_layerdrop == 0.5


def test_loads_pruned(trained, package, translation_data):
    """Their task is derived from ours, and so knows what to do."""
    hub = TransformerModel.from_pretrained(
        str(trained.parent), trained.name, str(translation_data), prune_layers="decoder=drop:0.ffn,2"
    )
    assert len(hub.models[0].decoder.layers) == hub.task.cfg.depth == 2
    done = run(
        "fairseq-validate", translation_data, "--user-dir", package, "--task", "own_translation", "--path", trained,
        "--prune-layers", "decoder=drop:0.ffn,2", "--cpu", "--num-workers", "0", "--max-tokens", "400",
    )  # fmt: skip
    assert " | own 5 | " in said(done)


def test_fine_tunes_pruned(trained, train, tmp_path):
    """Also without a sub-layer, which the checkpoint notes as one of ours does."""
    train(tmp_path, "--finetune-from-model", trained, "--prune-layers", "decoder=drop:0.ffn,2")
    model = load_checkpoint(tmp_path / "checkpoint_last.pt")["cfg"]["model"]
    assert (model.decoder_layers, model.pruned_sublayers) == (2, "decoder=drop:0.ffn")


@pytest.mark.usefixtures("package")
def test_sweep_knows_what_their_task_does():
    """A task derived from ours of sentence prediction classifies."""
    asked = (transformer_structure({"encoder": 3}), None)
    for task, does in (("own_sentence_prediction", "classify"), ("layerdrop_masked_lm", "fill in masks")):
        assert SweptModel("", "", "", task, *asked).does == does


class TestExport:
    """What is theirs alone isn't in stock fairseq, and needn't be: its settings say all of it."""

    @pytest.mark.parametrize("plan", [(), ("--prune-layers", "decoder=keep:2@every_other")])
    def test_for_stock_fairseq(self, trained, package, translation_data, tmp_path, plan):
        small = tmp_path / "small.pt"
        said(layerdrop("export", trained, "-o", small, "--user-dir", package, *plan))
        cfg = load_checkpoint(small)["args"]
        assert (cfg["arch"], cfg["task"], cfg["criterion"]) == ("transformer", "translation", "cross_entropy")
        assert not {"prune_layers", "layerdrop_teacher", "layerdrop_plans"} & set(vars(cfg))  # of our task
        done = run("fairseq-generate", translation_data, "--task", "translation", "--path", small, *EVALUATE)
        assert "Generate test with beam=5" in said(done)
        done = run("fairseq-validate", translation_data, "--task", "translation", "--path", small, *EVALUATE)
        assert "valid on 'valid' subset" in said(done)

    def test_for_ours(self, trained, package, translation_data, tmp_path):
        """Without a sub-layer it is of our architecture, and needs our package alone."""
        small = tmp_path / "small.pt"
        said(layerdrop("export", trained, "-o", small, "--user-dir", package, "--prune-layers", "decoder=drop:0.ffn"))
        ours = ("--user-dir", USER_DIR, "--task", "layerdrop_translation")
        done = run("fairseq-generate", translation_data, *ours, "--path", small, *EVALUATE)
        assert "Generate test with beam=5" in said(done)

    def test_unknown(self, trained, tmp_path):
        """Without their package there is no knowing what the architecture is of."""
        done = run("fairseq-layerdrop", "export", trained, "-o", tmp_path / "small.pt", check=False)
        ends_in_one_line(done, "unknown architecture 'own_transformer'; name the plugin that has it with --user-dir")

    @pytest.mark.parametrize("plan", [None, "decoder=drop:0.ffn"])
    def test_their_class_stays(self, trained, plan):
        checkpoint = Checkpoint.load(trained)
        checkpoint.content["cfg"]["model"]._name = "own_model_small"
        settings = pruned_settings(checkpoint, checkpoint.plan(plan and parse(plan)))
        assert settings.arch == "own_model_small"
