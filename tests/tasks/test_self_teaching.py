"""A network teaches its own sub-networks: what each pass learns by real criteria, on one process and two."""

import contextlib
import copy
import socket
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from fairseq.criterions.adaptive_loss import AdaptiveLoss
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.criterions.label_smoothed_cross_entropy_with_rdrop import RdropLabelSmoothedCrossEntropyCriterion
from fairseq.criterions.masked_lm import MaskedLmLoss
from fairseq.criterions.sentence_prediction import SentencePredictionConfig, SentencePredictionCriterion
from fairseq.distributed import LegacyDistributedDataParallel, ModuleProxyWrapper
from fairseq.models import ARCH_MODEL_REGISTRY
from torch.func import functional_call
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.models import check_training
from fairseq_layerdrop.modules import LayerDropModuleList, Skips, distillation
from fairseq_layerdrop.plan import Ladder, parse, transformer_structure, write_ladder, write_plan
from fairseq_layerdrop.surgery.build import build_pruned
from fairseq_layerdrop.surgery.state import slice_state_dict
from fairseq_layerdrop.tasks.lesson import skipping, whole
from fairseq_layerdrop.tasks.self_teaching import Teaching
from tests.models.test_layerdrop_models import SAMPLE, FakeTask, build, settings, tiny, tiny_settings
from tests.models.test_layerdrop_roberta import TINY as ROBERTA
from tests.models.test_layerdrop_roberta import TOKENS
from tests.models.test_layerdrop_roberta import tiny_settings as roberta_settings
from tests.modules.test_distillation import by_definition

PLAN = "encoder=keep:0,2/decoder=keep:1,3"
ODD_PLAN = "encoder=drop:1,2.ffn,3.self_attn.head1/decoder=drop:0,1.encoder_attn,3.self_attn.head0"
TARGET = torch.tensor([[5, 6, 7, 2], [9, 10, 2, 1]])
TRANSLATION = {"net_input": SAMPLE, "target": TARGET, "ntokens": 7}
TASK = SimpleNamespace(**vars(FakeTask(40)))
SMOOTHED = LabelSmoothedCrossEntropyCriterion(TASK, sentence_avg=False, label_smoothing=0.1)


def begin(cfg, arch="layerdrop_transformer_tiny", teacher="self", **given):
    """A model in training, and the teaching that its task would do."""
    teaching = Teaching.of(Namespace(layerdrop_teacher=teacher, **given))
    task = FakeTask(40)
    task.gives_plans = teaching is not None and bool(teaching.plans)
    torch.manual_seed(1)
    model = ARCH_MODEL_REGISTRY[arch].build_model(cfg, task)
    if teaching is not None:
        teaching.begin(model, cfg)
    return model.train(), teaching


def micro_batch(model, teaching, criterion=SMOOTHED, sample=TRANSLATION, update=0):
    """One micro-batch, whose gradients are added to the model's; gives the loss of the labels and what is logged."""

    def step(criterion):
        model.set_num_updates(update)  # as fairseq's train_step does
        loss, sample_size, logged = criterion(model, sample)
        loss.backward()
        return loss, sample_size, logged

    if teaching is None:
        return step(criterion)[::2]
    return teaching.train_step(step, sample, model, criterion, update)[::2]


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def sub_network(model, cfg, plan, arch="layerdrop_transformer_tiny"):
    """The function of the pruned model, with the parameters of *model* itself."""
    pruned = build_pruned(lambda small: build(small, arch), cfg, parse(plan)).train()
    state = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    sliced = slice_state_dict(state, pruned.prune_plan)
    return lambda **sample: functional_call(
        pruned, {k: v for k, v in sliced.items() if "importance" not in k}, (), sample
    )


class TestOnePass:
    """Gradients of a micro-batch against those of a pruned model with the same parameters."""

    @pytest.mark.parametrize("plan", [PLAN, ODD_PLAN])
    @pytest.mark.parametrize("weight, temperature, labels", [(1.0, 1.0, 0.0), (0.5, 2.0, 0.25), (0.0, 1.0, 0.5)])
    def test_self(self, plan, weight, temperature, labels):
        cfg = tiny_settings(ddp_backend="pytorch_ddp")
        model, teaching = begin(
            cfg, layerdrop_plans=plan, layerdrop_teacher_weight=weight, layerdrop_teacher_temperature=temperature,
            layerdrop_teacher_labels=labels,
        )  # fmt: skip
        loss, logged = micro_batch(model, teaching)
        found = gradients(model)
        model.zero_grad()
        exact, label_loss, kl = self.by_hand(model, cfg, plan, temperature, symmetric=False)
        (exact + weight * kl + labels * label_loss).backward()
        torch.testing.assert_close(found, gradients(model), rtol=1e-4, atol=1e-5)
        assert loss.item() == pytest.approx(exact.item())
        if weight:
            assert logged["student_kl"].item() == pytest.approx(kl.item(), rel=1e-4)
        assert logged.get("student_loss", 0) == (pytest.approx(label_loss.item()) if labels else 0)
        assert logged["student_kept"] == pytest.approx(0.5 if plan == PLAN else 1 - (1 + 0.5 + 1 + 1 / 3) / 8)

    def test_of_a_pruned_model(self):
        """Heads keep the numbers of the full model."""
        cfg = tiny_settings(
            decoder_attention_heads=4, pruned_sublayers="encoder=drop:2.ffn/decoder=drop:0.self_attn.head1",
            ddp_backend="pytorch_ddp",
        )  # fmt: skip
        plan = "encoder=drop:2.self_attn,0/decoder=drop:0.self_attn.head3,1"
        model, teaching = begin(cfg, layerdrop_plans=plan)
        (draw, _), *_ = teaching.draws
        assert draw["decoder"][0].heads == {"self_attn": (2,)} and draw["encoder"][2].layer
        _, logged = micro_batch(model, teaching)
        plan = "encoder=drop:0,2/decoder=drop:0.self_attn.head3,1"
        assert logged["student_kl"].item() == pytest.approx(
            self.by_hand(model, cfg, plan, 1.0, False)[2].item(), rel=1e-4
        )

    def test_r_drop(self):
        cfg = tiny_settings(ddp_backend="pytorch_ddp")
        model, teaching = begin(cfg, teacher="r_drop", layerdrop_plans=PLAN, layerdrop_teacher_weight=3.0)
        _, logged = micro_batch(model, teaching)
        found = gradients(model)
        model.zero_grad()
        exact, label_loss, kl = self.by_hand(model, cfg, PLAN, 1.0, symmetric=True)
        (0.5 * (exact + label_loss + 3.0 * kl)).backward()
        torch.testing.assert_close(found, gradients(model), rtol=1e-4, atol=1e-5)
        assert logged["student_loss"].item() == pytest.approx(label_loss.item())

    @staticmethod
    def by_hand(model, cfg, plan, temperature, symmetric):
        """Losses of the labels for the whole network and for the pruned one, and their divergence."""
        lists = [module for module in model.modules() if isinstance(module, LayerDropModuleList)]
        layers = {of_stack.stack: of_stack for of_stack in lists}
        with skipping(layers, whole(layers)):
            logits = model(**SAMPLE)[0]
        student = sub_network(model, cfg, plan)(**SAMPLE)[0]
        losses = [SMOOTHED.compute_loss(model, (out, None), TRANSLATION)[0] for out in (logits, student)]
        scored = TARGET.ne(1).flatten().float()
        kl = by_definition(logits.flatten(0, 1), student.flatten(0, 1), scored, temperature, symmetric)
        return *losses, kl

    def test_prefixes_that_are_not_scored(self):
        """No distillation where --ignore-prefix-size takes the labels away."""
        cfg = tiny_settings(ddp_backend="pytorch_ddp")
        criterion = LabelSmoothedCrossEntropyCriterion(TASK, False, 0.1, ignore_prefix_size=2)
        model, teaching = begin(cfg, layerdrop_plans=PLAN)
        _, logged = micro_batch(model, teaching, criterion)
        scored = TARGET.ne(1).float()
        scored[:, :2] = 0
        with torch.no_grad():
            whole = [build(cfg).train(), sub_network(model, cfg, PLAN)]
            logits = [network(**SAMPLE)[0].flatten(0, 1) for network in whole]
        assert logged["student_kl"].item() == pytest.approx(by_definition(*logits, scored.flatten(), 1.0, False).item())


class TestKinds:
    """Other criteria and models: the divergence that is logged, by hand, and that every parameter learns."""

    @staticmethod
    def kl(logits, scored=None):
        rows = [out.flatten(0, -2) for out in logits]
        weights = torch.ones(len(rows[0])) if scored is None else scored.flatten().float()
        return by_definition(*rows, weights, 1.0, False).item()

    def networks(self, arch, cfg, plan, criterion, sample, head=False):
        """What a micro-batch logs, and the outputs of the whole network and of the sub-network before it."""
        model, teaching = begin(cfg, arch, layerdrop_plans=plan)
        if head:
            torch.manual_seed(2)
            model.register_classification_head("topic", num_classes=head)
        if arch == ROBERTA:  # whose layers do little at first
            for parameter in model.parameters():
                parameter.data.mul_(4)
        outputs = []
        for skips in ([Skips()] * 4, teaching.draws[0][0][next(iter(teaching.draws[0][0]))]):
            (layers,) = (module for module in model.modules() if isinstance(module, LayerDropModuleList))
            with layers.skipping(skips), torch.no_grad():
                kwargs = {"features_only": True, "classification_head_name": "topic"} if head else {}
                outputs.append(model(**sample["net_input"], **kwargs)[0])
        _, logged = micro_batch(model, teaching, criterion, sample)
        learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        return logged["student_kl"].item(), outputs, {name for name, _ in model.named_parameters()} - learned

    def test_masked_lm(self):
        """Only masked positions count; the model gives no others."""
        tokens = torch.tensor([[0, 5, 39, 7, 2], [0, 39, 2, 1, 1]])
        target = torch.tensor([[1, 1, 6, 1, 1], [1, 9, 1, 1, 1]])
        sample = {"net_input": {"src_tokens": tokens}, "target": target, "ntokens": 10, "nsentences": 2}
        found, logits, lazy = self.networks(
            ROBERTA, roberta_settings(), "keep:1,3", MaskedLmLoss(Namespace(tpu=False), TASK), sample
        )
        assert found == pytest.approx(self.kl(logits, target.ne(1)), rel=1e-3) and found > 0.01 and not lazy

    @pytest.mark.parametrize("classes", [3, 1])
    def test_sentences(self, classes):
        """Every sentence counts, whatever its class; a regression (one output) learns by squares."""
        settings = SentencePredictionConfig(classification_head_name="topic", regression_target=classes == 1)
        task = SimpleNamespace(**vars(TASK), label_dictionary=None)
        criterion = SentencePredictionCriterion(settings, task)
        target = torch.tensor([[0.3], [0.9]]) if classes == 1 else torch.tensor([[1], [2]])
        sample = {"net_input": {"src_tokens": TOKENS}, "target": target, "ntokens": 8}
        found, outputs, lazy = self.networks(ROBERTA, roberta_settings(), "keep:1,3", criterion, sample, head=classes)
        expected = (outputs[0] - outputs[1]).square().sum().item() if classes == 1 else self.kl(outputs)
        assert found == pytest.approx(expected, rel=1e-3) and found > 0.01
        assert {name.split(".")[1] for name in lazy} <= {"lm_head"}

    @pytest.mark.parametrize("pieces", [False, True])
    def test_adaptive_softmax(self, pieces, monkeypatch):
        """The divergence is that of the distributions over all words."""
        if pieces:
            monkeypatch.setattr(distillation, "_LARGE", 100)
        arch = "layerdrop_transformer_lm_tiny"
        cfg = settings(
            arch, decoder_layers=4, dropout=0.0, attention_dropout=0.0, adaptive_softmax_dropout=0.0,
            adaptive_softmax_cutoff="10,20", adaptive_softmax_factor=2,
            adaptive_input=True, adaptive_input_cutoff="10,20", adaptive_input_factor=2,
            tie_adaptive_weights=True, ddp_backend="legacy_ddp",
        )  # fmt: skip
        tokens, target = torch.randint(4, 40, (2, 3, 6), generator=torch.Generator().manual_seed(1))
        sample = {"net_input": {"src_tokens": tokens}, "target": target, "ntokens": 18}
        found, features, lazy = self.networks(arch, cfg, "keep:1,3", AdaptiveLoss(TASK, False), sample)
        softmax = build(cfg, arch).decoder.adaptive_softmax  # the same weights, from the same seed
        logits = [softmax.get_log_prob(rows, None) for rows in features]
        assert found == pytest.approx(self.kl(logits), rel=1e-4) and found > 0.1 and not lazy

    def test_language_model_in_bfloat16(self):
        arch = "layerdrop_transformer_lm_tiny"
        cfg = settings(arch, decoder_layers=4, dropout=0.0, attention_dropout=0.0)
        tokens, target = torch.randint(4, 40, (2, 3, 6), generator=torch.Generator().manual_seed(1))
        sample = {"net_input": {"src_tokens": tokens}, "target": target, "ntokens": 18}
        grads = []
        for kind in (torch.float32, torch.bfloat16):
            model, teaching = begin(cfg, arch, layerdrop_plans="keep:1,3")
            micro_batch(model.to(kind), teaching, CrossEntropyCriterion(TASK, False), sample)
            assert all(parameter.grad.dtype == kind for parameter in model.parameters())
            grads.append(torch.cat([parameter.grad.float().flatten() for parameter in model.parameters()]))
        assert functional.cosine_similarity(*grads, dim=0) > 0.99

    def test_a_criterion_that_calls_the_model_twice(self):
        def twice(model, sample):
            SMOOTHED(model, sample)
            return SMOOTHED(model, sample)

        model, teaching = begin(tiny_settings(0.5))
        with pytest.raises(UserError, match="needs a criterion that calls the model once; function calls it 2 times"):
            micro_batch(model, teaching, twice)

    def test_fairseqs_r_drop(self):
        """It runs each sentence twice in a pass."""
        model, teaching = begin(tiny_settings(0.5))
        criterion = RdropLabelSmoothedCrossEntropyCriterion(TASK, False, 0.1, rdrop_alpha=1.0)
        with pytest.raises(UserError, match="needs a criterion that gives the model each sentence once; RdropLabel"):
            micro_batch(model, teaching, criterion, copy.deepcopy(TRANSLATION))  # which it changes


class TestReduces:
    """To the plain training, bit for bit, dropout and all."""

    @pytest.mark.parametrize(
        "rate, given",
        [
            (0.0, {}),
            (0.5, {"layerdrop_teacher_weight": 0.0}),
            (
                0.0,
                {"layerdrop_plans": "encoder=keep:4@every_other/decoder=drop:0.ffn", "layerdrop_teacher_weight": 0.0},
            ),
            (0.0, {"layerdrop_plans": "decoder=keep:4@every_other"}),
        ],
    )
    def test_self(self, rate, given):
        found = []
        for ours in (False, True):
            cfg = tiny_settings(rate if ours else 0.0, dropout=0.3)
            model, teaching = begin(cfg, teacher="self" if ours else "none", **(given if ours else {}))
            torch.manual_seed(5)
            for _ in range(2):  # micro-batches of an update
                loss, logged = micro_batch(model, teaching)
            found.append({"": loss, **gradients(model)})
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
        assert logged["student_kept"] == logged["student_kl"] == 0

    def test_r_drop(self):
        """Two passes that are alike have the gradients of one."""
        found = []
        for teacher in ("none", "r_drop"):
            model, teaching = begin(tiny_settings(0.0), teacher=teacher)
            _, logged = micro_batch(model, teaching)
            found.append(gradients(model))
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
        assert logged["student_kept"] == 1

    def test_r_drop_has_two_dropouts(self):
        model, teaching = begin(tiny_settings(0.0, dropout=0.3), teacher="r_drop")
        assert micro_batch(model, teaching)[1]["student_kl"] > 0.01


class TestDraws:
    @staticmethod
    def drawn(teaching, model, updates, micro_batches=2):
        layers = {module.stack: module for module in model.modules() if isinstance(module, LayerDropModuleList)}
        for update in updates:
            model.set_num_updates(update)
            for _ in range(micro_batches):
                yield [
                    {name: tuple(skipped.layer for skipped in skips) for name, skips in draw.items()}
                    for draw in teaching.students(layers, update)
                ]

    def test_are_layerdrops(self):
        """The sub-networks are those that the same training without a teacher trains."""
        model, teaching = begin(tiny_settings(0.5))
        alone = tiny(0.5)
        for update, (draws,) in enumerate(self.drawn(teaching, model, range(20), micro_batches=1)):
            alone.set_num_updates(update)
            expected = {name: tuple(skipped.layer for skipped in getattr(alone, name).layers.draw()) for name in draws}
            assert draws == expected

    PLANS = "encoder=keep:2,4@every_other/decoder=keep:1-3@every_other encoder=keep:1@top*3"

    def test_of_plans(self):
        """By their weights, and after a restart the same."""
        draws = []
        for start in (0, 150):
            model, teaching = begin(tiny_settings(), layerdrop_plans=self.PLANS)
            draws.append([draw for (draw,) in self.drawn(teaching, model, range(start, 300))])
        assert draws[0][300:] == draws[1]
        tops = sum(draw["decoder"] == (False,) * 4 for draw in draws[0])
        assert abs(tops / 600 - 1 / 3) < 5 * (2 / 9 / 600) ** 0.5
        assert len({str(draw) for draw in draws[0]}) == 7
        cfg = tiny_settings()
        cfg.seed = 2
        model, teaching = begin(cfg, layerdrop_plans=self.PLANS)
        assert [draw for (draw,) in self.drawn(teaching, model, range(300))] != draws[0]

    def test_of_files(self, tmp_path):
        """A plan file, and some rungs of a ladder."""
        structure = transformer_structure({"encoder": 4, "decoder": 4})
        removals = tuple(("decoder", layer, None) for layer in (2, 1))
        write_ladder(Ladder(structure, removals, (0.0, 0.0)), tmp_path / "order.json")
        write_plan(parse(PLAN).resolve(structure), tmp_path / "plan.json")
        _, teaching = begin(
            tiny_settings(), layerdrop_plans=f"decoder=keep:2-3@{tmp_path}/order.json {tmp_path}/plan.json"
        )
        kept = [
            [[i for i, skipped in enumerate(draw[name]) if not skipped] for name in ("encoder", "decoder")]
            for draw, _ in teaching.draws
        ]
        assert kept == [[[0, 2], [1, 3]], [[0, 1, 2, 3], [0, 3]], [[0, 1, 2, 3], [0, 1, 3]]]

    def test_sandwich(self):
        model, teaching = begin(tiny_settings(), layerdrop_plans=self.PLANS, layerdrop_sandwich=True)
        draws = list(self.drawn(teaching, model, range(100)))
        smallest = {"encoder": (False, True, False, True), "decoder": (False, True, True, True)}
        assert all(draw[0] == smallest and len(draw) == 2 for draw in draws)
        assert len({str(draw[1]) for draw in draws}) == 6 and smallest not in [draw[1] for draw in draws]

    def test_sandwich_shares_the_weight(self):
        """Two students have together the weight of one."""
        plans = ["decoder=keep:0-0", "decoder=keep:0,2"]
        found = []
        for given in (plans[:1], plans[1:], plans):
            model, teaching = begin(
                tiny_settings(), layerdrop_plans=" ".join(given), layerdrop_sandwich=len(given) == 2
            )
            _, logged = micro_batch(model, teaching)
            found.append((gradients(model), logged))
        for name in found[0][0]:
            torch.testing.assert_close(
                found[2][0][name], 0.5 * (found[0][0][name] + found[1][0][name]), rtol=1e-4, atol=1e-5
            )
        assert found[2][1]["student_kept"] == pytest.approx(5 / 8 + 6 / 8)
        assert found[2][1]["student_kl"] == pytest.approx((found[0][1]["student_kl"] + found[1][1]["student_kl"]) / 2)


MODES = [
    {"teacher": "self", "rate": 0.5},
    {"teacher": "self", "rate": 0.5, "layerdrop_teacher_labels": 0.5, "decoder_layerdrop_learned": True},
    {"teacher": "self", "layerdrop_plans": TestDraws.PLANS, "layerdrop_sandwich": True},
    {"teacher": "r_drop", "layerdrop_plans": TestDraws.PLANS},
]


def train(mode, rows, wrapped=lambda model: model):
    """Three updates of two micro-batches, some rows of each, as fairseq's trainer makes them; gives the parameters."""
    mode = dict(mode)
    given = {key: mode.pop(key) for key in [*mode] if key.startswith("layerdrop_")}
    cfg = tiny_settings(
        mode.pop("rate", 0.0), ddp_backend="pytorch_ddp", **{k: v for k, v in mode.items() if k != "teacher"}
    )
    model, teaching = begin(cfg, teacher=mode["teacher"], **given)
    outer = wrapped(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for update in range(3):
        optimizer.zero_grad()
        for number in range(2):
            tokens = torch.randint(4, 40, (4, 7), generator=torch.Generator().manual_seed(2 * update + number))[rows]
            inputs = {"src_tokens": tokens, "src_lengths": torch.full((len(tokens),), 7), "prev_output_tokens": tokens}
            sample = {"net_input": inputs, "target": tokens.roll(-1, 1), "ntokens": tokens.numel()}
            with outer.no_sync() if number == 0 and hasattr(outer, "no_sync") else contextlib.nullcontext():
                micro_batch(outer, teaching, sample=sample, update=update)
        if hasattr(outer, "all_reduce_grads"):
            outer.all_reduce_grads()
        for parameter in model.parameters():
            parameter.grad /= len(tokens) * 14
        optimizer.step()
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def by_torch(model):
    return ModuleProxyWrapper(DistributedDataParallel(model))


def by_fairseq(model):
    return ModuleProxyWrapper(LegacyDistributedDataParallel(model, dist.group.WORLD))


def worker(rank, port, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows = slice(2 * rank, 2 * rank + 2)
    for number, mode in enumerate(MODES):
        for wrapped in (by_torch, by_fairseq):
            parameters = train(mode, rows, wrapped)
            results[number, wrapped.__name__, rank] = {name: tensor.tolist() for name, tensor in parameters.items()}
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = torch.multiprocessing.Manager().dict()
    torch.multiprocessing.spawn(worker, args=(port, results), nprocs=2)
    return dict(results)


@pytest.mark.parametrize("wrapped", [by_torch, by_fairseq], ids=["pytorch_ddp", "legacy_ddp"])
@pytest.mark.parametrize("number", range(len(MODES)))
def test_two_processes_are_as_one(number, wrapped, two_processes):
    one = train(MODES[number], slice(None))
    for name, tensor in one.items():
        both = [torch.tensor(two_processes[number, wrapped.__name__, rank][name]) for rank in (0, 1)]
        assert torch.equal(*both)
        torch.testing.assert_close(both[0], tensor, rtol=1e-4, atol=1e-6)


class TestMistakes:
    @pytest.mark.parametrize(
        "rate, given, words",
        [
            (0.5, {"layerdrop_teacher_weight": -1.0}, "--layerdrop-teacher-weight must be 0 or more, not -1.0"),
            (0.5, {"layerdrop_teacher_labels": float("nan")}, "--layerdrop-teacher-labels must be 0 or more, not nan"),
            (0.5, {"layerdrop_teacher_temperature": 0.0}, "--layerdrop-teacher-temperature must be above 0, not 0.0"),
            (
                0.5,
                {"layerdrop_plans": "keep:3@top"},
                "--layerdrop-plans and the rates of the encoder exclude each other",
            ),
            (0.0, {"layerdrop_plans": "keep:5@top"}, "the encoder has 4 layers, so keep 1 to 4 of them"),
            (0.0, {"layerdrop_plans": "decoder=keep:2@learned"}, "no learned importances"),
            (0.0, {"layerdrop_plans": " "}, "there are no plans"),
            (
                0.0,
                {"layerdrop_plans": "decoder=drop:1.self_attn.head0", "quant_noise_pq": 0.1},
                "heads in --layerdrop-plans and --quant-noise-pq exclude each other",
            ),
            (0.5, {"layerdrop_sandwich": True}, "--layerdrop-sandwich needs several --layerdrop-plans"),
            (0.5, {"teacher": "r_drop", "layerdrop_teacher_labels": 0.5}, "--layerdrop-teacher-labels is for .* self"),
            (
                0.0,
                {"teacher": "r_drop", "layerdrop_plans": "keep:1-2@top", "layerdrop_sandwich": True},
                "--layerdrop-sandwich is for --layerdrop-teacher self",
            ),
            *(
                (0.5, {"teacher": "none", name: value}, f"--{name.replace('_', '-')} is for --layerdrop-teacher; leave")
                for name, value in {
                    "layerdrop_teacher_weight": 0.5,
                    "layerdrop_teacher_temperature": 2.0,
                    "layerdrop_teacher_labels": 0.5,
                    "layerdrop_plans": "keep:3@top",
                    "layerdrop_sandwich": True,
                }.items()
            ),
        ],
    )
    def test_flags(self, rate, given, words):
        with pytest.raises(UserError, match=words):
            begin(tiny_settings(rate, quant_noise_pq=given.pop("quant_noise_pq", 0)), **given)

    @pytest.mark.parametrize(
        "given, words",
        [
            ({"layerdrop_plans": "keep:3@top"}, "--decoder-layerdrop-learned and --layerdrop-plans exclude each other"),
            ({"layerdrop_teacher_weight": 0.0}, "--decoder-layerdrop-learned and a --layerdrop-teacher-weight of 0"),
        ],
    )
    def test_learned_rates(self, given, words):
        with pytest.raises(UserError, match=words):
            begin(tiny_settings(0.5, decoder_layerdrop_learned=True), **given)

    def test_stock_architecture(self):
        with pytest.raises(UserError, match="--layerdrop-teacher works with our architectures; give --arch layerdrop_"):
            begin(settings("transformer_tiny", decoder_layerdrop=0.5), "transformer_tiny")

    def test_nothing_to_teach_is_told(self, caplog):
        begin(tiny_settings())
        assert "--layerdrop-teacher has no sub-network to teach" in caplog.text

    @pytest.mark.parametrize(
        "teacher, settings, backend, words",
        [
            ("self", {}, "fully_sharded", "doesn't train with --ddp-backend fully_sharded"),
            (
                "r_drop",
                {"checkpoint_activations": True},
                "pytorch_ddp",
                "--checkpoint-activations and --layerdrop-teacher r_drop",
            ),
            ("r_drop", {"checkpoint_activations": True}, "legacy_ddp", None),
            ("self", {"checkpoint_activations": True}, "pytorch_ddp", None),
        ],
    )
    def test_several_processes(self, teacher, settings, backend, words):
        teaching = Teaching.of(Namespace(layerdrop_teacher=teacher, layerdrop_plans="decoder=keep:2@top"))
        distribution = Namespace(distributed_world_size=2, ddp_backend=backend)
        with pytest.raises(UserError, match=words) if words else contextlib.nullcontext():
            check_training(tiny_settings(**settings), distribution, **teaching.needs)
