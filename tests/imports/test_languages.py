"""Language models of transformers, imported: their logits, whole and pruned."""

import pytest
import torch

from fairseq_layerdrop.imports.languages import never_predicted
from tests.commands import ends_in_one_line, layerdrop
from tests.imports.folders import (
    NEEDS_TRANSFORMERS,
    SYMBOLS,
    close,
    fairseq_ids,
    imported,
    in_their_order,
    randomise,
    save,
    transformers,
)
from tests.outputs import load

pytestmark = NEEDS_TRANSFORMERS

FAIRSEQ = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>"}
OPT = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "ffn_dim": 48, "max_position_embeddings": 12,
    "word_embed_proj_dim": 32,
}  # fmt: skip
GPT2 = {
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "n_inner": 48,
    "n_positions": 12,
    "bos_token_id": 23,
    "eos_token_id": 23,
}
BIO_GPT = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 12,
}  # fmt: skip
XGLM = {"d_model": 32, "num_layers": 4, "attention_heads": 4, "ffn_dim": 48, "max_position_embeddings": 12}
# Name of a test -> family, class, sizes, special tokens, where its layers are, the bound of HF-MAPPING's table.
MODELS = {
    "opt": ("OPT", "OPTForCausalLM", OPT, FAIRSEQ, "model.decoder.layers"),
    "opt-post-norm": ("OPT", "OPTForCausalLM", OPT | {"do_layer_norm_before": False}, FAIRSEQ, "model.decoder.layers"),
    "opt-narrow": ("OPT", "OPTForCausalLM", OPT | {"word_embed_proj_dim": 16}, FAIRSEQ, "model.decoder.layers"),
    "opt-no-norm": (
        "OPT", "OPTForCausalLM", OPT | {"_remove_final_layer_norm": True}, FAIRSEQ, "model.decoder.layers",
    ),
    "gpt2": ("GPT2", "GPT2LMHeadModel", GPT2, {23: "<|endoftext|>"}, "transformer.h"),
    "gpt2-eps": (
        "GPT2", "GPT2LMHeadModel", GPT2 | {"layer_norm_epsilon": 1e-3}, {23: "<|endoftext|>"}, "transformer.h",
    ),
    "biogpt": ("BioGpt", "BioGptForCausalLM", BIO_GPT, FAIRSEQ, "biogpt.layers"),
    "biogpt-unscaled": (
        "BioGpt", "BioGptForCausalLM", BIO_GPT | {"scale_embedding": False}, FAIRSEQ, "biogpt.layers",
    ),
    "xglm": ("XGLM", "XGLMForCausalLM", XGLM, FAIRSEQ, "model.layers"),
    "xglm-untied": ("XGLM", "XGLMForCausalLM", XGLM | {"tie_word_embeddings": False}, FAIRSEQ, "model.layers"),
}  # fmt: skip


def build(name, **more):
    family, kind, sizes, special, layers = MODELS[name]
    config = getattr(transformers(), f"{family}Config")(vocab_size=SYMBOLS, **{**sizes, **more})
    return randomise(getattr(transformers(), kind)(config)), special, layers


def tokens(special):
    """Two texts, each after the token that begins one."""
    first = 2 if 2 in special else 23
    return torch.tensor([[first, 4, 5, 6, 7, 8, 9], [first, 10, 11, 12, 13, 4, 22]])


@torch.no_grad()
def log_probs(model, folder, ids):
    """Of fairseq's model, in the order of the folder's tokens; what it gives to symbols of its own counts too."""
    return in_their_order(folder, model(fairseq_ids(folder, ids))[0].log_softmax(-1))


class TestLogits:
    @pytest.mark.parametrize("name", MODELS)
    def test_whole_and_pruned(self, tmp_path, name):
        theirs, special, layers = build(name)
        folder, ids = save(theirs, tmp_path / "hf", special), tokens(special)
        ours, told = imported(folder, tmp_path / "out")
        assert ("of stock fairseq" in told) == (name != "gpt2-eps")
        with torch.no_grad():
            expected = theirs(ids).logits
            logits = in_their_order(folder, ours(fairseq_ids(folder, ids))[0])
        close(logits, expected, within=1e-6 if "biogpt" in name else 2e-6)
        close(log_probs(ours, folder, ids), expected.log_softmax(-1))

        small, _ = load(tmp_path / "out/checkpoint.pt", tmp_path / "out", prune_layers="keep:0,2")
        path, _, last = layers.rpartition(".")
        kept = torch.nn.ModuleList(theirs.get_submodule(layers)[layer] for layer in (0, 2))
        setattr(theirs.get_submodule(path), last, kept)
        with torch.no_grad():
            expected = theirs(ids, use_cache=False).logits
        close(log_probs(small, folder, ids), expected.log_softmax(-1))
        assert (expected - logits).abs().max() > 0.01

    def test_step_by_step(self, tmp_path):
        """Decoding with a cache, as generation does it."""
        theirs, special, _ = build("opt")
        folder, ids = save(theirs, tmp_path / "hf", special), tokens(special)
        ours, _ = imported(folder, tmp_path / "out")
        numbers, state = fairseq_ids(folder, ids), {}
        with torch.no_grad():
            steps = [
                ours.decoder(numbers[:, : step + 1], incremental_state=state)[0] for step in range(numbers.shape[1])
            ]
            expected = theirs(ids).logits
        close(in_their_order(folder, torch.cat(steps, dim=1)), expected)


class TestSymbols:
    def test_never_predicted(self):
        torch.manual_seed(0)
        weight, bias = torch.rand(64) + 0.5, torch.randn(64)
        states = torch.nn.functional.layer_norm(torch.randn(100, 64), (64,), weight, bias)
        logits = states @ never_predicted(weight, bias)
        torch.testing.assert_close(logits, torch.full((100,), -1e3), rtol=0, atol=0.1)

    @pytest.mark.parametrize(
        "weight, bias", [((1.0, 1.0), (0.0, 0.0)), ((1.0, 0.0), (1.0, 1.0)), ((1.0, 1.0), (1.0, -1.0))]
    )
    def test_without_such_a_row(self, weight, bias):
        assert never_predicted(torch.tensor(weight), torch.tensor(bias)) is None

    def test_gpt2_that_has_none(self, tmp_path):
        theirs, special, _ = build("gpt2")
        theirs.transformer.ln_f.bias.data.zero_()
        folder = save(theirs, tmp_path / "hf", special)
        assert "have the logit 0" in imported(folder, tmp_path / "out")[1]

    def test_dictionary_of_gpt2(self, tmp_path):
        theirs, special, _ = build("gpt2")
        folder = save(theirs, tmp_path / "hf", special)
        imported(folder, tmp_path / "out")
        words = [line.split()[0] for line in (tmp_path / "out/dict.txt").read_text().splitlines()]
        assert words == [f"w{number}" for number in range(23)]  # the 24th is </s>


class TestRefused:
    @pytest.mark.parametrize(
        "name, more, words",
        [
            ("opt", {"enable_bias": False}, "enable_bias"),
            ("opt", {"activation_function": "silu"}, "activation silu"),
            ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ],
    )
    def test_setting(self, tmp_path, name, more, words):
        theirs, special, _ = build(name, **more)
        folder = save(theirs, tmp_path / "hf", special)
        ends_in_one_line(layerdrop("import", folder, "-o", tmp_path / "out", check=False), words)
        assert not (tmp_path / "out").exists()

    def test_classifier(self, tmp_path):
        config = transformers().GPT2Config(vocab_size=SYMBOLS, **GPT2)
        folder = save(transformers().GPT2ForSequenceClassification(config), tmp_path / "hf", {23: "<|endoftext|>"})
        done = layerdrop("import", folder, "-o", tmp_path / "out", check=False)
        ends_in_one_line(done, "no place for the head of a GPT2ForSequenceClassification")
