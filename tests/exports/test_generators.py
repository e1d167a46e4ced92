"""Pruned translation and language models in transformers: logits, tokens and what they generate are fairseq's."""

import json
from argparse import Namespace

import pytest
import sentencepiece
import torch
from fairseq.data import Dictionary
from fairseq.sequence_generator import SequenceGenerator

from fairseq_layerdrop.corpora.subwords import train_bpe
from tests.commands import ends_in_one_line, layerdrop
from tests.imports.folders import NEEDS_TRANSFORMERS, transformers
from tests.models.test_layerdrop_models import build, dictionary, settings

pytestmark = NEEDS_TRANSFORMERS

SYMBOLS = 24
SIZES = {
    "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 48, "decoder_ffn_embed_dim": 40, "encoder_attention_heads": 4,
    "decoder_attention_heads": 2, "encoder_layers": 3, "decoder_layers": 3, "max_source_positions": 14,
}  # fmt: skip
PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}
LEARNED = {"encoder_learned_pos": True, "decoder_learned_pos": True}
NORM = {"layernorm_embedding": True}
SHARED = {"share_all_embeddings": True, "share_decoder_input_output_embed": True}
TIED = {"share_decoder_input_output_embed": True}
# Name of a test -> settings, class, whether the model survives save_pretrained, whether it takes sources padded left.
TRANSLATIONS = {
    "post-norm": (SHARED, "FSMTForConditionalGeneration", True, True),
    "post-norm-separate": ({"activation_fn": "gelu"}, "FSMTForConditionalGeneration", True, True),
    "post-norm-learned": (SHARED | LEARNED, "MarianMTModel", False, False),
    "post-norm-learned-separate": (TIED | LEARNED, "MarianMTModel", False, False),
    "pre-norm": (SHARED | PRE_NORM, "M2M100ForConditionalGeneration", True, True),
    "pre-norm-unscaled": (
        SHARED | PRE_NORM | {"no_scale_embedding": True},
        "M2M100ForConditionalGeneration",
        True,
        True,
    ),
    "pre-norm-separate": (PRE_NORM, "M2M100ForConditionalGeneration", True, True),
    "pre-norm-learned": (SHARED | PRE_NORM | LEARNED, "BlenderbotForConditionalGeneration", True, False),
    "bart": (SHARED | NORM | LEARNED, "BartForConditionalGeneration", True, False),
    "bart-sinusoidal": (SHARED | NORM, "BartForConditionalGeneration", True, False),
    "mbart": (SHARED | NORM | LEARNED | PRE_NORM, "MBartForConditionalGeneration", True, False),
}
LANGUAGE_MODELS = {
    "learned": ({"decoder_learned_pos": True} | TIED, "BioGptForCausalLM"),
    "sinusoidal": (TIED, "BioGptForCausalLM"),
    "own-output": ({"activation_fn": "gelu"}, "BioGptForCausalLM"),
    "post-norm": (TIED | {"decoder_normalize_before": False}, "OPTForCausalLM"),
    "no-last-norm": ({"no_decoder_final_norm": True}, "OPTForCausalLM"),
}
SOURCE = torch.tensor([[4, 5, 6, 7, 2], [8, 9, 2, 1, 1]])
TARGET = torch.tensor([[2, 10, 11, 12], [2, 13, 14, 15]])


def random_model(arch, given):
    cfg = settings(arch, **{name: value for name, value in given.items() if name != "max_target_positions"})
    cfg.arch = cfg._name = arch
    for name, value in given.items():  # some architectures know better
        setattr(cfg, name, value)
    model = build(cfg, arch, SYMBOLS)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.1)
    return model.eval(), cfg


def save(folder, model, cfg, task, **more):
    """A checkpoint, and the folder of its dictionaries."""
    for name in ("dict.a.txt", "dict.b.txt", "dict.txt"):
        dictionary(SYMBOLS).save(str(folder / name))
    state = {"args": None, "cfg": {"model": Namespace(**vars(cfg)), "task": {"_name": task, **more}}}
    torch.save({**state, "model": model.state_dict()}, folder / "model.pt")
    return folder / "model.pt"


def translation(folder, name):
    given = {**SIZES, "max_target_positions": 14, "dropout": 0.0, **TRANSLATIONS[name][0]}
    model, cfg = random_model("layerdrop_transformer", given)
    return model, save(folder, model, cfg, "translation", source_lang="a", target_lang="b", data=str(folder))


def exported(checkpoint, out, *flags, **kwargs):
    return layerdrop("export", checkpoint, "--format", "huggingface", "-o", out, *flags, **kwargs)


def loaded(kind, folder, again=False):
    model, report = getattr(transformers(), kind).from_pretrained(folder, output_loading_info=True)
    tables = {f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")} if "FSMT" in kind else set()
    tables = set() if again else tables
    assert set(report.pop("missing_keys")) == tables  # which it makes
    assert not any(report.values()), report
    return model.eval()


def same(logits, expected, within=2e-6):
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=within)


def keep(model, **kept):
    for stack, layers in kept.items():
        module = getattr(model, stack)
        module.layers = torch.nn.ModuleList(module.layers[layer] for layer in layers)
    return model


@torch.no_grad()
def translated(model, source=SOURCE):
    mask = source.ne(1).long()
    return model(input_ids=source, attention_mask=mask, decoder_input_ids=TARGET, use_cache=False).logits


class TestTranslations:
    @pytest.mark.parametrize("name", TRANSLATIONS)
    def test_logits(self, tmp_path, name):
        _, kind, survives, pads_left = TRANSLATIONS[name]
        model, checkpoint = translation(tmp_path, name)
        done = exported(checkpoint, tmp_path / "hf", "--prune-layers", "encoder=keep:0,2/decoder=keep:1,2")
        assert f"architecture {kind}" in done.stdout and ("loses its table" in done.stdout) != survives
        keep(model, encoder=(0, 2), decoder=(1, 2))
        theirs = loaded(kind, tmp_path / "hf")
        with torch.no_grad():
            expected = model(SOURCE, SOURCE.ne(1).sum(1), TARGET)[0]
        same(translated(theirs), expected)
        if pads_left:
            same(translated(theirs, torch.tensor([[4, 5, 6, 7, 2], [1, 1, 8, 9, 2]])), expected)
        if survives:
            theirs.save_pretrained(tmp_path / "again")
            same(translated(loaded(kind, tmp_path / "again", again=True)), expected)

    @pytest.mark.parametrize("name", ["post-norm", "pre-norm", "bart"])
    def test_generates_what_fairseq_does(self, tmp_path, name):
        model, checkpoint = translation(tmp_path, name)
        exported(checkpoint, tmp_path / "hf")
        theirs = loaded(TRANSLATIONS[name][1], tmp_path / "hf")
        assert theirs.generation_config.num_beams == 5 and theirs.generation_config.max_new_tokens == 14
        search = SequenceGenerator([model], dictionary(SYMBOLS), beam_size=5, max_len_a=0, max_len_b=200)
        torch.manual_seed(0)
        sources = [torch.cat([torch.randint(4, SYMBOLS, (length,)), torch.tensor([2])]) for length in [3, 5, 7, 9] * 5]
        equal = 0
        for source in sources:
            sample = {"net_input": {"src_tokens": source[None], "src_lengths": torch.tensor([len(source)])}}
            ours = search.generate([model], sample)[0][0]["tokens"].tolist()
            found = theirs.generate(input_ids=source[None], attention_mask=torch.ones_like(source)[None])[0].tolist()
            equal += ours == found[1:]
        assert equal >= 19

    @pytest.mark.parametrize(
        "given, words",
        [
            (LEARNED | {"decoder_learned_pos": False}, "differ in --encoder-learned-pos and --decoder-learned-pos"),
            ({"encoder_normalize_before": True}, "differ in --encoder-normalize-before"),
            (PRE_NORM | {"no_decoder_final_norm": True}, "decoders without their last norm"),
            ({"layer_norm_eps": 1e-6}, "--layer-norm-eps"),
            (SHARED | PRE_NORM | {"decoder_output_bias": True}, "biases of logits in a M2M100"),
        ],
    )
    def test_refused(self, tmp_path, given, words):
        model, cfg = random_model("layerdrop_transformer", {**SIZES, "max_target_positions": 14, **given})
        checkpoint = save(tmp_path, model, cfg, "translation", source_lang="a", target_lang="b", data=str(tmp_path))
        ends_in_one_line(exported(checkpoint, tmp_path / "hf", check=False), "transformers can't take", words)
        assert not (tmp_path / "hf").exists()

    def test_sub_layers(self, tmp_path):
        _, checkpoint = translation(tmp_path, "post-norm")
        done = exported(checkpoint, tmp_path / "hf", "--prune-layers", "decoder=drop:1.ffn", check=False)
        ends_in_one_line(done, "drop whole layers")


class TestTokenizers:
    def test_pieces(self, tmp_path):
        _, checkpoint = translation(tmp_path, "pre-norm")
        exported(checkpoint, tmp_path / "hf")
        tokenizer = transformers().AutoTokenizer.from_pretrained(tmp_path / "hf")
        assert tokenizer("w0 w3  nothing").input_ids == [4, 7, 3, 2]
        assert tokenizer.decode([2, 4, 7, 2], skip_special_tokens=True) == "w0 w3"
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 1) and not (tmp_path / "hf/target").exists()

    def test_two_dictionaries(self, tmp_path):
        _, checkpoint = translation(tmp_path, "post-norm-separate")
        (tmp_path / "dict.b.txt").write_text("".join(f"t{number} 1\n" for number in range(SYMBOLS - 4)))
        exported(checkpoint, tmp_path / "hf")
        source, target = (
            transformers().AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "hf", tmp_path / "hf/target")
        )
        assert source("w1").input_ids == target("t1").input_ids == [5, 2]

    @pytest.mark.parametrize("name", ["pre-norm", "post-norm-separate"])
    def test_sentencepiece(self, tmp_path, name):
        lines = ["one two three", "eins zwei drei", "</s> one <pad> drei"]
        train_bpe(lambda: lines * 3, tmp_path / "spm", 34)
        bpe = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
        _, checkpoint = translation(tmp_path, name)
        pieces = [bpe.id_to_piece(number) for number in range(3, 3 + SYMBOLS - 4)]
        for side, order in (("a", pieces), ("b", pieces if name == "pre-norm" else pieces[::-1])):
            (tmp_path / f"dict.{side}.txt").write_text("".join(f"{piece} 1\n" for piece in order))
        exported(checkpoint, tmp_path / "hf", "--bpe-model", tmp_path / "spm.model")
        tokenizer = transformers().AutoTokenizer.from_pretrained(tmp_path / "hf")
        for side, call in (("a", {"text": lines}), ("b", {"text_target": lines})):
            known = Dictionary.load(str(tmp_path / f"dict.{side}.txt"))
            expected = [
                known.encode_line(" ".join(bpe.encode(line, out_type=str)), add_if_not_exist=False).tolist()
                for line in lines
            ]
            assert (tokenizer(**call).input_ids if side == "a" else tokenizer(**call)["input_ids"]) == expected
        ids = tokenizer(text_target="one two").input_ids
        assert tokenizer.decode([2, *ids], skip_special_tokens=True) == "one two"


class TestLanguageModels:
    @pytest.mark.parametrize("name", LANGUAGE_MODELS)
    def test_logits(self, tmp_path, name):
        given, kind = LANGUAGE_MODELS[name]
        sizes = {
            "decoder_layers": 3, "decoder_embed_dim": 32, "decoder_ffn_embed_dim": 48, "decoder_attention_heads": 4,
            "decoder_input_dim": 32, "decoder_output_dim": 32, "max_target_positions": 14, "dropout": 0.0,
            "decoder_normalize_before": True,
        }  # fmt: skip
        model, cfg = random_model("layerdrop_transformer_lm", {**sizes, **given})
        checkpoint = save(tmp_path, model, cfg, "language_modeling", data=str(tmp_path), tokens_per_sample=14)
        done = exported(checkpoint, tmp_path / "hf", "--prune-layers", "keep:0,2")
        assert f"architecture {kind}" in done.stdout
        keep(model, decoder=(0, 2))
        theirs = loaded(kind, tmp_path / "hf")
        with torch.no_grad():
            same(theirs(TARGET, use_cache=False).logits, model(TARGET)[0], within=0 if name == "learned" else 2e-6)
        theirs.save_pretrained(tmp_path / "again")
        with torch.no_grad():
            same(loaded(kind, tmp_path / "again", again=True)(TARGET, use_cache=False).logits, model(TARGET)[0])
        tokenizer = transformers().AutoTokenizer.from_pretrained(tmp_path / "hf")
        assert tokenizer("w0 w3").input_ids == [2, 4, 7]
        assert json.loads((tmp_path / "hf/generation_config.json").read_text())["eos_token_id"] == 2

    def test_refused(self, tmp_path):
        given = {
            "decoder_normalize_before": True,
            "no_decoder_final_norm": True,
            "max_target_positions": 14,
            "decoder_layers": 2,
            **TIED,
        }
        model, cfg = random_model("layerdrop_transformer_lm", given)
        checkpoint = save(tmp_path, model, cfg, "language_modeling", data=str(tmp_path), tokens_per_sample=14)
        done = exported(checkpoint, tmp_path / "hf", check=False)
        ends_in_one_line(done, "scaled and tied embeddings without a last norm")
