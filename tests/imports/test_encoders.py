"""Encoders of transformers, imported: their logits, whole and pruned."""

import pytest
import torch

from tests.commands import ends_in_one_line, layerdrop
from tests.imports.folders import (
    BERT,
    NEEDS_TRANSFORMERS,
    ROBERTA,
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

SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
DISTIL = {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48}
# Family -> sizes, special tokens, where its layers are.
FAMILIES = {
    "Bert": (SIZES | {"max_position_embeddings": 12, "type_vocab_size": 2}, BERT, "bert.encoder.layer"),
    "DistilBert": (DISTIL | {"max_position_embeddings": 12}, BERT, "distilbert.transformer.layer"),
    **{
        name: (SIZES | {"max_position_embeddings": 14, "pad_token_id": 1, "layer_norm_eps": eps}, ROBERTA, layers)
        for name, eps, layers in (
            ("Roberta", 1e-5, "roberta.encoder.layer"),
            ("XLMRoberta", 1e-5, "roberta.encoder.layer"),
            ("Camembert", 1e-5, "roberta.encoder.layer"),
            ("RobertaPreLayerNorm", 1e-12, "roberta_prelayernorm.encoder.layer"),
        )
    },
}
KEEP = (0, 2)


def build(family, kind, **more):
    """A model of a family, with random weights, and its special tokens."""
    sizes, special, _ = FAMILIES[family]
    config = getattr(transformers(), f"{family}Config")(vocab_size=SYMBOLS, **{**sizes, **more})
    return randomise(getattr(transformers(), f"{family}{kind}")(config)), special


def tokens(special):
    """A padded batch of one text each, in the numbers of the folder's tokens."""
    first, last, pad, mask, unk = (
        next(number for number, token in special.items() if token in names)
        for names in (("[CLS]", "<s>"), ("[SEP]", "</s>"), ("[PAD]", "<pad>"), ("[MASK]", "<mask>"), ("[UNK]", "<unk>"))
    )
    return torch.tensor([[first, 10, 11, mask, 12, unk, last], [first, 13, 14, 10, last, pad, pad]]), pad


@torch.no_grad()
def their_logits(model, special):
    ids, pad = tokens(special)
    return model(ids, attention_mask=ids.ne(pad).long()).logits


def delete_layers(model, family):
    """*model* with the layers in KEEP alone, in place."""
    path = FAMILIES[family][2]
    stack = model.get_submodule(path.rpartition(".")[0])
    setattr(stack, path.rpartition(".")[2], torch.nn.ModuleList(model.get_submodule(path)[layer] for layer in KEEP))
    return model


class TestLogits:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_masked_language_model(self, tmp_path, family):
        theirs, special = build(family, "ForMaskedLM")
        folder = save(theirs, tmp_path / "hf", special)
        ours, told = imported(folder, tmp_path / "out")
        ids, pad = tokens(special)
        real = ids.ne(pad)
        with torch.no_grad():
            logits = in_their_order(folder, ours(fairseq_ids(folder, ids))[0])
        close(logits[real], their_logits(theirs, special)[real])
        own = family in ("Bert", "DistilBert", "RobertaPreLayerNorm")
        assert ("architecture layerdrop_roberta, whose layer norms have its eps, 1e-12" in told) == own
        assert ("architecture roberta, of stock fairseq" in told) != own

        small, _ = load(tmp_path / "out/checkpoint.pt", tmp_path / "out", prune_layers="keep:0,2")
        with torch.no_grad():
            pruned = in_their_order(folder, small(fairseq_ids(folder, ids))[0])
        close(pruned[real], their_logits(delete_layers(theirs, family), special)[real])
        assert (pruned - logits)[real].abs().max() > 0.1

    @pytest.mark.parametrize("family", FAMILIES)
    def test_classifier(self, tmp_path, family):
        labels = {0: "bad", 1: "good", 2: "no idea"}
        theirs, special = build(family, "ForSequenceClassification", id2label=labels)
        folder = save(theirs, tmp_path / "hf", special)
        ours, told = imported(folder, tmp_path / "out")
        assert "--task layerdrop_sentence_prediction" in told and "--num-classes 3" in told
        ids, _ = tokens(special)
        with torch.no_grad():
            logits = ours(fairseq_ids(folder, ids), classification_head_name="sentence_classification_head")[0]
        close(logits, their_logits(theirs, special))
        assert (tmp_path / "out/label/dict.txt").read_text() == "bad 1\ngood 1\nno_idea 1\n"

    @pytest.mark.parametrize("activation", ["relu", "gelu_new"])
    def test_other_activations(self, tmp_path, activation):
        theirs, special = build("Bert", "ForMaskedLM", hidden_act=activation)
        folder = save(theirs, tmp_path / "hf", special)
        ours, _ = imported(folder, tmp_path / "out")
        ids, pad = tokens(special)
        with torch.no_grad():
            logits = in_their_order(folder, ours(fairseq_ids(folder, ids))[0])
        close(logits[ids.ne(pad)], their_logits(theirs, special)[ids.ne(pad)])

    def test_without_a_head(self, tmp_path):
        theirs, special = build("Bert", "Model")
        folder = save(theirs, tmp_path / "hf", special)
        ours, told = imported(folder, tmp_path / "out")
        assert "no head of a masked language model" in told
        ids, pad = tokens(special)
        with torch.no_grad():
            features = ours(fairseq_ids(folder, ids), features_only=True)[0]
            expected = theirs(ids, attention_mask=ids.ne(pad).long()).last_hidden_state
        close(features[ids.ne(pad)], expected[ids.ne(pad)])

    def test_untied_output(self, tmp_path):
        theirs, special = build("Roberta", "ForMaskedLM", tie_word_embeddings=False)
        folder = save(theirs, tmp_path / "hf", special)
        ours, _ = imported(folder, tmp_path / "out")
        ids, pad = tokens(special)
        with torch.no_grad():
            logits = ours(ids)[0]
        close(logits[ids.ne(pad)], their_logits(theirs, special)[ids.ne(pad)])


class TestEps:
    def test_it_matters(self, tmp_path):
        """With fairseq's eps the model is another one; ours keeps the folder's, also exported and in pieces."""
        theirs, special = build("Bert", "ForMaskedLM")
        for name, parameter in theirs.named_parameters():
            if "word_emb" in name or "position_emb" in name or "token_type_emb" in name:
                parameter.data *= 0.02  # so that the variance of a position is of the size of an eps
        folder = save(theirs, tmp_path / "hf", special)
        ours, _ = imported(folder, tmp_path / "out")
        ids, pad = tokens(special)
        real, numbers = ids.ne(pad), fairseq_ids(folder, ids)
        expected = their_logits(theirs, special)[real]
        with torch.no_grad():
            close(in_their_order(folder, ours(numbers)[0])[real], expected, within=2e-5)
            others, _ = load(tmp_path / "out/checkpoint.pt", tmp_path / "out", layer_norm_eps=1e-5)
            assert (in_their_order(folder, others(numbers)[0])[real] - expected).abs().max() > 1e-3
        for spec in ("keep:0,2", "drop:1.ffn"):
            small = tmp_path / "small.pt"
            layerdrop("export", tmp_path / "out/checkpoint.pt", "--prune-layers", spec, "-o", small, "--force")
            exported, _ = load(small, tmp_path / "out")
            pruned, _ = load(tmp_path / "out/checkpoint.pt", tmp_path / "out", prune_layers=spec)
            with torch.no_grad():
                assert torch.equal(exported(numbers)[0], pruned(numbers)[0])
            assert exported.encoder.lm_head.layer_norm.eps == 1e-12


class TestDictionary:
    def test_of_bert(self, tmp_path):
        theirs, special = build("Bert", "ForMaskedLM")
        folder = save(theirs, tmp_path / "hf", special)
        _, _ = imported(folder, tmp_path / "out")
        words = [line.split()[0] for line in (tmp_path / "out/dict.txt").read_text().splitlines()]
        assert words == ["w1", "w2", "w3", "w4", "<mask>", *(f"w{number}" for number in range(9, SYMBOLS))]
        assert (tmp_path / "out/tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


class TestRefused:
    @pytest.mark.parametrize(
        "kind, more, words",
        [
            ("ForTokenClassification", {}, ("no place for the head of a BertForTokenClassification",)),
            ("ForMaskedLM", {"hidden_act": "silu"}, ("activation silu",)),
            ("LMHeadModel", {"is_decoder": True}, ("is_decoder",)),
        ],
    )
    def test_bert(self, tmp_path, kind, more, words):
        theirs, special = build("Bert", kind, **more)
        folder = save(theirs, tmp_path / "hf", special)
        ends_in_one_line(layerdrop("import", folder, "-o", tmp_path / "out", check=False), *words)
        assert not (tmp_path / "out").exists()

    def test_gelu_of_a_head(self, tmp_path):
        theirs, special = build("Roberta", "ForMaskedLM", hidden_act="relu")
        folder = save(theirs, tmp_path / "hf", special)
        done = layerdrop("import", folder, "-o", tmp_path / "out", check=False)
        ends_in_one_line(done, "layers with relu (hidden_act)")
