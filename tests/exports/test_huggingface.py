"""Pruned RoBERTas in transformers: their logits, labels and tokens are fairseq's."""

import functools
import importlib.util
import json
import os
import random
import re
import resource
import shutil
import sys
from argparse import Namespace

import pytest
import sentencepiece
import torch
from fairseq.data import Dictionary
from fairseq.data.encoders.gpt2_bpe import GPT2BPE
from fairseq.data.encoders.gpt2_bpe_utils import bytes_to_unicode
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.corpora.subwords import train_bpe
from fairseq_layerdrop.exports.roberta_weights import transformers_state_dict
from tests.commands import ROOT, ends_in_one_line, layerdrop
from tests.models.test_layerdrop_models import build, settings
from tests.models.test_layerdrop_models import tiny_settings as transformer_settings
from tests.surgery.test_build import old_attention

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers: pip install 'fairseq-layerdrop[test]'"
)

REAL = ROOT.parent / "shared/data/wikitext-2/test.txt"
ARCH = "layerdrop_roberta_tiny"
WORDS = ["hello", "world", "wörld", ",", "▁a", "🙂", "3", "hello,"]
# A padded batch, with a mask; <s> 0, <pad> 1, </s> 2, <unk> 3, the words, <mask> 12.
TOKENS = torch.tensor([[0, 5, 6, 12, 11, 4, 2], [0, 8, 3, 12, 2, 1, 1], [0, 7, 2, 1, 1, 1, 1]])
PRUNE = ("--prune-layers", "keep:0,2")
PRE_NORM = {"encoder_normalize_before": True, "layernorm_embedding": True}


@functools.cache
def transformers():
    """The library, without torchaudio, which it imports wherever there is one, also of another build than torch's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setitem(sys.modules, "torchaudio", None)
        library = importlib.import_module("transformers")
        library.utils.import_utils.is_torchaudio_available.cache_clear()  # ctranslate2 may have imported it
        assert library.RobertaForMaskedLM
    return library


def write_dictionary(path, symbols):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{symbol} {9 - number % 9}\n" for number, symbol in enumerate(symbols)), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The dictionaries of a folder of data, of a masked language model and of a classifier."""
    folder = tmp_path_factory.mktemp("data")
    write_dictionary(folder / "dict.txt", WORDS)
    write_dictionary(folder / "input0" / "dict.txt", WORDS)
    write_dictionary(folder / "label" / "dict.txt", ["short", "long", "madeupword0000"])
    return folder


def roberta(symbols=13, heads=(), **given):
    """A RoBERTa of 4 layers, by default for WORDS, with weights large enough for its logits to tell everything."""
    cfg = settings(
        ARCH, encoder_layers=4, encoder_embed_dim=32, encoder_attention_heads=4,
        encoder_ffn_embed_dim=48, max_positions=9, **given,
    )  # fmt: skip
    model = build(cfg, ARCH, symbols)
    for head in heads:
        model.register_classification_head(head, num_classes=2)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.3)
    return model.eval()


def save(model, path, state=None, task="masked_lm", arch=ARCH, **more):
    named = Namespace(**{**vars(model.args), "arch": arch, "_name": arch})
    cfg = {"model": named, "task": {"_name": task, **more}}
    torch.save({"args": None, "cfg": cfg, "model": state or model.state_dict()}, path)
    return path


@torch.no_grad()
def fairseq_logits(model, head=None, layers=(0, 2)):
    """The logits of some of the model's *layers*, `B x T x symbols` or of a head `B x classes`."""
    stack = model.encoder.sentence_encoder
    whole, stack.layers = stack.layers, torch.nn.ModuleList(stack.layers[layer] for layer in layers)
    logits = model(TOKENS, classification_head_name=head)[0]
    stack.layers = whole
    return logits


@torch.no_grad()
def logits_in_transformers(kind, folder):
    model, report = getattr(transformers(), kind).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()(TOKENS, attention_mask=TOKENS.ne(1)).logits


def export(checkpoint, out, *flags, **kwargs):
    return layerdrop("export", checkpoint, "-o", out, "--format", "huggingface", *flags, **kwargs)


def same(logits, expected):
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


class TestLogits:
    @pytest.mark.parametrize("given", [{}, {"untie_weights_roberta": True}, PRE_NORM])
    def test_masked_language_model(self, data, tmp_path, given):
        model = roberta(**given)
        done = export(save(model, tmp_path / "roberta.pt"), tmp_path / "hf", *PRUNE, "--data", data)
        kind = "RobertaPreLayerNormForMaskedLM" if given is PRE_NORM else "RobertaForMaskedLM"
        assert f"encoder 2 of 4 layers (0,2); architecture {kind}" in done.stdout
        config = json.loads((tmp_path / "hf" / "config.json").read_text())
        assert config["architectures"] == [kind] and config["num_hidden_layers"] == 2
        words = TOKENS.ne(1)
        logits = logits_in_transformers(kind, tmp_path / "hf")[words]
        same(logits, fairseq_logits(model)[words])
        assert (logits - fairseq_logits(model, layers=range(4))[words]).abs().max() > 0.1
        auto = transformers().AutoModelForMaskedLM.from_pretrained(tmp_path / "hf")
        assert type(auto).__name__ == kind

    @pytest.mark.parametrize("given", [{}, {"activation_fn": "relu"}, {"activation_fn": "gelu_accurate"}, PRE_NORM])
    def test_classifier(self, data, tmp_path, given):
        model = roberta(heads=["length"], **given)
        checkpoint = save(model, tmp_path / "roberta.pt", None, "sentence_prediction", data=str(data), init_token=0)
        export(checkpoint, tmp_path / "hf", *PRUNE)
        kind = f"Roberta{'PreLayerNorm' if given is PRE_NORM else ''}ForSequenceClassification"
        same(logits_in_transformers(kind, tmp_path / "hf"), fairseq_logits(model, "length"))
        config = transformers().AutoConfig.from_pretrained(tmp_path / "hf")
        assert config.id2label == {0: "short", 1: "long"} and config.label2id == {"short": 0, "long": 1}
        assert config.problem_type == "single_label_classification"

    def test_chosen_head_of_a_regression(self, data, tmp_path):
        model = roberta(heads=["one", "other"])
        checkpoint = save(model, tmp_path / "roberta.pt", None, "sentence_prediction", regression_target=True)
        export(checkpoint, tmp_path / "hf", *PRUNE, "--data", data, "--classification-head-name", "other")
        logits = logits_in_transformers("RobertaForSequenceClassification", tmp_path / "hf")
        same(logits, fairseq_logits(model, "other"))
        assert transformers().AutoConfig.from_pretrained(tmp_path / "hf").problem_type == "regression"

    def test_old_names_in_half_precision(self, data, tmp_path):
        model = roberta()
        old = old_attention({key: tensor.half() for key, tensor in model.state_dict().items()})
        old = {key.replace("layernorm_embedding", "emb_layer_norm"): tensor for key, tensor in old.items()}
        old = {key.replace("encoder.", "decoder.", 1): tensor for key, tensor in old.items()}
        export(save(model, tmp_path / "old.pt", old), tmp_path / "hf", *PRUNE, "--data", data)
        words = TOKENS.ne(1)
        logits = logits_in_transformers("RobertaForMaskedLM", tmp_path / "hf")
        same(logits[words], fairseq_logits(model.half().float())[words])


class TestStateDict:
    def test_same_tensors_under_other_names(self):
        state = roberta(heads=["length"]).state_dict()
        renamed = transformers_state_dict(state, "length")
        assert renamed["classifier.dense.weight"] is state["classification_heads.length.dense.weight"]
        assert not renamed["roberta.embeddings.token_type_embeddings.weight"].any()
        # without the head of the masked language model (6 tensors) and `version`, with the types of tokens
        assert len(renamed) == len(state) - 6 - 1 + 1

    def test_unknown_key(self):
        with pytest.raises(UserError, match=r"no place for encoder\.sentence_encoder\.quant_noise\.weight"):
            transformers_state_dict({"encoder.sentence_encoder.quant_noise.weight": torch.ones(1)})


def fairseq_ids(folder, bpe, text):
    """As RobertaHubInterface.encode and fill_mask have it."""
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    dictionary.add_symbol("<mask>")
    cut = " <mask> ".join(bpe(part.rstrip() if "<mask>" in text else part) for part in text.split("<mask>"))
    return dictionary.encode_line(f"<s> {cut} </s>", append_eos=False, add_if_not_exist=False).tolist()


def tokenizer_for(folder, symbols, *flags):
    """The tokenizer that is exported with a model of this dictionary."""
    write_dictionary(folder / "dict.txt", symbols)
    checkpoint = save(roberta(len(symbols) + 5), folder / "roberta.pt")
    export(checkpoint, folder / "hf", *PRUNE, "--data", folder, *flags)
    tokenizer = transformers().AutoTokenizer.from_pretrained(folder / "hf")
    assert [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id] == [
        *range(4)
    ]
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (0, 2)
    assert tokenizer.mask_token_id == len(symbols) + 4 and tokenizer.model_max_length == 9
    return tokenizer


TEXTS = (
    "hello world",
    "the <unk> of hello<unk>wörld <s> a </s> b<pad> [MASK] <mask> , <unk>",
    "<unk>",
    "<s><s> hello </s>",
    " <unk> (<mask><mask>) = = =  <mask>  world",
    "  Hello   wörld, it's 3 o'clock\tand\u00a0all\u3000is 🙂 well…\n",
    "hello <mask> world",
    "ﬁne ① xhellox 漢字 ▁a",
    "",
)


class TestTokenizers:
    def check(self, tokenizer, folder, bpe, texts=TEXTS):
        expected = [fairseq_ids(folder, bpe, text) for text in texts]
        assert [tokenizer(text)["input_ids"] for text in texts] == expected
        batch = tokenizer(list(texts), padding=True, return_tensors="pt")
        assert torch.equal(batch["attention_mask"].bool(), batch["input_ids"].ne(1))
        assert len({number for ids in expected for number in ids}) > 8

    def test_words(self, tmp_path):
        tokenizer = tokenizer_for(tmp_path, [*WORDS, "wörld,"])
        spaces = "".join(chr(number) for number in range(0x3001) if chr(number).isspace())
        texts = [*TEXTS, spaces.join(["", "hello", "world", ""]), *(f"hello{space}world" for space in spaces)]
        self.check(tokenizer, tmp_path, str, texts)
        assert dict(tokenizer("hello", "world")) == {"input_ids": [0, 4, 2, 2, 5, 2], "attention_mask": [1] * 6}

    def gpt2(self, folder, merges):
        """Write the files of a byte-level BPE with these merges; gives its pieces' numbers, a dictionary's symbols."""
        pieces = [*bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in merges)]
        (folder / "encoder.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
        (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        return [str(number) for number in range(len(pieces))]

    def test_gpt2(self, tmp_path):
        merges = ["l l", "h e", "he ll", "hell o", "Ġ w", "Ġw o", "r l", "rl d", "Ġwo rld", "Ã ¶", "Ġ hello", "< m"]
        symbols = [*self.gpt2(tmp_path, merges), "madeupword0000"]
        random.Random(1).shuffle(symbols)
        tokenizer = tokenizer_for(tmp_path, symbols, "--gpt2-bpe", tmp_path)
        bpe = GPT2BPE(
            Namespace(gpt2_encoder_json=str(tmp_path / "encoder.json"), gpt2_vocab_bpe=str(tmp_path / "vocab.bpe"))
        )
        self.check(tokenizer, tmp_path, bpe.encode)
        for text in TEXTS:
            without = re.sub(r"\s*<mask>", "", text)
            assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == without
        write_dictionary(tmp_path / "dict.txt", [symbol if symbol != "5" else "other" for symbol in symbols])
        done = export(tmp_path / "roberta.pt", tmp_path / "x", "--data", tmp_path, "--gpt2-bpe", tmp_path, check=False)
        ends_in_one_line(done, "it lacks 1 pieces", "--srcdict")

    def test_gpt2_with_a_piece_that_its_merges_do_not_make(self, tmp_path):
        symbols = self.gpt2(tmp_path, ["Ġ w", "Ġw o", "Ġwo r", "l d", "r ld", "Ġwo rld"])
        write_dictionary(tmp_path / "dict.txt", symbols)
        checkpoint = save(roberta(len(symbols) + 5), tmp_path / "roberta.pt")
        done = export(checkpoint, tmp_path / "hf", "--data", tmp_path, "--gpt2-bpe", tmp_path, check=False)
        ends_in_one_line(done, "don't make the piece 'Ġworld'")

    @pytest.mark.skipif(not REAL.is_file(), reason="WikiText-2 is not here")
    def test_real_text(self, tmp_path):
        """Most lines of WikiText-2 have <unk> in them."""
        lines = [line for line in REAL.read_text(encoding="utf-8").split("\n") if line.strip()]
        model = train_bpe(lambda: lines[:1500], tmp_path / "spm", 800)
        pieces = [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
        tokenizer = tokenizer_for(tmp_path, pieces, "--bpe-model", tmp_path / "spm.model")

        def bpe(text):
            return " ".join(model.encode(text, out_type=str))

        assert sum("<unk>" in line for line in lines) > 1000
        assert tokenizer(lines)["input_ids"] == [fairseq_ids(tmp_path, bpe, line) for line in lines]

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    def test_sentencepiece(self, tmp_path, kind):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS * 20), model_prefix=str(tmp_path / "spm"), model_type=kind, vocab_size=60,
            minloglevel=2, hard_vocab_limit=False,
        )  # fmt: skip
        model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
        pieces = [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
        random.Random(1).shuffle(pieces)
        tokenizer = tokenizer_for(tmp_path, [*pieces[2:], "漢字"], "--bpe-model", tmp_path / "spm.model")
        bpe = SentencepieceBPE(
            Namespace(
                sentencepiece_model=str(tmp_path / "spm.model"),
                sentencepiece_enable_sampling=False,
                sentencepiece_alpha=None,
            )
        )
        self.check(tokenizer, tmp_path, bpe.encode)


class TestRefusals:
    @pytest.mark.parametrize(
        "given, flags, words",
        [
            ({}, ("--prune-layers", "drop:1.ffn"), "drop whole layers"),
            ({}, ("--prune-layers", "drop:1.self_attn.head0"), "drop whole layers"),
            ({}, ("--quantization", "int8"), "--quantization is for --format ctranslate2"),
            ({}, ("--classification-head-name", "topic"), "no classification head 'topic', none"),
            ({}, ("--data", "nowhere"), "no dict.txt in 'nowhere'; give the folder"),
            ({}, ("--gpt2-bpe", "nowhere"), "cannot read nowhere/encoder.json"),
            ({}, ("--bpe-model", __file__), "is not a SentencePiece model"),
            ({"activation_fn": "relu"}, (), "the activation relu, only with gelu"),
            ({"encoder_normalize_before": True, "layernorm_embedding": False}, (), "--layernorm-embedding"),
            ({"encoder_learned_pos": False}, (), "positions that aren't learned"),
            ({"quant_noise_pq": 0.1}, (), "--quant-noise-pq"),
        ],
    )
    def test_masked_language_models(self, data, tmp_path, given, flags, words):
        checkpoint = save(roberta(**given), tmp_path / "roberta.pt")
        done = export(checkpoint, tmp_path / "hf", "--data", data, *flags, check=False)
        ends_in_one_line(done, words)
        assert os.listdir(tmp_path) == ["roberta.pt"]

    @pytest.mark.parametrize(
        "given, task, words",
        [
            ({"heads": ["one", "other"]}, {}, "one of the heads one, other with --classification-head-name"),
            ({"heads": ["one"]}, {"init_token": None}, "train with --init-token 0"),
            ({"heads": ["one"], "pooler_activation_fn": "relu"}, {}, "--pooler-activation-fn relu, only with tanh"),
        ],
    )
    def test_classifiers(self, data, tmp_path, given, task, words):
        checkpoint = save(roberta(**given), tmp_path / "roberta.pt", None, "sentence_prediction", **task)
        ends_in_one_line(export(checkpoint, tmp_path / "hf", "--data", data, check=False), words)

    @pytest.mark.parametrize("separator, right", [(2, True), (None, False)])
    def test_pairs(self, data, tmp_path, separator, right):
        """transformers parts two sentences by two </s>, fairseq by one where it isn't told to."""
        shutil.copytree(data, tmp_path / "data")
        write_dictionary(tmp_path / "data/input1/dict.txt", WORDS)
        model = roberta(heads=["one"])
        checkpoint = save(model, tmp_path / "it.pt", None, "sentence_prediction", separator_token=separator)
        done = export(checkpoint, tmp_path / "hf", "--data", tmp_path / "data", check=False)
        if right:
            assert done.returncode == 0
        else:
            ends_in_one_line(done, "train with --separator-token 2")

    def test_dictionary_of_another_model(self, data, tmp_path):
        checkpoint = save(roberta(20), tmp_path / "roberta.pt")
        done = export(checkpoint, tmp_path / "hf", "--data", data, check=False)
        ends_in_one_line(done, "has 13 symbols, but the model 20")

    def test_translation_without_its_data(self, tmp_path):
        cfg = transformer_settings()
        model = build(cfg)
        model.args = cfg
        checkpoint = save(model, tmp_path / "it.pt", None, "translation", "layerdrop_transformer_tiny")
        done = export(checkpoint, tmp_path / "hf", check=False)
        ends_in_one_line(done, "no binarised data in '' that tells the languages")

    def test_output_that_exists(self, data, tmp_path):
        checkpoint, out = save(roberta(), tmp_path / "roberta.pt"), tmp_path / "hf"
        export(checkpoint, out, *PRUNE, "--data", data)
        ends_in_one_line(export(checkpoint, out, "--data", data, check=False), "exists", "--force")
        export(checkpoint, out, "--data", data, "--force")
        assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 4
        (out / "precious").touch()
        done = export(checkpoint, out, "--data", data, "--force", check=False)
        ends_in_one_line(done, "is not, or not only, an exported model for transformers")
        assert sorted(os.listdir(tmp_path)) == ["hf", "roberta.pt"]

    def test_full_disk(self, data, tmp_path):
        """A limit on the size of files fails as a full disk does."""
        checkpoint, (soft, hard) = save(roberta(), tmp_path / "roberta.pt"), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
        try:
            done = export(checkpoint, tmp_path / "hf", "--data", data, check=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        ends_in_one_line(done, f"cannot write {tmp_path / 'hf'}", "File too large")
        assert os.listdir(tmp_path) == ["roberta.pt"]

    def test_not_installed(self, data, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors", None)
        done = export(save(roberta(), tmp_path / "roberta.pt"), tmp_path / "hf", "--data", data, check=False)
        ends_in_one_line(done, "safetensors isn't installed; pip install 'fairseq-layerdrop[huggingface]'")
