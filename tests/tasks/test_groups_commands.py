"""fairseq-train with all groups, learned rates and shared layers, and what becomes of its checkpoints."""

import re
import struct
from collections import defaultdict

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from fairseq_layerdrop.plan import parse, transformer_structure
from fairseq_layerdrop.surgery.checkpoint import Checkpoint
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.state import learned_importance
from tests.commands import (
    EVALUATE,
    LAYERDROP_TRANSLATION,
    NEEDS_FAIRSEQ_MAIN,
    ends_in_one_line,
    generate,
    layerdrop,
    run,
    said,
    train_lm,
    train_on_two,
    train_translation,
)
from tests.outputs import load, outputs, same_but_for_steps

GROUPS = (
    "--encoder-sublayerdrop", "0.2", "--decoder-sublayerdrop", "0.2", "--encoder-headdrop", "0.3",
    "--decoder-headdrop", "0.3", "--layerdrop-depth-schedule", "linear", "--layerdrop-time-schedule", "warmup",
    "--layerdrop-warmup-updates", "4",
)  # fmt: skip
LEARNED = ("--encoder-layerdrop-learned", "--decoder-layerdrop-learned")


def weights(path):
    return load_checkpoint(path)["model"]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def learned(translation_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("learned")
    done = train_translation(translation_data, out, 4, *LEARNED, "--save-interval-updates", "2", "--store-ema")
    return out, said(done)


def tensorboard_curves(folder) -> dict[str, list[float]]:
    """The curves in TensorBoard's files: records of a length, 4 bytes of its checksum, an event, and 4 of its own."""
    curves = defaultdict(list)
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            for value in Event.FromString(data[12 : 12 + length]).summary.value:
                curves[value.tag].append(value.simple_value)
            data = data[16 + length :]
    return curves


class TestGroups:
    def test_rates_in_force_are_logged(self, translation_data, tmp_path):
        """Mean over 6 layers of rate x linear schedule x warm-up: p (7/12) min(1, t/4)."""
        told = said(
            train_translation(translation_data, tmp_path, 5, *GROUPS, "--tensorboard-logdir", tmp_path / "curves")
        )
        curves = tensorboard_curves(tmp_path / "curves/train_inner")
        for kind, rate in (("layerdrop", 0.5), ("sublayerdrop", 0.2), ("headdrop", 0.3)):
            found = [float(value) for value in re.findall(rf"\| train_inner \|.*\bdecoder_{kind}=?([\d.]+)", told)] or [
                float(value) for value in re.findall(rf"decoder_{kind}=([\d.]+)", told)
            ]
            assert found[:5] == pytest.approx([rate * 7 / 12 * min(1, t / 4) for t in range(5)], abs=6e-4)
            assert curves[f"decoder_{kind}"] == pytest.approx(found[:5])
        skipped = [float(value) for value in re.findall(r"decoder_skipped=([\d.]+)", told)]
        assert skipped[:5] == pytest.approx(curves["decoder_skipped"]) and 0 < sum(skipped) < len(skipped)

    @NEEDS_FAIRSEQ_MAIN
    def test_listed_rates(self, translation_data, tmp_path):
        """They are logged, described and pruned with their layers; stock fairseq takes an export all the same."""
        lists = (
            "--decoder-sublayerdrop-rates", "0,0,0.1,0.1,0.2,0.2", "--encoder-headdrop-rates", "0.3,0,0,0,0,0.9",
        )  # fmt: skip
        told = said(train_translation(translation_data, tmp_path, 1, *lists))
        assert float(re.search(r"\| decoder_sublayerdrop ([\d.]+)", told)[1]) == pytest.approx(0.1, abs=6e-4)
        assert float(re.search(r"\| encoder_headdrop ([\d.]+)", told)[1]) == pytest.approx(0.2, abs=6e-4)
        full, small, tuned = tmp_path / "checkpoint_last.pt", tmp_path / "small.pt", tmp_path / "tuned"
        prune = ("--prune-layers", "keep:3@every_other")
        layerdrop("export", full, *prune, "-o", small)
        train_translation(translation_data, tuned, 1, *lists, *prune, "--finetune-from-model", full)
        left = ("0,0.1,0.2", "0.3,0,0")
        for path, rates in ((full, lists[1::2]), (small, left), (tuned / "checkpoint_last.pt", left)):
            described = layerdrop("describe", path).stdout
            assert f"sub-layers {rates[0]}\n" in described and f"heads {rates[1]}\n" in described
        run("fairseq-generate", translation_data, "--path", small, "--task", "translation", *EVALUATE)

    def test_restart_and_two_processes(self, translation_data, tmp_path):
        train_translation(translation_data, tmp_path / "whole", 4, *GROUPS)
        train_translation(translation_data, tmp_path / "parts", 2, *GROUPS)
        train_translation(translation_data, tmp_path / "parts", 4, *GROUPS)
        whole = weights(tmp_path / "whole/checkpoint_last.pt")
        assert same(whole, weights(tmp_path / "parts/checkpoint_last.pt"))
        # fairseq stops where the ranks' gradients differ; that two do what one does is tested with torch's DDP
        train_on_two(
            translation_data, tmp_path / "two", 4, *GROUPS, "--update-freq", "1", "--ddp-backend", "legacy_ddp"
        )
        assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "two/checkpoint_last.pt").values())


class TestHeads:
    def test_fine_tuning_goes_on(self, translation_data, tmp_path):
        full, tuned = tmp_path / "full", tmp_path / "tuned"
        train_translation(translation_data, full, 1)
        tune = (
            "--prune-layers",
            "decoder=drop:1.self_attn.head0",
            "--finetune-from-model",
            full / "checkpoint_last.pt",
        )
        train_translation(translation_data, tuned, 1, *tune)
        train_translation(translation_data, tuned, 2, *tune)
        checkpoint = load_checkpoint(tuned / "checkpoint_last.pt")
        assert checkpoint["model"]["decoder.layers.1.self_attn.q_proj.weight"].shape == (32, 64)
        assert len(Checkpoint(checkpoint).history) == 1
        # its export is told what it needs to be trained on
        layerdrop("export", tuned / "checkpoint_last.pt", "-o", tmp_path / "heads.pt")
        done = train_translation(translation_data, tmp_path / "other", 1, "--finetune-from-model",
                                 tmp_path / "heads.pt", check=False)  # fmt: skip
        ends_in_one_line(done, "--pruned-sublayers decoder=drop:1.self_attn.head0")
        # and plans for it can be chosen by data
        plan = tmp_path / "plan.json"
        layerdrop("select", translation_data, "--path", tmp_path / "heads.pt", "--method", "similarity", "--cpu",
                  "--stacks", "decoder", "--keep-total", "16", "-o", plan)  # fmt: skip
        load(tmp_path / "heads.pt", translation_data, prune_layers=str(plan))


class TestLearned:
    def test_restart_goes_on_alike(self, learned, translation_data, tmp_path):
        out, _ = learned
        train_translation(
            translation_data, tmp_path, 4, *LEARNED, "--restore-file", out / "checkpoint_1_2.pt",
        )  # fmt: skip
        assert same(weights(out / "checkpoint_last.pt"), weights(tmp_path / "checkpoint_last.pt"))

    def test_top_k_is_kept(self, learned, translation_data, tmp_path):
        checkpoint = learned[0] / "checkpoint_last.pt"
        scores = learned_importance(weights(checkpoint))
        described = layerdrop("describe", checkpoint).stdout
        assert "LayerDrop 0.5, rates learned" in described and f"{scores['decoder'][0]:.3f}, " in described
        assert {len(of_stack) for of_stack in scores.values()} == {6} and len(set(scores["decoder"])) > 1
        best = {
            stack: ",".join(map(str, sorted(sorted(range(6), key=lambda i: -of_stack[i])[:2])))
            for stack, of_stack in scores.items()
        }
        listed = f"encoder=keep:{best['encoder']}/decoder=keep:{best['decoder']}"
        expected = outputs(*load(checkpoint, translation_data, prune_layers=listed))
        assert torch.equal(outputs(*load(checkpoint, translation_data, prune_layers="keep:2@learned")), expected)
        layerdrop("export", checkpoint, "--prune-layers", "keep:2@learned", "-o", tmp_path / "small.pt")
        same_but_for_steps(outputs(*load(tmp_path / "small.pt", translation_data)), expected)
        assert not [key for key in weights(tmp_path / "small.pt") if "importance" in key]
        ladder = tmp_path / "order.json"
        layerdrop("select", translation_data, "--path", checkpoint, "--method", "learned", "--cpu", "-o", ladder)
        for stack in ("encoder", "decoder"):
            spec = f"{stack}=keep:2@{ladder}"
            kept = parse(spec).resolve(transformer_structure({"encoder": 6, "decoder": 6})).stacks[stack].layers
            assert ",".join(map(str, kept)) == best[stack]

    def test_in_commands(self, learned, translation_data, tmp_path):
        checkpoint = learned[0] / "checkpoint_last.pt"
        flags = (*LAYERDROP_TRANSLATION, "--prune-layers", "decoder=keep:2@learned")
        assert "decoder 2 of 6 layers" in said(generate(translation_data, checkpoint, *flags))
        plain = ("--encoder-layerdrop", "0", "--decoder-layerdrop", "0")
        tune = ("--prune-layers", "keep:2@learned", "--finetune-from-model", checkpoint, *plain)
        told = said(train_translation(translation_data, tmp_path, 1, *tune))
        assert "encoder 2 of 6 layers" in told and not learned_importance(weights(tmp_path / "checkpoint_last.pt"))
        train_translation(translation_data, tmp_path, 2, *tune)  # goes on, though no importances are left
        [entry] = Checkpoint.load(tmp_path / "checkpoint_last.pt").history
        assert entry["checkpoint"] == "checkpoint_last.pt" and entry["updates"] == 4

    def test_begins_and_ends_with_a_fine_tuning(self, learned, translation_data, tmp_path):
        checkpoint = learned[0] / "checkpoint_last.pt"
        still = ("--optimizer", "sgd", "--lr", "0", "--finetune-from-model")
        train_translation(translation_data, tmp_path / "plain", 1, *still, checkpoint)
        plain = weights(tmp_path / "plain/checkpoint_last.pt")
        assert same(plain, {key: value for key, value in weights(checkpoint).items() if key in plain})
        assert not learned_importance(plain)
        train_translation(
            translation_data, tmp_path / "again", 1, *still, tmp_path / "plain/checkpoint_last.pt", LEARNED[1]
        )
        assert learned_importance(weights(tmp_path / "again/checkpoint_last.pt")).keys() == {"decoder"}

    def test_begins_and_ends_with_no_restart(self, learned, checkpoint, translation_data):
        """The optimizer's state wouldn't fit."""
        for folder, flags, words in (
            (learned[0], LEARNED[:1], "was trained with --decoder-layerdrop-learned; give it again"),
            (checkpoint.parent, LEARNED, "was trained without --encoder-layerdrop-learned; leave it out"),
        ):
            done = train_translation(translation_data, folder, 9, *flags, check=False)
            ends_in_one_line(done, words, f"--finetune-from-model {folder}/checkpoint_last.pt and another --save-dir")

    @NEEDS_FAIRSEQ_MAIN
    def test_whole_export_is_stock(self, learned, translation_data, tmp_path):
        checkpoint = learned[0] / "checkpoint_last.pt"
        told = layerdrop("export", checkpoint, "-o", tmp_path / "stock.pt").stdout
        assert "architecture transformer_tiny" in told
        expected = outputs(*load(checkpoint, translation_data))
        same_but_for_steps(outputs(*load(tmp_path / "stock.pt", translation_data)), expected)

    def test_mistakes(self, lm_data, tmp_path):
        train_lm(lm_data, tmp_path, 1)
        checkpoint = tmp_path / "checkpoint_last.pt"
        for command in (
            ("export", checkpoint, "--prune-layers", "keep:2@learned", "-o", tmp_path / "out.pt"),
            ("select", lm_data, "--path", checkpoint, "--method", "learned", "--cpu", "-o", tmp_path / "out.json"),
        ):
            ends_in_one_line(layerdrop(*command, check=False), "no learned importances", "--decoder-layerdrop-learned")
        done = train_lm(
            lm_data, tmp_path / "stock task", 1, "--task", "language_modeling", "--decoder-layerdrop-learned",
            check=False,
        )  # fmt: skip
        ends_in_one_line(done, "needs one of our tasks")


class TestShared:
    SHARE = ("--decoder-share-layers", "2", "--encoder-share-layers", "3")

    def test_stay_shared(self, translation_data, tmp_path):
        train_translation(translation_data, tmp_path, 3, *self.SHARE)
        full = tmp_path / "checkpoint_last.pt"

        def shared(path, stack):
            values = weights(path)
            depth = 1 + max(int(key.split(".")[2]) for key in values if key.startswith(f"{stack}.layers."))
            firsts = [values[f"{stack}.layers.{i}.fc1.weight"] for i in range(depth)]
            return [next(j for j in range(i + 1) if torch.equal(firsts[j], firsts[i])) for i in range(depth)]

        described = layerdrop("describe", full).stdout
        assert "layers shared by 3" in described
        assert f"{sum(p.numel() for p in load(full, translation_data)[0].parameters()):,}" in described
        assert shared(full, "encoder") == [0, 0, 0, 3, 3, 3] and shared(full, "decoder") == [0, 0, 2, 2, 4, 4]
        spec = "encoder=keep:0,2,5/decoder=keep:0,1,2.ffn,3,4"
        layerdrop("export", full, "--prune-layers", spec, "-o", tmp_path / "small.pt")
        expected = outputs(*load(full, translation_data, prune_layers=spec))
        assert torch.equal(outputs(*load(tmp_path / "small.pt", translation_data)), expected)
        model, _ = load(tmp_path / "small.pt", translation_data)
        assert model.encoder.layers[0].fc1.weight is model.encoder.layers[1].fc1.weight
        assert model.encoder.layers[1].fc1.weight is not model.encoder.layers[2].fc1.weight
        assert model.decoder.layers[2].fc1.weight is model.decoder.layers[3].fc1.weight
        assert shared(tmp_path / "small.pt", "decoder") == [0, 0, 2, 2, 4]
        told = run(
            "fairseq-generate", translation_data, "--path", tmp_path / "small.pt", *LAYERDROP_TRANSLATION, *EVALUATE
        )
        assert "BLEU4" in said(told)
        done = train_translation(
            translation_data, tmp_path / "refused", 1, "--decoder-share-layers", "3", "--encoder-share-layers", "3",
            "--finetune-from-model", full, check=False,
        )  # fmt: skip
        ends_in_one_line(done, "are to share their weights, and have different ones", "--decoder-share-layers")
        # trained on, both ends of a pair move together
        train_translation(
            translation_data, tmp_path / "tuned", 2, *self.SHARE, "--prune-layers", spec, "--finetune-from-model", full
        )
        assert shared(tmp_path / "tuned/checkpoint_last.pt", "decoder") == [0, 0, 2, 2, 4]
        assert shared(tmp_path / "tuned/checkpoint_last.pt", "encoder") == [0, 0, 2]

    def test_on_two_processes(self, translation_data, tmp_path):
        """torch's DistributedDataParallel has no place for weights that several checkpointed layers use."""
        flags = (*self.SHARE, "--checkpoint-activations", "--ddp-backend")
        train_on_two(translation_data, tmp_path / "two", 2, *flags, "legacy_ddp")
        assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "two/checkpoint_last.pt").values())
        for done in train_on_two(translation_data, tmp_path / "refused", 2, *flags, "pytorch_ddp", check=False):
            ends_in_one_line(done, "--checkpoint-activations", "give --ddp-backend legacy_ddp")
        train_translation(translation_data, tmp_path / "one", 1, *flags, "pytorch_ddp")
