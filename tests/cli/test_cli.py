"""The fairseq-layerdrop command."""

import json
import os

import pytest
import torch

from tests.commands import ROOT, ends_in_one_line, layerdrop, run


def test_user_dir():
    assert run("fairseq-layerdrop", "user-dir").stdout == f"{ROOT / 'fairseq_layerdrop'}\n"


def test_unknown_verb():
    assert run("fairseq-layerdrop", "prune", check=False).returncode == 2


class TestDescribe:
    def test_what_would_be_left(self, checkpoint, tmp_path):
        plan = ("--prune-layers", "decoder=keep:2@every_other")
        told = layerdrop("describe", checkpoint, *plan).stdout
        layerdrop("export", checkpoint, *plan, "-o", tmp_path / checkpoint.name)
        assert layerdrop("describe", tmp_path / checkpoint.name).stdout == told
        ladder = layerdrop("describe", tmp_path / "plan.json", *plan, check=False)
        ends_in_one_line(ladder, "--prune-layers is for checkpoints, not for plans and ladders")

    def test_json(self, stock_checkpoint):
        told = json.loads(run("fairseq-layerdrop", "describe", stock_checkpoint, "--json").stdout)
        model = torch.load(stock_checkpoint)["model"]
        embeddings = model["encoder.embed_tokens.weight"].numel()  # shared by encoder, decoder and output
        layers = {
            stack: sum(tensor.numel() for key, tensor in model.items() if key.startswith(f"{stack}.layers."))
            for stack in ("encoder", "decoder")
        }
        assert told == {
            "architecture": "transformer_tiny",
            "task": "translation",
            "depths": {"encoder": 6, "decoder": 6},
            "layerdrop": {"encoder": 0.0, "decoder": 0.0},
            "dropping": {"encoder": [], "decoder": []},
            "teacher": None,
            "importance": {},
            "parameters": embeddings + sum(layers.values()),
            "parameters_by_part": {
                "embeddings and output": embeddings,
                "encoder layers": layers["encoder"],
                "decoder layers": layers["decoder"],
            },
            "sub_layers": {
                "encoder": [["self_attn", "ffn"]] * 6,
                "decoder": [["self_attn", "encoder_attn", "ffn"]] * 6,
            },
            "updates": 20,
            "pruning_history": [],
        }

    def test_text(self, stock_checkpoint):
        shown = run("fairseq-layerdrop", "describe", stock_checkpoint).stdout
        assert "transformer_tiny" in shown and "6 layers, LayerDrop 0" in shown

    def test_rates_and_separate_copies_of_tied_weights(self, checkpoint, tmp_path):
        """A checkpoint saved from a GPU holds tied weights as separate tensors."""
        state = torch.load(checkpoint)
        state["model"] = {key: tensor.clone() for key, tensor in state["model"].items()}
        torch.save(state, tmp_path / "cloned.pt")
        told, tied = (
            json.loads(run("fairseq-layerdrop", "describe", path, "--json").stdout)
            for path in (tmp_path / "cloned.pt", checkpoint)
        )
        assert told == tied and told["layerdrop"] == {"encoder": 0.5, "decoder": 0.5}

    def test_missing(self, tmp_path):
        done = run("fairseq-layerdrop", "describe", tmp_path / "none.pt", check=False)
        ends_in_one_line(done, "no such checkpoint")
        assert len(done.stderr.splitlines()) == 1

    def test_truncated(self, stock_checkpoint, tmp_path):
        part = tmp_path / "part.pt"
        part.write_bytes(stock_checkpoint.read_bytes()[:5000])
        ends_in_one_line(run("fairseq-layerdrop", "describe", part, check=False), "damaged or not a checkpoint")

    def test_hostile(self, stock_checkpoint, tmp_path):
        class Payload:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "payload"),)

        torch.save({**torch.load(stock_checkpoint), "extra_state": Payload()}, tmp_path / "hostile.pt")
        done = run("fairseq-layerdrop", "describe", tmp_path / "hostile.pt", check=False)
        ends_in_one_line(done, "could run code; refused")
        assert not (tmp_path / "payload").exists()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable(self, stock_checkpoint, tmp_path):
        closed = tmp_path / "closed.pt"
        closed.write_bytes(b"")
        closed.chmod(0)
        ends_in_one_line(run("fairseq-layerdrop", "describe", closed, check=False), "Permission denied")
