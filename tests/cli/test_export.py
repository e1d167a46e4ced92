"""fairseq-layerdrop export: what it writes, what it refuses, and what is left when it is stopped."""

import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from fairseq_layerdrop.plan import parse, read_plan, transformer_structure
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.state import state_structure
from tests.commands import (
    EVALUATE,
    LAYERDROP_TRANSLATION,
    NEEDS_FAIRSEQ_MAIN,
    ROOT,
    TRAIN,
    ends_in_one_line,
    generate,
    layerdrop,
    run,
    said,
    train_lm,
    train_translation,
)
from tests.outputs import load, outputs, same_but_for_steps

HALF = ("--prune-layers", "decoder=keep:3@every_other")


def export(checkpoint, out, *flags, **kwargs):
    return layerdrop("export", checkpoint, "-o", out, *flags, **kwargs)


def hypotheses(done):
    return [line for line in done.stdout.splitlines() if line[:2] in ("H-", "P-")]


class TestCheckpoint:
    def test_holds_the_weights_and_its_history_alone(self, checkpoint, tmp_path):
        done = run("fairseq-layerdrop", "export", checkpoint, "-o", tmp_path / "half.pt", *HALF)
        assert "decoder 3 of 6 layers (0,2,4); architecture transformer_tiny" in done.stdout
        full, half = load_checkpoint(checkpoint), load_checkpoint(tmp_path / "half.pt")
        assert "last_optimizer_state" in full and "last_optimizer_state" not in half
        assert (tmp_path / "half.pt").stat().st_size < 0.3 * checkpoint.stat().st_size
        settings = half["args"]
        assert (settings.arch, settings.task) == ("transformer_tiny", "translation")
        assert (settings.encoder_layers, settings.decoder_layers, settings.decoder_layerdrop) == (6, 3, 0.5)
        assert dict(settings) == vars(settings) and half["cfg"] is None
        assert not [key for key in settings if key.startswith("prune")]
        (entry,) = half["task_state"]["pruning_history"]
        assert [bool(layer["keep"]) for layer in entry["plan"]["decoder"]] == [True, False] * 3
        assert entry["checkpoint"] == "checkpoint_last.pt" and entry["fingerprint"].startswith("sha256:")
        assert os.listdir(tmp_path) == ["half.pt"]

    def test_fingerprint_is_that_of_the_weights(self, checkpoint, tmp_path):
        """The same for a checkpoint without optimizer state, another for other weights."""
        state = load_checkpoint(checkpoint)
        torch.save({**state, "last_optimizer_state": None}, tmp_path / "bare.pt")
        state["model"]["encoder.layers.0.fc1.bias"] = state["model"]["encoder.layers.0.fc1.bias"] + 1
        torch.save(state, tmp_path / "other.pt")
        prints = []
        for path in (checkpoint, tmp_path / "bare.pt", tmp_path / "other.pt"):
            export(path, tmp_path / "out.pt", *HALF, "--force")
            prints.append(load_checkpoint(tmp_path / "out.pt")["task_state"]["pruning_history"][0]["fingerprint"])
        assert prints[0] == prints[1] != prints[2]

    @NEEDS_FAIRSEQ_MAIN
    def test_generates_in_stock_fairseq_what_prune_layers_does(self, translation_data, checkpoint, tmp_path):
        export(checkpoint, tmp_path / "half.pt", *HALF)
        stock = generate(translation_data, tmp_path / "half.pt")
        pruned = generate(translation_data, checkpoint, *LAYERDROP_TRANSLATION, *HALF)
        texts = [[line.split("\t")[-1] for line in hypotheses(done) if line[0] == "H"] for done in (stock, pruned)]
        assert len(texts[0]) == 16 and texts[0] == texts[1]

    @NEEDS_FAIRSEQ_MAIN
    def test_without_a_plan_is_the_whole_model(self, translation_data, checkpoint, tmp_path):
        export(checkpoint, tmp_path / "whole.pt")
        whole = load_checkpoint(tmp_path / "whole.pt")
        assert (
            state_structure(whole["model"]) == transformer_structure({"encoder": 6, "decoder": 6})
            and not whole["task_state"]
        )
        same_but_for_steps(*(outputs(*load(path, translation_data)) for path in (tmp_path / "whole.pt", checkpoint)))

    @NEEDS_FAIRSEQ_MAIN
    def test_tensors_that_are_part_of_larger_ones(self, translation_data, checkpoint, tmp_path):
        """As flattened parameters are; and those that are tied stay so."""
        state = load_checkpoint(checkpoint)
        flat = torch.cat([tensor.float().reshape(-1) for tensor in state["model"].values()])
        parts = flat.split([tensor.numel() for tensor in state["model"].values()])
        views = {key: part.view(old.shape) for part, (key, old) in zip(parts, state["model"].items())}
        for key in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
            views[key] = views["encoder.embed_tokens.weight"]
        torch.save({**state, "model": views}, tmp_path / "flat.pt")
        export(tmp_path / "flat.pt", tmp_path / "one.pt", "--prune-layers", "keep:1@top")
        small = load_checkpoint(tmp_path / "one.pt")["model"]
        kept = {tensor.data_ptr(): tensor.numel() * 4 for tensor in small.values()}
        assert (tmp_path / "one.pt").stat().st_size < 1.2 * sum(kept.values()) + 30_000
        assert small["decoder.embed_tokens.weight"].data_ptr() == small["encoder.embed_tokens.weight"].data_ptr()
        export(checkpoint, tmp_path / "two.pt", "--prune-layers", "keep:1@top")
        assert torch.equal(*(outputs(*load(tmp_path / f"{name}.pt", translation_data)) for name in ("one", "two")))

    @NEEDS_FAIRSEQ_MAIN
    def test_hydra_settings(self, translation_data, checkpoint, tmp_path):
        """fairseq-hydra-train saves a dictionary without what the architecture fills in."""
        state = load_checkpoint(checkpoint)
        small = {
            key: value for key, value in vars(state["cfg"]["model"]).items() if key.startswith(("encoder_", "share"))
        }
        small = {key: value for key, value in small.items() if key in ("encoder_layers", "share_all_embeddings")}
        state["cfg"]["model"] = {"_name": "layerdrop_transformer_tiny", **small, "encoder_layerdrop": 0.5}
        state["cfg"]["task"].update(source_lang="a", target_lang="b")
        state["cfg"]["criterion"] = {"_name": "label_smoothed_cross_entropy", "label_smoothing": 0.2}
        torch.save(state, tmp_path / "hydra.pt")
        export(tmp_path / "hydra.pt", tmp_path / "half.pt", *HALF)
        model = load_checkpoint(tmp_path / "half.pt")["args"]
        told = (model.arch, model.decoder_layers, model.encoder_embed_dim, model.source_lang, model.label_smoothing)
        assert told == ("transformer_tiny", 3, 64, "a", 0.2)
        export(checkpoint, tmp_path / "other.pt", *HALF)
        assert torch.equal(*(outputs(*load(tmp_path / f"{name}.pt", translation_data)) for name in ("half", "other")))

    @NEEDS_FAIRSEQ_MAIN
    def test_criterion_of_a_plugin_that_is_not_there(self, translation_data, checkpoint, tmp_path):
        state = load_checkpoint(checkpoint)
        state["cfg"]["model"].criterion, state["cfg"]["criterion"] = "mine", Namespace(_name="mine", criterion="mine")
        torch.save(state, tmp_path / "mine.pt")
        export(tmp_path / "mine.pt", tmp_path / "half.pt", *HALF)
        assert load(tmp_path / "half.pt", translation_data)

    @NEEDS_FAIRSEQ_MAIN
    def test_stock_layers_to_keep_of_a_fine_tuned_model(self, translation_data, stock_checkpoint, tmp_path):
        """fairseq saves the full depth and the list with a pruned model's checkpoint (issue 1403)."""
        export(stock_checkpoint, tmp_path / "half.pt", *HALF)
        state = load_checkpoint(tmp_path / "half.pt")
        settings = Namespace(**state["args"])
        settings.decoder_layers, settings.decoder_layers_to_keep = 6, "0,2,4"
        torch.save({**state, "args": settings}, tmp_path / "odd.pt")
        export(tmp_path / "odd.pt", tmp_path / "mended.pt")
        assert torch.equal(*(outputs(*load(tmp_path / f"{name}.pt", translation_data)) for name in ("half", "mended")))

    @NEEDS_FAIRSEQ_MAIN
    def test_args_instead_of_cfg(self, translation_data, stock_checkpoint, tmp_path):
        """As fairseq wrote them before 0.10."""
        state = load_checkpoint(stock_checkpoint)
        del state["cfg"]["model"]._name
        torch.save({**state, "args": state["cfg"]["model"], "cfg": None}, tmp_path / "old.pt")
        export(tmp_path / "old.pt", tmp_path / "half.pt", *HALF)
        assert load_checkpoint(tmp_path / "half.pt")["args"].decoder_layers == 3
        export(stock_checkpoint, tmp_path / "new.pt", *HALF)
        assert torch.equal(*(outputs(*load(tmp_path / f"{name}.pt", translation_data)) for name in ("half", "new")))

    @NEEDS_FAIRSEQ_MAIN
    @pytest.mark.parametrize("norm", [(), ("--encoder-normalize-before", "--decoder-normalize-before")])
    def test_averaged_weights(self, translation_data, tmp_path, norm):
        train_translation(translation_data, tmp_path, 4, "--store-ema", "--ema-decay", "0.5", "--lr", "0.1", *norm)
        last = tmp_path / "checkpoint_last.pt"
        export(last, tmp_path / "plain.pt", *HALF)
        export(last, tmp_path / "ema.pt", *HALF, "--ema")
        full = load_checkpoint(last)
        for name, weights in {"plain": full["model"], "ema": full["extra_state"]["ema"]}.items():
            half = load_checkpoint(tmp_path / f"{name}.pt")
            assert torch.equal(half["model"]["decoder.layers.1.fc1.weight"], weights["decoder.layers.2.fc1.weight"])
            assert half["task_state"]["pruning_history"][0]["ema"] == (name == "ema")
        assert not torch.equal(
            *(outputs(*load(tmp_path / f"{name}.pt", translation_data)) for name in ("plain", "ema"))
        )
        ends_in_one_line(export(tmp_path / "ema.pt", tmp_path / "x.pt", "--ema", check=False), "no averaged weights")
        if norm:  # as stock fairseq saves it
            for stack in ("encoder", "decoder"):
                del full["extra_state"]["ema"][f"{stack}.layer_norm.weight"]
            torch.save(full, tmp_path / "stock.pt")
            done = export(tmp_path / "stock.pt", tmp_path / "x.pt", "--ema", check=False)
            ends_in_one_line(done, "left out decoder.layer_norm.weight and 1 more")


class TestPlan:
    def test_is_what_prune_layers_takes(self, translation_data, checkpoint, tmp_path):
        text = "encoder=drop:1-1/decoder=drop:2.ffn,3.self_attn"
        export(checkpoint, tmp_path / "plan.json", "--prune-layers", text, "--format", "plan")
        plan = parse(text).resolve(transformer_structure({"encoder": 6, "decoder": 6}))
        assert read_plan(tmp_path / "plan.json").plan == plan
        by_file = generate(
            translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", tmp_path / "plan.json"
        )
        by_text = generate(translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", text)
        assert len(hypotheses(by_file)) == 2 * 16 and hypotheses(by_file) == hypotheses(by_text)
        assert "decoder 6 of 6 layers (0-5 without 2.ffn,3.self_attn)" in said(by_file)

    def test_damaged(self, translation_data, checkpoint, tmp_path):
        export(checkpoint, tmp_path / "plan.json", *HALF, "--format", "plan")
        text = (tmp_path / "plan.json").read_text()
        (tmp_path / "plan.json").write_text(text.replace('"ffn"', '"fnn"', 1))
        command = (translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--prune-layers", tmp_path / "plan.json")
        ends_in_one_line(generate(*command, check=False), "stacks.encoder[0].keep must be a list of sub-layers")
        ends_in_one_line(export(checkpoint, tmp_path / "x.pt", *command[-2:], check=False), "stacks.encoder[0].keep")


class TestRefusals:
    @pytest.mark.parametrize(
        "flags, words",
        [
            (("--prune-layers", "decoder=keep:6-6"), "the decoder has layers 0-5, not 6"),
            (("--prune-layers", "none.json"), "no such plan file: none.json"),
            (("--quantization", "int8"), "--quantization is for --format ctranslate2"),
            (("--ema",), "no averaged weights"),
        ],
    )
    def test_flags(self, checkpoint, tmp_path, flags, words):
        ends_in_one_line(export(checkpoint, tmp_path / "out.pt", *flags, check=False), words)
        assert not os.listdir(tmp_path)

    def test_output_that_exists(self, checkpoint, tmp_path):
        out = tmp_path / "out.pt"
        out.write_text("precious")
        ends_in_one_line(export(checkpoint, out, *HALF, check=False), "exists; give another name, or --force")
        assert out.read_text() == "precious"
        export(checkpoint, out, *HALF, "--force")
        assert load_checkpoint(out)
        ends_in_one_line(export(out, out, "--force", check=False), "OUT is the checkpoint itself")
        ends_in_one_line(export(out, tmp_path, "--force", check=False), "exists and is not a file")

    def test_names_too_long(self, checkpoint, tmp_path):
        long = "x" * 300
        ends_in_one_line(export(checkpoint, tmp_path / f"{long}.pt", check=False), "cannot write", "too long")
        ends_in_one_line(export(f"{long}.pt", tmp_path / "a.pt", check=False), "no such checkpoint")
        done = export(checkpoint, tmp_path / "a.pt", "--prune-layers", f"{long}.json", check=False)
        ends_in_one_line(done, "no such plan file")

    def test_folders_that_cannot_be_written(self, checkpoint, tmp_path):
        ends_in_one_line(
            export(checkpoint, tmp_path / "none" / "out.pt", check=False),
            "cannot write",
            f"there is no folder {tmp_path / 'none'}",
        )
        ends_in_one_line(export(checkpoint, "/proc/out.pt", check=False), "cannot write /proc/out.pt")
        if os.geteuid():
            tmp_path.chmod(0o500)
            ends_in_one_line(export(checkpoint, tmp_path / "out.pt", check=False), "Permission denied")

    @pytest.mark.parametrize("name", ["out.pt", "plan.json", "ct2"])
    def test_full_disk(self, translation_data, checkpoint, tmp_path, name):
        """A limit on the size of files fails as a full disk does: in the middle of writing."""
        kind = {"out.pt": "fairseq", "plan.json": "plan", "ct2": "ctranslate2"}[name]
        limit = 200 if kind == "plan" else 100_000
        done = subprocess.run(
            [sys.executable, "-m", "fairseq_layerdrop", "export", checkpoint, "-o", tmp_path / name, "--format", kind],
            capture_output=True,
            text=True,
            cwd=ROOT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        ends_in_one_line(done, f"cannot write {tmp_path / name}", "File too large")
        assert not os.listdir(tmp_path)

    def test_no_transformer_layers(self, checkpoint, tmp_path):
        state = load_checkpoint(checkpoint)
        torch.save({**state, "model": {"weight": torch.ones(2)}}, tmp_path / "flat.pt")
        ends_in_one_line(export(tmp_path / "flat.pt", tmp_path / "x.pt", check=False), "isn't a Transformer")

    def test_sub_layers_of_a_model_that_is_not_ours(self, checkpoint, tmp_path):
        state = load_checkpoint(checkpoint)
        state["cfg"]["model"].arch = state["cfg"]["model"]._name = "transformer_align"
        torch.save(state, tmp_path / "align.pt")
        done = export(tmp_path / "align.pt", tmp_path / "x.pt", "--prune-layers", "drop:1.ffn", check=False)
        ends_in_one_line(done, "sub-layers can be left out of models of the kinds", "transformer_align")


@pytest.mark.parametrize("signal_, existing", [(signal.SIGKILL, True), (signal.SIGTERM, False)])
def test_killed_while_writing(checkpoint, tmp_path, signal_, existing):
    """Whenever the process is killed, OUT is what it was or whole, and nothing else is there."""
    state = load_checkpoint(checkpoint)
    state["model"]["big"] = torch.zeros(40_000_000)
    torch.save(state, tmp_path / "big.pt")
    folder = tmp_path / "out"
    folder.mkdir()
    out, rng = folder / "out.pt", random.Random(1)
    command = [sys.executable, "-m", "fairseq_layerdrop", "export", tmp_path / "big.pt", "-o", out, "--force"]
    killed = 0
    for _ in range(4):
        if existing:
            out.write_text("before")
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        writing = False
        while process.poll() is None and not writing:  # until a file in the folder is open
            descriptors = Path(f"/proc/{process.pid}/fd")
            links = []
            for descriptor in list(descriptors.iterdir()) if descriptors.exists() else []:
                try:
                    links.append(os.readlink(descriptor))
                except OSError:
                    continue
            writing = any(link.startswith(str(folder)) for link in links)
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal_)
        process.communicate()
        killed += process.returncode == -signal_
        if out.exists() and out.read_bytes() != b"before":
            assert load_checkpoint(out)["model"]["big"].numel() == 40_000_000
            out.unlink()
        assert set(os.listdir(folder)) <= ({"out.pt"} if existing else set())
    assert killed


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGHUP])
def test_asked_to_end_while_converting(checkpoint, tmp_path, signal_):
    pytest.importorskip("ctranslate2")
    state = load_checkpoint(checkpoint)
    state["model"]["big"] = torch.zeros(40_000_000)
    torch.save(state, tmp_path / "big.pt")
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "fairseq_layerdrop", "export", tmp_path / "big.pt", "-o", out / "ct2",
            "--format", "ctranslate2",
        ],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not any(path.is_dir() for path in scratch.iterdir()):
        time.sleep(0.005)
    process.send_signal(signal_)
    assert process.wait() == 128 + signal_
    assert not os.listdir(out) and not os.listdir(scratch)


def peak_of_loading(path, data):
    """Peak resident memory, in bytes, of a process that loads a checkpoint as fairseq's commands do."""
    script = (
        "import sys, torch, fairseq_layerdrop.register; from fairseq_layerdrop.evaluation.cost import peak_memory;"
        "from tests.outputs import load; load(*sys.argv[1:]); print(peak_memory(torch.device('cpu')))"
    )
    return int(run("python", "-c", script, path, data).stdout.split()[-1])


def test_peak_memory_of_loading(translation_data, tmp_path):
    """An exported half-depth model against one trained at that depth (here for one update), without optimizer state."""
    size = (
        "--encoder-embed-dim", "512", "--encoder-ffn-embed-dim", "2048", "--max-tokens", "60", "--max-update", "1",
        "--no-save-optimizer-state",
    )  # fmt: skip
    for name, depth in {"full": "12", "half": "6"}.items():
        run(
            "fairseq-train", translation_data, *LAYERDROP_TRANSLATION, "--arch", "layerdrop_transformer_tiny", *TRAIN,
            "--share-all-embeddings", "--encoder-layers", depth, "--decoder-layers", depth,
            "--decoder-embed-dim", "512", "--decoder-ffn-embed-dim", "2048", *size, "--save-dir", tmp_path / name,
        )  # fmt: skip
    export(tmp_path / "full" / "checkpoint_last.pt", tmp_path / "exported.pt", "--prune-layers", "keep:6@every_other")
    trained = peak_of_loading(tmp_path / "half" / "checkpoint_last.pt", translation_data)
    full = peak_of_loading(tmp_path / "full" / "checkpoint_last.pt", translation_data)
    exported = peak_of_loading(tmp_path / "exported.pt", translation_data)
    assert exported <= 1.05 * trained < full


class TestCTranslate2:
    """The model directory; scripts/bench/translation_speed.py compares translations of a trained model."""

    ctranslate2 = pytest.importorskip("ctranslate2")

    def test_translates_as_fairseq_does(self, translation_data, tmp_path):
        """The same words with the same scores, and within the model's positions, of which CTranslate2 doesn't know."""
        flags = (
            "--encoder-normalize-before", "--decoder-normalize-before", "--share-decoder-input-output-embed",
            "--max-source-positions", "12", "--max-target-positions", "11",
        )  # fmt: skip
        train_translation(translation_data, tmp_path, 60, *flags, "--lr", "0.01", "--dropout", "0")
        last, folder = tmp_path / "checkpoint_last.pt", tmp_path / "ct2"
        told = export(last, folder, *HALF, "--format", "ctranslate2").stdout
        assert {"config.json", "model.bin"} <= set(os.listdir(folder))
        limits = json.loads((folder / "limits.json").read_text())
        assert limits == {
            "translate_batch": {"max_input_length": 12, "max_decoding_length": 10},
            "score_batch": {"max_input_length": 11},
        }
        assert "translate_batch(max_input_length=12, max_decoding_length=10), score_batch(max_input_length=11)" in told
        fairseq = run(
            "fairseq-generate", translation_data, "--path", last, *LAYERDROP_TRANSLATION, *HALF, *EVALUATE,
            "--beam", "4", "--max-len-b", "50",
        )  # fmt: skip
        lines = [line.split("\t") for line in fairseq.stdout.splitlines() if line[:2] in ("S-", "H-", "P-")]
        sources, hypotheses, scores = ({line[0][2:]: line for line in lines if line[0][0] == kind} for kind in "SHP")
        words = [sources[key][1].split() for key in sources]
        expected = [hypotheses[key][2].split() for key in sources]
        translator, call = self.ctranslate2.Translator(str(folder)), {"beam_size": 4, **limits["translate_batch"]}
        assert [result.hypotheses[0] for result in translator.translate_batch(words, **call)] == expected
        results = translator.translate_batch(words, **call, min_decoding_length=0, return_scores=True)
        assert [result.hypotheses[0] for result in results] == expected
        bits = torch.tensor([result.scores[0] / math.log(2) for result in results])
        torch.testing.assert_close(bits, torch.tensor([float(hypotheses[key][1]) for key in sources]))
        scored = translator.score_batch(words, expected, **limits["score_batch"])
        for key, result in zip(sources, scored):
            bits = torch.tensor(result.log_probs) / math.log(2)
            printed = torch.tensor([float(score) for score in scores[key][1].split()])
            torch.testing.assert_close(bits, printed, rtol=1e-5, atol=6e-5)
        long, unending = [["w1"] * 30, words[0]], {"min_decoding_length": 10}  # which makes it the longest
        longest_input, longest = limits["translate_batch"].values()
        results = translator.translate_batch(long, **limits["translate_batch"], **unending)
        assert [len(result.hypotheses[0]) for result in results] == [longest] * 2
        assert translator.score_batch(long, [["w1"] * 30] * 2, **limits["score_batch"])
        with pytest.raises(RuntimeError, match="position"):
            translator.translate_batch(long, max_input_length=longest_input + 1)
        with pytest.raises(RuntimeError, match="position"):
            translator.translate_batch(words[:1], max_decoding_length=longest + 2, min_decoding_length=longest + 2)

    def test_quantized_and_replaced(self, checkpoint, tmp_path):
        folder = tmp_path / "ct2"
        export(checkpoint, folder, "--format", "ctranslate2")
        whole = (folder / "model.bin").stat().st_size
        ends_in_one_line(export(checkpoint, folder, "--format", "ctranslate2", check=False), "exists", "--force")
        export(checkpoint, folder, "--format", "ctranslate2", "--quantization", "int8", "--force")
        assert (folder / "model.bin").stat().st_size < 0.5 * whole
        assert os.listdir(tmp_path) == ["ct2"]

    def test_language_model(self, lm_data, tmp_path):
        """Its scores are fairseq's, and blocks as long as the training's are the longest that it takes."""
        train_lm(lm_data, tmp_path, 2, "--share-decoder-input-output-embed", "--tokens-per-sample", "12")
        export(tmp_path / "checkpoint_last.pt", tmp_path / "ct2", *HALF, "--format", "ctranslate2")
        tokens = ["</s>", "w1", "w2", "w3"]
        generator = self.ctranslate2.Generator(str(tmp_path / "ct2"))
        limits = json.loads((tmp_path / "ct2" / "limits.json").read_text())
        assert limits == {"generate_batch": {"max_length": 12}, "score_batch": {"max_input_length": 12}}
        assert generator.score_batch([["w1"] * 30], **limits["score_batch"])
        [result] = generator.generate_batch([tokens], **limits["generate_batch"], min_length=12)
        assert len(result.sequences[0]) == 12
        with pytest.raises(RuntimeError, match="position"):
            generator.generate_batch([tokens], max_length=13, min_length=13)
        scores = generator.score_batch([tokens])[0].log_probs
        model, task = load(tmp_path / "checkpoint_last.pt", lm_data, prune_layers=HALF[1])
        indices = torch.tensor([[task.dictionary.index(token) for token in tokens]])
        with torch.no_grad():
            expected = model.get_normalized_probs(model(indices[:, :-1]), log_probs=True)[0]
        torch.testing.assert_close(
            torch.tensor(scores), expected.gather(1, indices[0, 1:, None]).squeeze(1), atol=1e-4, rtol=1e-4
        )

    @pytest.mark.parametrize(
        "setting, value, words",
        [
            ("activation_fn", "tanh", "the activation tanh"),
            ("encoder_normalize_before", True, "--encoder-normalize-before and --decoder-normalize-before"),
            ("encoder_attention_heads", 1, "--encoder-attention-heads and --decoder-attention-heads"),
            ("no_token_positional_embeddings", True, "--no-token-positional-embeddings"),
            ("adaptive_softmax_cutoff", "10,20", "--adaptive-softmax-cutoff"),
            ("scale_heads", True, "--scale-heads"),
            ("quant_noise_pq", 0.3, "--quant-noise-pq"),
        ],
    )
    def test_refused_models(self, checkpoint, tmp_path, setting, value, words):
        state = load_checkpoint(checkpoint)
        setattr(state["cfg"]["model"], setting, value)
        torch.save(state, tmp_path / "odd.pt")
        done = export(tmp_path / "odd.pt", tmp_path / "ct2", "--format", "ctranslate2", check=False)
        ends_in_one_line(done, "CTranslate2 can't take", words)

    def test_refused_adaptive_input(self, lm_data, tmp_path):
        train_lm(lm_data, tmp_path, 1)
        state = load_checkpoint(tmp_path / "checkpoint_last.pt")
        state["cfg"]["model"]["adaptive_input"] = True
        torch.save(state, tmp_path / "odd.pt")
        done = export(tmp_path / "odd.pt", tmp_path / "ct2", "--format", "ctranslate2", check=False)
        ends_in_one_line(done, "CTranslate2 can't take adaptive inputs")

    def test_refused_kinds(self, checkpoint, tmp_path):
        state = load_checkpoint(checkpoint)
        state["cfg"]["model"].arch = state["cfg"]["model"]._name = "transformer_align"
        torch.save(state, tmp_path / "odd.pt")
        done = export(tmp_path / "odd.pt", tmp_path / "ct2", "--format", "ctranslate2", check=False)
        ends_in_one_line(done, "takes models of the kinds bart, transformer, transformer_lm, not transformer_align")

    def test_refused_plans_types_and_folders(self, checkpoint, tmp_path):
        out = (checkpoint, tmp_path / "ct2", "--format", "ctranslate2")
        done = export(*out, "--prune-layers", "decoder=drop:3.ffn", check=False)
        ends_in_one_line(
            done, "CTranslate2 can't take layers without some of their sub-layers or heads; drop whole layers"
        )
        done = export(*out, "--quantization", "int3", check=False)
        ends_in_one_line(done, "no weights of type 'int3', only ", "int8")
        ends_in_one_line(export(*out, "--data", tmp_path, check=False), "no binarised data in", "--data")
        state = load_checkpoint(checkpoint)
        state["cfg"]["model"].source_lang, state["cfg"]["model"].target_lang = "a", "b"
        torch.save(state, tmp_path / "told.pt")
        done = export(tmp_path / "told.pt", *out[1:], "--data", tmp_path, check=False)
        ends_in_one_line(done, "no dict.a.txt in", "--data")
        for language in "ab":
            (tmp_path / f"dict.{language}.txt").write_text("w1 1\n")
        done = export(tmp_path / "told.pt", *out[1:], "--data", tmp_path, check=False)
        ends_in_one_line(done, "the dictionaries in", "are not those of this model")
        (tmp_path / "dict.a.txt").write_text("w1\n")
        done = export(tmp_path / "told.pt", *out[1:], "--data", tmp_path, check=False)
        ends_in_one_line(done, "CTranslate2's converter failed: Incorrect dictionary format")
        for file in tmp_path.iterdir():
            file.unlink()
        assert not os.listdir(tmp_path)
        (tmp_path / "ct2").mkdir()
        (tmp_path / "ct2" / "precious").write_text("")
        ends_in_one_line(export(*out, "--force", check=False), "exists and is not, or not only, a CTranslate2 model")
        for name in ("model.bin", "shared_vocabulary.json"):
            (tmp_path / "ct2" / name).write_text("")
        ends_in_one_line(export(*out, "--force", check=False), "exists and is not, or not only, a CTranslate2 model")
        assert (tmp_path / "ct2" / "precious").exists()

    def test_not_installed(self, checkpoint, tmp_path):
        (tmp_path / "ctranslate2.py").write_text("raise ImportError")
        done = run(
            "fairseq-layerdrop", "export", checkpoint, "-o", tmp_path / "ct2", "--format", "ctranslate2", check=False,
            PYTHONPATH=f"{tmp_path}:{ROOT}",
        )  # fmt: skip
        ends_in_one_line(done, "ctranslate2 isn't installed; pip install 'fairseq-layerdrop[ctranslate2]'")


def test_describe_shows_a_plan_file(checkpoint, tmp_path):
    export(checkpoint, tmp_path / "plan.json", *HALF, "--format", "plan")
    shown = layerdrop("describe", tmp_path / "plan.json").stdout
    assert "encoder 6 of 6 layers (0-5), decoder 3 of 6 layers (0,2,4)" in shown and "sha256:" in shown
    told = json.loads(layerdrop("describe", tmp_path / "plan.json", "--json").stdout)
    assert told["origin"]["spec"] == HALF[1] and len(told["stacks"]["decoder"]) == 6
    ends_in_one_line(layerdrop("describe", tmp_path, check=False), "is a folder, not a checkpoint")


def test_describe_shows_sub_layers_and_history(checkpoint, tmp_path):
    export(checkpoint, tmp_path / "sub.pt", "--prune-layers", "decoder=drop:0,2.ffn")
    told = json.loads(layerdrop("describe", tmp_path / "sub.pt", "--json").stdout)
    assert told["architecture"] == "layerdrop_transformer_tiny" and told["depths"] == {"encoder": 6, "decoder": 5}
    assert told["sub_layers"]["decoder"][1] == ["self_attn", "encoder_attn"]
    assert told["updates"] == 4 and len(told["pruning_history"]) == 1
    shown = layerdrop("describe", tmp_path / "sub.pt").stdout
    assert "  1                      self_attn, encoder_attn\n" in shown
    assert "decoder 5 of 6 layers (1-5 without 2.ffn), from checkpoint_last.pt (sha256:" in shown
