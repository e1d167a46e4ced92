"""Imported models in the rest of the toolkit: layers chosen by data, fine-tuning, and back to transformers."""

import random
import re
import shlex

import pytest
import torch

from fairseq_layerdrop.plan import read_plan
from tests.commands import NEEDS_FAIRSEQ_MAIN, TRAIN, USER_DIR, layerdrop, run
from tests.imports import test_encoders, test_languages, test_translators
from tests.imports.folders import NEEDS_TRANSFORMERS, close, fairseq_ids, imported, in_their_order, save, transformers
from tests.outputs import load

pytestmark = [NEEDS_TRANSFORMERS, NEEDS_FAIRSEQ_MAIN]


def binarise(folder, dictionary, words, splits=("train", "valid"), count=24):
    """Lines of random *words*, binarised by an imported model's dictionary; and the lines of each split."""
    rng, lines = random.Random(0), {}
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        lines[split] = [" ".join(rng.choices(words, k=rng.randint(3, 8))) for _ in range(count)]
        (folder / split).write_text("".join(f"{line}\n" for line in lines[split]))
    prefixes = [word for split in splits for word in (f"--{split}pref", folder / split)]
    source = () if dictionary is None else ("--srcdict", dictionary)
    run("fairseq-preprocess", "--only-source", *source, *prefixes, "--destdir", folder)
    return lines


class TestChoosing:
    @pytest.fixture(scope="class", params=["opt", "gpt2"])
    def model(self, request, tmp_path_factory):
        folder = tmp_path_factory.mktemp(request.param)
        theirs, special, _ = test_languages.build(request.param)
        layerdrop("import", save(theirs, folder / "hf", special), "-o", folder / "out")
        binarise(folder / "data", folder / "out/dict.txt", [f"w{number}" for number in range(4, 20)])
        return folder

    @pytest.mark.parametrize("method, keep", [("finercut", 6), ("blockpruner", 6), ("sleb", 3), ("block-influence", 3)])
    def test_method(self, model, tmp_path, method, keep):
        layerdrop(
            "select", model / "data", "--path", model / "out/checkpoint.pt", "--method", method, "--keep",
            f"decoder={keep}", "--cpu", "-o", tmp_path / "plan.json",
        )  # fmt: skip
        plan = read_plan(tmp_path / "plan.json").plan
        [part] = plan.stacks.values()
        left = sum(len(layer.names) for layer in part.keep if layer)
        assert left == (keep if keep == 6 else 2 * keep)
        small, _ = load(model / "out/checkpoint.pt", model / "out", prune_layers=str(tmp_path / "plan.json"))
        assert small(torch.tensor([[2, 5, 6]]))[0].isfinite().all()


class TestCTranslate2:
    """What it gives for the best of each step is what transformers gives."""

    def test_translation(self, tmp_path):
        ctranslate2 = pytest.importorskip("ctranslate2")
        folder, theirs, _ = test_translators.written("m2m100", tmp_path / "hf", decoder_attention_heads=4)
        layerdrop("import", folder, "-o", tmp_path / "out")
        layerdrop("export", tmp_path / "out/checkpoint.pt", "--format", "ctranslate2", "-o", tmp_path / "ct2")
        translator = ctranslate2.Translator(str(tmp_path / "ct2"))
        [result] = translator.translate_batch([["w5", "w9", "w7"]], beam_size=1, max_decoding_length=8)
        source = torch.tensor([[5, 9, 7, 2]])
        ids = theirs.generate(source, num_beams=1, min_new_tokens=2, max_new_tokens=8, do_sample=False)[0, 1:].tolist()
        expected = [f"w{number}" for number in ids if number > 3]
        assert expected and result.hypotheses[0][: len(expected)] == expected

    def test_language_model(self, tmp_path):
        ctranslate2 = pytest.importorskip("ctranslate2")
        theirs, special, _ = test_languages.build("opt")
        layerdrop("import", save(theirs, tmp_path / "hf", special), "-o", tmp_path / "out")
        layerdrop("export", tmp_path / "out/checkpoint.pt", "--format", "ctranslate2", "-o", tmp_path / "ct2")
        generator = ctranslate2.Generator(str(tmp_path / "ct2"))
        [score] = generator.score_batch([["</s>", "w5", "w6", "w7"]])
        with torch.no_grad():
            log_probs = theirs(torch.tensor([[2, 5, 6, 7]])).logits.log_softmax(-1)[0]
        expected = [log_probs[step, token].item() for step, token in enumerate((5, 6, 7))]
        assert score.log_probs == pytest.approx(expected, abs=1e-4)


class TestFineTuning:
    def test_of_a_pruned_bert(self, tmp_path):
        """With the flags that import printed; the classifier goes back as BERT's."""
        theirs, special = test_encoders.build("Bert", "ForMaskedLM")
        folder = save(theirs, tmp_path / "hf", special)
        _, told = imported(folder, tmp_path / "out")
        data = tmp_path / "data"
        lines = binarise(data / "input0", tmp_path / "out/dict.txt", [f"w{number}" for number in range(9, 24)])
        for split, of_split in lines.items():
            (data / split).write_text("".join(f"{'long' if len(line.split()) > 5 else 'short'}\n" for line in of_split))
        run(
            "fairseq-preprocess", "--only-source", "--trainpref", data / "train", "--validpref", data / "valid",
            "--destdir", data / "label",
        )  # fmt: skip
        flags = re.search(r"flags for it: (.*)", told)[1].replace(
            "layerdrop_masked_lm", "layerdrop_sentence_prediction"
        )
        flags = re.sub(r" --tokens-per-sample \d+", "", flags)
        done = run(
            "fairseq-train", data, "--user-dir", USER_DIR, *shlex.split(flags), *TRAIN, "--criterion",
            "sentence_prediction", "--num-classes", "2", "--init-token", "0", "--batch-size", "8", "--max-update", "3",
            "--finetune-from-model", tmp_path / "out/checkpoint.pt", "--prune-layers", "keep:0,2",
            "--save-dir", tmp_path / "tuned",
        )  # fmt: skip
        assert "kept encoder 2 of 4 layers (0,2)" in done.stdout + done.stderr
        tuned = tmp_path / "tuned/checkpoint_last.pt"
        done = layerdrop(
            "export", tuned, "--format", "huggingface", "-o", tmp_path / "back", "--imported", tmp_path / "out",
            "--data", data,
        )  # fmt: skip
        assert "architecture BertForSequenceClassification" in done.stdout
        ours, _ = load(tuned, data)
        back = transformers().BertForSequenceClassification.from_pretrained(tmp_path / "back").eval()
        assert ours.encoder.lm_head.layer_norm.eps == back.config.layer_norm_eps == 1e-12
        ids, _ = test_encoders.tokens(special)
        with torch.no_grad():
            logits = ours(fairseq_ids(folder, ids), classification_head_name="sentence_classification_head")[0]
        close(logits, test_encoders.their_logits(back, special))
        assert set(back.config.id2label.values()) == {"long", "short"}

    def test_masked_language_model_is_validated(self, tmp_path):
        theirs, special = test_encoders.build("Bert", "ForMaskedLM")
        folder = save(theirs, tmp_path / "hf", special)
        ours, _ = imported(folder, tmp_path / "out")
        binarise(tmp_path / "data", tmp_path / "out/dict.txt", [f"w{number}" for number in range(9, 24)], ["valid"])
        done = run(
            "fairseq-validate", tmp_path / "data", "--path", tmp_path / "out/checkpoint.pt", "--user-dir", USER_DIR,
            "--task", "layerdrop_masked_lm", "--prune-layers", "keep:0,2", "--cpu", "--num-workers", "0",
            "--batch-size", "8",
        )  # fmt: skip
        assert re.search(r"loss [\d.]+", done.stdout + done.stderr)
        ids, _ = test_encoders.tokens(special)
        assert in_their_order(folder, ours(fairseq_ids(folder, ids))[0]).shape[-1] == 24
