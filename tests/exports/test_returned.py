"""Imported models on their way back to transformers, whole and pruned: the same class gives the same logits."""

import json

import pytest
import torch

from tests.commands import ends_in_one_line, layerdrop
from tests.imports import test_encoders, test_languages, test_translators
from tests.imports.folders import BERT, NEEDS_TRANSFORMERS, save, transformers

pytestmark = NEEDS_TRANSFORMERS

ENCODERS = [
    (family, kind) for family in test_encoders.FAMILIES for kind in ("ForMaskedLM", "ForSequenceClassification")
]


def there_and_back(folder, out, *flags):
    """The folder of a model that was imported and exported again, and what the export told."""
    layerdrop("import", folder, "-o", out / "fairseq")
    return layerdrop("export", out / "fairseq/checkpoint.pt", "--format", "huggingface", "-o", out / "back", *flags)


def loaded(kind, folder, missing=()):
    """The model of a folder, whose weights are all there, and no others."""
    model, report = getattr(transformers(), kind).from_pretrained(folder, output_loading_info=True)
    assert set(report.pop("missing_keys")) == set(missing)
    assert not any(report.values()), report
    return model.eval()


def same(logits, expected):
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("spec", ["keep:0-3", "keep:0,2"])
@pytest.mark.parametrize("family, kind", ENCODERS)
def test_encoder(tmp_path, family, kind, spec):
    theirs, special = test_encoders.build(family, kind)
    folder = save(theirs, tmp_path / "hf", special)
    done = there_and_back(folder, tmp_path, "--prune-layers", spec)
    assert f"architecture {family}{kind}" in done.stdout
    if spec == "keep:0,2":
        test_encoders.delete_layers(theirs, family)
    back = loaded(f"{family}{kind}", tmp_path / "back")
    ids, pad = test_encoders.tokens(special)
    real = ids.ne(pad) if kind == "ForMaskedLM" else ...
    same(test_encoders.their_logits(back, special)[real], test_encoders.their_logits(theirs, special)[real])
    assert (tmp_path / "back/tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_encoder_alone(tmp_path):
    theirs, special = test_encoders.build("Bert", "Model")
    done = there_and_back(save(theirs, tmp_path / "hf", special), tmp_path)
    assert "fairseq has no pooler" in done.stdout
    back = loaded("BertModel", tmp_path / "back", ["pooler.dense.weight", "pooler.dense.bias"])
    ids, pad = test_encoders.tokens(special)
    with torch.no_grad():
        logits, expected = (model(ids, attention_mask=ids.ne(pad)).last_hidden_state for model in (back, theirs))
    same(logits[ids.ne(pad)], expected[ids.ne(pad)])


def test_untied_encoder(tmp_path):
    theirs, special = test_encoders.build("Bert", "ForMaskedLM", tie_word_embeddings=False)
    there_and_back(save(theirs, tmp_path / "hf", special), tmp_path)
    back = loaded("BertForMaskedLM", tmp_path / "back")
    ids, pad = test_encoders.tokens(special)
    logits, expected = (test_encoders.their_logits(model, special)[ids.ne(pad)] for model in (back, theirs))
    same(logits, expected)


@pytest.mark.parametrize("spec", ["keep:0-3", "keep:0,2"])
@pytest.mark.parametrize("name", test_languages.MODELS)
def test_language_model(tmp_path, name, spec):
    theirs, special, layers = test_languages.build(name)
    there_and_back(save(theirs, tmp_path / "hf", special), tmp_path, "--prune-layers", spec)
    if spec == "keep:0,2":
        path, _, last = layers.rpartition(".")
        kept = torch.nn.ModuleList(theirs.get_submodule(layers)[layer] for layer in (0, 2))
        setattr(theirs.get_submodule(path), last, kept)
    back, ids = loaded(test_languages.MODELS[name][1], tmp_path / "back"), test_languages.tokens(special)
    with torch.no_grad():
        same(back(ids, use_cache=False).logits, theirs(ids, use_cache=False).logits)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("name", test_translators.MODELS)
def test_translator(tmp_path, name, pruned):
    folder, theirs, special = test_translators.written(name, tmp_path / "hf")
    spec = "encoder=keep:0,3/decoder=keep:1,2" if pruned else "encoder=keep:0-3"
    there_and_back(folder, tmp_path, "--prune-layers", spec)
    if pruned:
        test_translators.without_layers(theirs, encoder=(0, 3), decoder=(1, 2))
    tables = [f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")] if name == "fsmt" else []
    back = loaded(test_translators.MODELS[name][0], tmp_path / "back", tables)
    same(*(test_translators.their_logits(model, special) for model in (back, theirs)))


class TestRefused:
    @pytest.fixture
    def imported(self, tmp_path):
        theirs, special = test_encoders.build("Bert", "ForMaskedLM")
        layerdrop("import", save(theirs, tmp_path / "hf", special), "-o", tmp_path / "fairseq")
        return tmp_path / "fairseq"

    def export(self, imported, *flags):
        command = ("export", imported / "checkpoint.pt", "--format", "huggingface", "-o", imported.parent / "back")
        return layerdrop(*command, *flags, check=False)

    def test_sub_layers(self, imported):
        ends_in_one_line(self.export(imported, "--prune-layers", "drop:1.ffn"), "drop whole layers")

    def test_another_model(self, imported, tmp_path):
        theirs, _ = test_encoders.build("Bert", "ForMaskedLM", hidden_size=16)
        layerdrop("import", save(theirs, tmp_path / "hf2", BERT), "-o", tmp_path / "other")
        done = self.export(imported, "--imported", tmp_path / "other")
        ends_in_one_line(done, "isn't of the model in", "hidden_size is 32, and there 16")

    def test_a_folder_of_something_else(self, imported):
        ends_in_one_line(self.export(imported, "--imported", imported.parent), "is no folder that")

    def test_a_config_that_was_changed(self, imported):
        config = json.loads((imported / "config.json").read_text())
        (imported / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
        ends_in_one_line(self.export(imported), "is of no model that import takes")
