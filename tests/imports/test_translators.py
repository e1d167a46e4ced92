"""Encoder-decoder models of transformers, imported: their logits, whole and pruned."""

import json

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from fairseq_layerdrop.imports.tokens import read_vocabulary
from fairseq_layerdrop.imports.translators import marian_positions
from tests.commands import ends_in_one_line, layerdrop
from tests.imports.folders import NEEDS_TRANSFORMERS, SYMBOLS, close, imported, randomise, save, transformers
from tests.models.test_layerdrop_models import dictionary
from tests.outputs import load

pytestmark = NEEDS_TRANSFORMERS

FAIRSEQ = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>"}
MARIAN = {0: "</s>", 1: "<unk>", SYMBOLS - 1: "<pad>"}
PEGASUS = {0: "<pad>", 1: "</s>", 2: "<mask_1>", 3: "<unk>"}
BLENDERBOT = {0: "<pad>", 1: "<s>", 2: "</s>", 3: "<unk>"}
SIZES = {
    "d_model": 32, "encoder_layers": 4, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "max_position_embeddings": 12,
}  # fmt: skip
OF_MARIAN = {"pad_token_id": SYMBOLS - 1, "eos_token_id": 0, "decoder_start_token_id": SYMBOLS - 1}
OF_FSMT = {"src_vocab_size": SYMBOLS, "tgt_vocab_size": 20, "langs": ["en", "de"]}
# Name of a test -> class, settings, special tokens, whether fairseq's own architecture is enough.
MODELS = {
    "bart": ("BartForConditionalGeneration", {}, FAIRSEQ, True),
    "bart-scaled": (
        "BartForConditionalGeneration", {"scale_embedding": True, "activation_function": "relu"}, FAIRSEQ, True,
    ),
    "mbart": ("MBartForConditionalGeneration", {"decoder_start_token_id": 2}, FAIRSEQ, True),
    "mbart-untied": (
        "MBartForConditionalGeneration", {"tie_word_embeddings": False, "decoder_start_token_id": 2}, FAIRSEQ, True,
    ),
    "marian": ("MarianMTModel", OF_MARIAN, MARIAN, False),
    "m2m100": ("M2M100ForConditionalGeneration", {}, FAIRSEQ, True),
    "pegasus": (
        "PegasusForConditionalGeneration", {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
        PEGASUS, False,
    ),
    "blenderbot": (
        "BlenderbotForConditionalGeneration",
        {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}, BLENDERBOT, True,
    ),
    "fsmt": ("FSMTForConditionalGeneration", OF_FSMT, FAIRSEQ, True),
}  # fmt: skip


def build(name, **more):
    kind, settings, special, _ = MODELS[name]
    vocabulary = {} if name == "fsmt" else {"vocab_size": SYMBOLS}
    cls = getattr(transformers(), kind)
    config = cls.config_class(**{**vocabulary, **SIZES, **settings, **more})
    return randomise(cls(config)), special


def written(name, folder, **more):
    """The folder of a model, the model and its special tokens."""
    model, special = build(name, **more)
    if name == "marian":
        torch.nn.init.normal_(model.final_logits_bias)
    save(model, folder, special)
    if name == "fsmt":
        for side, size in (("src", SYMBOLS), ("tgt", 20)):
            tokens = {FAIRSEQ.get(number, f"{side}{number}"): number for number in range(size)}
            (folder / f"vocab-{side}.json").write_text(json.dumps(tokens))
        (folder / "tokenizer.json").unlink()
    return folder, model, special


def vocabularies(name, folder):
    config = json.loads((folder / "config.json").read_text())
    if name == "fsmt":
        return [
            read_vocabulary(folder, config, size, f"vocab-{side}.json") for side, size in (("src", 24), ("tgt", 20))
        ]
    return [read_vocabulary(folder, config, SYMBOLS)] * 2


def batch(model, special):
    """Two padded sources and the beginnings of their targets, in the numbers of the folder's tokens."""
    eos, pad = (next(number for number, token in special.items() if token == name) for name in ("</s>", "<pad>"))
    start = model.config.decoder_start_token_id
    source = torch.tensor([[5, 6, 7, 8, 9, eos], [10, 11, 12, eos, pad, pad]])
    return source, source.ne(pad), torch.tensor([[start, 5, 9, 12, 7], [start, 10, 11, 6, 8]]), start


@torch.no_grad()
def their_logits(model, special):
    source, real, target, _ = batch(model, special)
    return model(
        input_ids=source, attention_mask=real.long(), decoder_input_ids=target, use_cache=False
    ).logits  # fmt: skip


@torch.no_grad()
def our_logits(ours, model, special, name, folder, log_probs=False):
    source, real, target, start = batch(model, special)
    of_source, of_target = vocabularies(name, folder)
    source = torch.tensor([[of_source.order.index(number) for number in row] for row in source.tolist()])
    target = torch.tensor(
        [[2 if number == start else of_target.order.index(number) for number in row] for row in target.tolist()]
    )
    logits = ours(source, real.sum(1), target)[0]
    logits = logits.log_softmax(-1) if log_probs else logits
    size = max(number for number in of_target.order if number is not None) + 1
    return logits[..., [of_target.order.index(number) for number in range(size)]]


def without_layers(model, **kept):
    base = model.model
    for stack, layers in kept.items():
        module = getattr(base, stack)
        module.layers = torch.nn.ModuleList(module.layers[layer] for layer in layers)
    return model


class TestLogits:
    @pytest.mark.parametrize("name", MODELS)
    def test_whole_and_pruned(self, tmp_path, name):
        folder, theirs, special = written(name, tmp_path / "hf")
        ours, told = imported(folder, tmp_path / "out")
        assert ("architecture transformer, of stock fairseq" in told) == MODELS[name][3]
        expected = their_logits(theirs, special)
        logits = our_logits(ours, theirs, special, name, folder)
        close(logits, expected)
        close(our_logits(ours, theirs, special, name, folder, log_probs=True), expected.log_softmax(-1), within=3e-6)

        spec = "encoder=keep:0,3/decoder=keep:1,2"
        small, _ = load(tmp_path / "out/checkpoint.pt", tmp_path / "out", prune_layers=spec)
        expected = their_logits(without_layers(theirs, encoder=(0, 3), decoder=(1, 2)), special)
        pruned = our_logits(small, theirs, special, name, folder, log_probs=True)
        close(pruned, expected.log_softmax(-1), within=3e-6)
        assert (our_logits(small, theirs, special, name, folder) - logits).abs().max() > 0.01

    def test_exported_with_its_bias(self, tmp_path):
        folder, theirs, special = written("marian", tmp_path / "hf")
        ours, _ = imported(folder, tmp_path / "out")
        layerdrop("export", tmp_path / "out/checkpoint.pt", "-o", tmp_path / "again.pt")
        again, _ = load(tmp_path / "again.pt", tmp_path / "out")
        expected = our_logits(ours, theirs, special, "marian", folder)
        assert torch.equal(our_logits(again, theirs, special, "marian", folder), expected)
        assert again.decoder.output_projection.bias.abs().max() == 1e4  # of <s>, which a Marian hasn't got

    @pytest.mark.parametrize("name", ["marian", "bart", "m2m100"])
    def test_generates_the_same(self, tmp_path, name):
        """Beam search of fairseq and of transformers."""
        folder, theirs, special = written(name, tmp_path / "hf")
        ours, _ = imported(folder, tmp_path / "out")
        of_source, of_target = vocabularies(name, folder)
        start = theirs.config.decoder_start_token_id
        eos, pad = (next(number for number, token in special.items() if token == end) for end in ("</s>", "<pad>"))
        never = [[number] for number in {pad, start} - {eos}]  # fairseq never predicts them
        equal = 0
        for row in range(20):
            torch.manual_seed(row)
            text = torch.cat([torch.randint(4, SYMBOLS - 1, (4 + row % 5,)), torch.tensor([eos])])
            found = theirs.generate(
                input_ids=text[None], attention_mask=torch.ones_like(text)[None], num_beams=4, early_stopping=True,
                min_new_tokens=2, max_new_tokens=9, length_penalty=1.0, forced_eos_token_id=eos, bad_words_ids=never,
            )[0].tolist()  # fmt: skip
            numbers = torch.tensor([[of_source.order.index(number) for number in text.tolist()]])
            sample = {"net_input": {"src_tokens": numbers, "src_lengths": torch.tensor([numbers.shape[1]])}}
            search = SequenceGenerator([ours], dictionary(len(of_target.order)), beam_size=4, max_len_a=0, max_len_b=8)
            best = search.generate([ours], sample)[0][0]["tokens"].tolist()
            equal += [of_target.order[number] for number in best] == found[1:]
        assert equal >= 18

    def test_positions_of_marian(self):
        theirs, _ = build("marian")
        torch.testing.assert_close(
            marian_positions(12, 32), theirs.model.encoder.embed_positions.create_weight(), rtol=0, atol=1e-7
        )


class TestFiles:
    def test_languages(self, tmp_path):
        folder, _, _ = written("marian", tmp_path / "hf")
        (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "de"}))
        _, told = imported(folder, tmp_path / "out")
        assert "--source-lang en --target-lang de" in told
        assert (tmp_path / "out/dict.en.txt").read_text() == (tmp_path / "out/dict.de.txt").read_text()

    def test_two_vocabularies(self, tmp_path):
        folder, _, _ = written("fsmt", tmp_path / "hf")
        imported(folder, tmp_path / "out")
        counts = [len((tmp_path / f"out/dict.{side}.txt").read_text().splitlines()) for side in ("source", "target")]
        assert counts == [20, 16]  # and fairseq's four


@pytest.mark.parametrize(
    "more, words",
    [
        ({"activation_function": "silu"}, "activation silu"),
        ({"architectures": ["BartForSequenceClassification"]}, "no place for the head of a BartForSequenceCl"),
        ({"encoder_ffn_dim": 47}, "encoder.layers.0.fc1.weight"),
    ],
)
def test_refused(tmp_path, more, words):
    folder, _, _ = written("bart", tmp_path / "hf")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    ends_in_one_line(layerdrop("import", folder, "-o", tmp_path / "out", check=False), words)
    assert not (tmp_path / "out").exists()
