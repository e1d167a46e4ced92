"""Folders of transformers: in parts, in torch's format, damaged, of other models, in the way."""

import json
import os

import pytest
import torch

from tests.commands import ends_in_one_line, layerdrop
from tests.imports.folders import BERT, NEEDS_TRANSFORMERS, imported, save
from tests.imports.test_encoders import build

pytestmark = NEEDS_TRANSFORMERS


@pytest.fixture
def folder(tmp_path):
    model, special = build("Bert", "ForMaskedLM")
    return save(model, tmp_path / "hf", special)


def state(path):
    return torch.load(path / "checkpoint.pt", weights_only=True)["model"]


def change(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def refused(folder, out, *words):
    """Assert that an import ends in one line, and that nothing was written."""
    before = sorted(os.listdir(out.parent))
    ends_in_one_line(layerdrop("import", folder, "-o", out, check=False), *words)
    assert sorted(os.listdir(out.parent)) == before


class TestFormats:
    def test_parts_and_torchs(self, folder, tmp_path):
        layerdrop("import", folder, "-o", tmp_path / "whole")
        expected = state(tmp_path / "whole")
        model, _ = build("Bert", "ForMaskedLM")
        parts = save(model, tmp_path / "parts", BERT, max_shard_size="20KB")
        assert len(list(parts.glob("model-*.safetensors"))) > 1
        weights = model.state_dict()
        old = tmp_path / "old"
        old.mkdir()
        for name in ("config.json", "tokenizer.json"):
            (old / name).write_bytes((folder / name).read_bytes())
        # TensorFlow's names of norms, as BERT's first files have them
        oldest = {key.replace("LayerNorm.weight", "LayerNorm.gamma"): value for key, value in weights.items()}
        torch.save(oldest, old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
        for other in (parts, old):
            layerdrop("import", other, "-o", tmp_path / f"from-{other.name}")
            found = state(tmp_path / f"from-{other.name}")
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in expected)

    def test_vocabulary_in_lines(self, folder, tmp_path):
        tokens = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        layerdrop("import", folder, "-o", tmp_path / "one")
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(tokens, key=tokens.get)))
        layerdrop("import", folder, "-o", tmp_path / "two")
        assert (tmp_path / "one/dict.txt").read_text() == (tmp_path / "two/dict.txt").read_text()

    def test_half_precision_stays(self, tmp_path):
        model, special = build("Bert", "ForMaskedLM")
        save(model.half(), tmp_path / "hf", special)
        ours, _ = imported(tmp_path / "hf", tmp_path / "out")
        assert {tensor.dtype for key, tensor in state(tmp_path / "out").items() if "version" not in key} == {torch.half}
        assert next(ours.parameters()).dtype == torch.float32


class TestDamaged:
    @pytest.mark.parametrize(
        "name, content, words",
        [
            ("config.json", None, "no config.json"),
            ("config.json", b"{", "isn't JSON"),
            ("config.json", b"[]", "isn't a JSON object"),
            ("model.safetensors", None, "has no weights"),
            ("model.safetensors", b"12345678", "model.safetensors is damaged"),
            ("tokenizer.json", None, "no tokenizer.json"),
            ("tokenizer.json", b'{"model": {"vocab": 3}}', "isn't in transformers' format"),
            (
                "tokenizer.json",
                b'{"model": {"vocab": {"a": 24}}}',
                "up to number 24, and the model 24 embeddings",
            ),
            ("adapter_config.json", b"{}", "adapters"),
        ],
    )
    def test_file(self, folder, tmp_path, name, content, words):
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        refused(folder, tmp_path / "out", words)

    def test_missing_folder(self, tmp_path):
        refused(tmp_path / "none", tmp_path / "out", "no such folder")

    def test_missing_part(self, tmp_path):
        model, special = build("Bert", "ForMaskedLM")
        folder = save(model, tmp_path / "hf", special, max_shard_size="20KB")
        part = sorted(folder.glob("model-*.safetensors"))[1]
        part.unlink()
        refused(folder, tmp_path / "out", f"no such file of weights: {part}")

    def test_index_that_leads_out_of_the_folder(self, folder, tmp_path):
        (folder / "model.safetensors").rename(tmp_path / "other.safetensors")
        index = {"weight_map": {"a": "../other.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        refused(folder, tmp_path / "out", "outside of its folder")

    def test_pickle_that_wants_code(self, folder, tmp_path):
        class Code:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'run'}",)

        (folder / "model.safetensors").unlink()
        torch.save({"bert.pooler.dense.weight": Code()}, folder / "pytorch_model.bin")
        refused(folder, tmp_path / "out", "holds more than data")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "settings, words",
        [
            ({"hidden_size": 64}, "and should have"),
            ({"num_hidden_layers": 5}, "they lack what becomes encoder.sentence_encoder.layers.4."),
            ({"num_hidden_layers": 3}, "no place for what becomes encoder.sentence_encoder.layers.3."),
            ({"num_hidden_layers": "many"}, "isn't in transformers' format"),
            ({"intermediate_size": 40}, "fc1"),
            ({"vocab_size": 25}, "embeddings have the shape [24, 32], for a vocab_size of 25"),
        ],
    )
    def test_weights_of_other_settings(self, folder, tmp_path, settings, words):
        change(folder, **settings)
        refused(folder, tmp_path / "out", words)


class TestForeign:
    @pytest.mark.parametrize(
        "settings, words",
        [
            ({"model_type": "llama", "rope_theta": 1e4, "rms_norm_eps": 1e-6}, ("rope_theta", "RMSNorm")),
            ({"model_type": "t5", "relative_attention_num_buckets": 32}, ("relative_attention_num_buckets",)),
            ({"model_type": "t5", "feed_forward_proj": "gated-gelu"}, ("gated feed-forward",)),
            ({"position_embedding_type": "relative_key"}, ("position_embedding_type relative_key",)),
            ({"quantization_config": {"bits": 8}}, ("quantised weights",)),
            ({"model_type": "vit"}, ("can't import a model of the type 'vit', only bert",)),
            ({"model_type": None}, ("can't import a model of the type 'None'",)),
        ],
    )
    def test_another_architecture(self, folder, tmp_path, settings, words):
        change(folder, **settings)
        refused(folder, tmp_path / "out", *words)


class TestOut:
    def test_force(self, folder, tmp_path):
        out = tmp_path / "out"
        layerdrop("import", folder, "-o", out)
        refused(folder, out, "exists; give another name, or --force")
        layerdrop("import", folder, "-o", out, "--force")
        refused(folder, folder, "is no imported model")
