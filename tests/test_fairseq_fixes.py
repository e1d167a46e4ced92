"""Every change to fairseq: what is wrong without it, so that a fairseq that no longer needs it is noticed."""

import argparse
import copy
import inspect
import pickle
import shutil
import struct
from collections import Counter

import numpy as np
import pytest
import torch
from fairseq.data import bucket_pad_length_dataset, data_utils
from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder
from fairseq.dataclass.configs import EMAConfig
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.models.ema.ema import EMA
from fairseq.models.transformer import TransformerModel
from omegaconf import OmegaConf

from fairseq_layerdrop import fairseq_fixes
from fairseq_layerdrop.fairseq_fixes import FIXES, apply_fixes
from fairseq_layerdrop.plan import parse, transformer_structure
from fairseq_layerdrop.surgery.build import slice_on_load
from tests.commands import (
    EVALUATE,
    NEEDS_FAIRSEQ_MAIN,
    ROOT,
    USER_DIR,
    ends_in_one_line,
    run,
    said,
    train_lm,
    train_translation,
)
from tests.models.test_layerdrop_models import FakeTask, build, settings

apply_fixes()


def in_place(fix):
    """What stands now where *fix* belongs."""
    return getattr(fix.owner, fix.function, None)


def original(name: str):
    """fairseq's own function."""
    function = in_place(next(fix for fix in FIXES if fix.name == name))
    assert function.fairseq_layerdrop_fix == name
    return function.__wrapped__


def test_applied_once_and_logged():
    before = [in_place(fix) for fix in FIXES]
    apply_fixes()
    assert [in_place(fix) for fix in FIXES] == before
    done = run("python", "-c", "import fairseq_layerdrop.register", LOGLEVEL="DEBUG")
    applied = Counter(fix.name for fix, function in zip(FIXES, before) if hasattr(function, "fairseq_layerdrop_fix"))
    assert {name: done.stderr.count(f": {name}. ") for name in applied} == applied
    assert set(applied) >= {fix.name for fix in FIXES if not fix.name.startswith(("numpy-", "preprocess-"))}


def test_prune_on_load(stock_checkpoint):
    load = original("prune-on-load")
    state = load(str(stock_checkpoint), {"prune_layers": "keep:2@top"})
    assert "prune_layers" not in state["cfg"].task  # the option is lost
    fixed = fairseq_fixes.checkpoint_utils.load_checkpoint_to_cpu(str(stock_checkpoint), {"prune_layers": "keep:2@top"})
    assert fixed["cfg"].task._name == "layerdrop_translation" and fixed["cfg"].task.prune_layers == "keep:2@top"


class _Exchange:
    """What two ranks send each other, in one process after the other."""

    def __init__(self, monkeypatch):
        self.sent = []
        self.rank = 0
        monkeypatch.setattr(distributed_utils, "get_rank", lambda group: self.rank)
        monkeypatch.setattr(distributed_utils, "broadcast", self.broadcast)

    def broadcast(self, tensor, src, group):
        if self.rank == src:
            self.sent.append(tensor.clone())
        else:
            tensor.copy_(self.sent.pop(0))

    def send(self, function, obj):
        self.rank = 0
        returned = function(obj, 0, None, torch.device("cpu"))
        self.rank = 1
        return returned, function(None, 0, None, torch.device("cpu"))


STATE = {
    "cfg": OmegaConf.create(
        {"model": argparse.Namespace(arch="a", layers=3), "task": {"_name": "translation", "data": None}},
        flags={"allow_objects": True},
    ),
    "model": {"weight": distributed_utils._TensorPlaceholder(0)},
    "extra_state": {"best": 1.5},
}


@pytest.mark.parametrize("forced", [{}, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}])
def test_broadcast(monkeypatch, forced):
    for name, value in forced.items():
        monkeypatch.setenv(name, value)
    exchange = _Exchange(monkeypatch)
    with pytest.raises(pickle.UnpicklingError):
        exchange.send(original("broadcast"), STATE)
    exchange.sent.clear()
    sent, received = exchange.send(distributed_utils._broadcast_object_slow, STATE)
    assert sent is STATE and received["extra_state"] == STATE["extra_state"]
    assert received["model"]["weight"].index == 0
    assert received["cfg"].task == STATE["cfg"].task and received["cfg"].model.layers == 3


def test_copy(tmp_path, monkeypatch):
    """While fairseq's own copy is under way, the old checkpoint is gone already."""
    source, target = tmp_path / "checkpoint1.pt", tmp_path / "checkpoint_last.pt"
    source.write_bytes(b"new")
    during = []
    copy_bytes = shutil.copyfileobj

    def watched(*args, **kwargs):
        during.append(target.read_bytes())
        return copy_bytes(*args, **kwargs)

    monkeypatch.setattr(shutil, "_USE_CP_SENDFILE", False)
    monkeypatch.setattr(shutil, "copyfileobj", watched)
    for function, seen in ((original("copy"), b""), (PathManager.copy, b"old")):
        target.write_bytes(b"old")
        assert function(str(source), str(target), True)
        assert during.pop() == seen and target.read_bytes() == b"new"


class TestAverages:
    """fairseq's EMA: mended for our models, as it was for all others."""

    def averaged(self, model, **settings) -> EMA:
        """The average of *model* and of one with all its weights one more, weighed 9 to 1."""
        average = EMA(model, EMAConfig(store_ema=True, ema_decay=0.9, **settings))
        after = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in after.parameters():
                parameter.add_(1)
        average.step(after, 1)
        return average

    def moved(self, model, fp32: bool) -> float:
        """How much of the way the average of the embeddings went; 0.1 is right."""
        average, key = self.averaged(model, ema_fp32=fp32), "encoder.embed_tokens.weight"
        values = average.fp32_params if fp32 else average.get_model().state_dict()
        return float((values[key] - model.state_dict()[key]).mean())

    @pytest.mark.parametrize("fp32", [False, True])
    def test_tied_embeddings_decay_once(self, fp32, monkeypatch):
        """As encoder's, as decoder's and as output they have three names: fairseq goes 1 - 0.9^3 of the way."""
        ours = build(settings("layerdrop_transformer_tiny", share_all_embeddings=True))
        stock = TransformerModel.build_model(settings("transformer_tiny", share_all_embeddings=True), FakeTask(40))
        once, thrice = pytest.approx(0.1, abs=1e-5), pytest.approx(1 - 0.9**3, abs=1e-5)
        assert self.moved(ours, fp32) == once
        assert self.moved(stock, fp32) == thrice  # is left alone
        monkeypatch.setattr(EMA, "_step_internal", original("ema-shared"))
        assert self.moved(ours, fp32) == thrice

    def test_the_version_stays(self, monkeypatch):
        """Without it a pre-norm stack is taken for an old one, whose last norm goes."""
        norms = {"encoder_normalize_before": True, "decoder_normalize_before": True}
        ours = build(settings("layerdrop_transformer_tiny", **norms))
        assert self.averaged(ours).get_model().decoder.layer_norm is not None
        monkeypatch.setattr(EMA, "restore", original("ema-version"))
        assert self.averaged(ours).get_model().decoder.layer_norm is None

    def test_a_pruned_model_takes_its_own_layers(self):
        """With --ema-fp32, a full model's averages go by names: layer 1 of the pruned model was the full one's 2."""
        plan = parse("decoder=keep:0,2").resolve(transformer_structure({"encoder": 2, "decoder": 3}))
        full = build(settings("layerdrop_transformer_tiny", decoder_layers=3))
        small = build(settings("layerdrop_transformer_tiny", decoder_layers=2))
        slice_on_load(small, plan, {}, {})
        key, wanted = "decoder.layers.1.fc1.weight", full.state_dict()["decoder.layers.2.fc1.weight"]
        for build_params, right in ((EMA.build_fp32_params, True), (original("ema-slice"), False)):
            average = EMA(small, EMAConfig(store_ema=True, ema_fp32=True))
            average.fp32_params = {}
            build_params(average, full.state_dict())
            assert torch.equal(average.fp32_params[key], wanted) == right


@NEEDS_FAIRSEQ_MAIN
def test_quiet(translation_data, tmp_path):
    """Users can do nothing about how fairseq calls hydra and PyTorch; who asks for warnings sees them."""
    for number, (asked, told) in enumerate((("", False), ("default", True))):
        done = train_translation(
            translation_data, tmp_path / f"{number}", 1, PYTHONPATH=str(ROOT), PYTHONWARNINGS=asked
        )
        for word in ("Warning", "hydra.experimental", "pin_memory' argument", "DEBUG:hydra"):
            assert (word in said(done)) == (told and word != "DEBUG:hydra"), word


NEEDS_NUMPY_2 = pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 has what is mended")
NEEDS_NUMPY_2_4 = pytest.mark.skipif(
    "interpolation" in inspect.signature(np.percentile).parameters, reason="this NumPy still has interpolation="
)


class TestNumpy2:
    """With NumPy 1 these tests of whole commands hold that nothing needs mending there."""

    def test_blocks_of_sentences(self, lm_data, tmp_path):
        train_lm(lm_data, tmp_path, 1, "--sample-break-mode", "eos")
        shown = run(
            "fairseq-eval-lm", lm_data, "--path", tmp_path / "checkpoint_last.pt", "--user-dir", USER_DIR,
            "--task", "layerdrop_language_modeling", *EVALUATE, "--sample-break-mode", "eos",
        )  # fmt: skip
        assert "Perplexity" in said(shown)

    def test_buckets(self, translation_data, tmp_path):
        train_translation(translation_data, tmp_path, 1, "--num-batch-buckets", "2")

    @NEEDS_NUMPY_2
    def test_numpy_compat(self):
        """Only what fairseq uses stands there, and numpy itself has nothing of that name."""
        assert vars(np.compat).keys() == {"long", "fairseq_layerdrop_fix"}
        assert run("python", "-c", "import numpy; numpy.compat", check=False).returncode

    @NEEDS_NUMPY_2_4
    def test_percentile(self):
        sizes = np.random.default_rng(0).integers(1, 100, 1000)
        with pytest.raises(TypeError, match="interpolation"):
            original("numpy-percentile")(sizes, 5)
        expected = np.unique(np.sort(sizes)[[199, 399, 599, 799, 999]])  # the lower of two neighbours, at i/5 of 999
        for module in (data_utils, bucket_pad_length_dataset):
            assert module.get_buckets(sizes, 5).tolist() == expected.tolist()


class TestOffsets:
    """Sizes as fairseq-preprocess merges them from its workers, of 2 x 4 GiB that nobody writes."""

    SIZES = (2**29, 2**29, 1)

    def written(self, folder, finalize) -> str:
        """Where *finalize* has written an index of these sizes, of 8 bytes a token."""
        builder = MMapIndexedDatasetBuilder(str(folder / "train.bin"))
        builder.add_item(torch.zeros(1))  # a file without a byte can't be mapped
        builder._sizes = list(np.array(self.SIZES, dtype=np.int32))
        finalize(builder, str(folder / "train.idx"))
        return str(folder / "train")

    def test_merged_by_workers(self, tmp_path):
        dataset = MMapIndexedDataset(self.written(tmp_path, MMapIndexedDatasetBuilder.finalize))
        assert dataset._index._pointers.tolist() == [0, 2**32, 2**33]
        assert dataset.sizes.tolist() == list(self.SIZES)

    @NEEDS_NUMPY_2
    def test_fairseq_itself_counts_in_32_bits(self, tmp_path):
        with pytest.warns(RuntimeWarning, match="overflow"):
            self.written(tmp_path, original("preprocess-offsets"))

    def test_spoilt_data_is_refused(self, translation_data, tmp_path):
        data = tmp_path / "data"
        shutil.copytree(translation_data, data)
        index = data / "train.a-b.a.idx"
        content = index.read_bytes()
        index.write_bytes(content[:-8] + struct.pack("<q", -(2**31)))
        original("read-offsets")(MMapIndexedDataset.__new__(MMapIndexedDataset), str(index)[:-4])  # fairseq reads it
        done = train_translation(data, tmp_path / "out", 1, check=False)
        ends_in_one_line(done, str(index), "--user-dir")
