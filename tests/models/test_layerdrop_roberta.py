"""The registered RoBERTas: what they are, how big, and that everything that other stacks have is there."""

from argparse import Namespace

import pytest
import torch
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta import model as stock_model

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.models.settings import EncoderDropSettings, complete_settings
from fairseq_layerdrop.modules import LayerDropModuleList
from fairseq_layerdrop.plan import PlanError, parse
from fairseq_layerdrop.surgery.build import build_pruned
from fairseq_layerdrop.surgery.config import model_structure, prune_config
from fairseq_layerdrop.surgery.state import learned_importance
from tests.commands import NEEDS_FAIRSEQ_MAIN
from tests.models.test_layerdrop_models import WARMING_UP, build, count, equal, settings, training_pass
from tests.surgery.test_build import old_attention

TINY = "layerdrop_roberta_tiny"
KINDS = ("layerdrop", "sublayerdrop", "headdrop")
TOKENS = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, 1, 1]])


def tiny_settings(**given):
    return settings(TINY, **{"encoder_layers": 4, "dropout": 0.0, "attention_dropout": 0.0, **given})


def tiny(**given):
    model = build(tiny_settings(**given), TINY)
    model.register_classification_head("topic", num_classes=3)
    return model


def layers(model):
    return model.encoder.sentence_encoder.layers


def output(model):
    return model(TOKENS)[0]


@pytest.fixture
def on_meta(monkeypatch):
    """Models without memory; fairseq's initialisation of RoBERTa can't do with them."""
    monkeypatch.setattr(stock_model, "init_bert_params", lambda module: None)
    with torch.device("meta"):
        yield


class TestArchitectures:
    @NEEDS_FAIRSEQ_MAIN
    @pytest.mark.parametrize("name", ["roberta", "roberta_base", "roberta_large", "roberta_prenorm"])
    def test_has_the_settings_and_parameters_of_the_stock_one(self, name, on_meta):
        both = Namespace()
        complete_settings(both, EncoderDropSettings)
        ours, stock = settings(f"layerdrop_{name}"), settings(name)
        assert vars(ours) == {**vars(both), **vars(stock)}
        ours, stock = build(ours, f"layerdrop_{name}"), build(stock, name)
        shapes = {key: tensor.shape for key, tensor in ours.state_dict().items()}
        assert shapes == {key: tensor.shape for key, tensor in stock.state_dict().items()}

    @pytest.mark.parametrize(
        "arch, keep, millions",
        [("base", 12, 124.7), ("base", 6, 82.2), ("base", 3, 60.9), ("large", 24, 355.4), ("large_48", 48, 657.7)],
    )
    def test_has_the_papers_size(self, arch, keep, millions, on_meta):
        arch = f"layerdrop_roberta_{arch}"
        cfg = settings(arch, max_positions=512)
        plan = parse(f"keep:{keep}@every_other").resolve(model_structure(cfg))
        model = build(prune_config(cfg, plan), arch, 50265)  # the symbols of its published dictionary
        assert round(count(model) / 1e6, 1) == millions


class TestLayerDrop:
    @NEEDS_FAIRSEQ_MAIN
    def test_zero_in_force_is_the_stock_model(self):
        """Bit by bit, with dropout, though all that drops is there."""
        rates = {f"encoder_{kind}": 0.5 for kind in KINDS}
        stock = build(tiny_settings(dropout=0.1), model=RobertaModel)
        ours = build(tiny_settings(dropout=0.1, **rates, **WARMING_UP), TINY)
        assert type(layers(ours)) is LayerDropModuleList
        expected = training_pass(stock, {"src_tokens": TOKENS})
        assert equal(training_pass(ours, {"src_tokens": TOKENS}), expected)
        assert not equal(training_pass(ours, {"src_tokens": TOKENS}, update=10), expected)

    @pytest.mark.parametrize("kind", KINDS)
    def test_evaluation_drops_nothing(self, kind):
        assert torch.equal(output(tiny(**{f"encoder_{kind}": 0.9}).eval()), output(tiny().eval()))

    @pytest.mark.parametrize("kind", ["layerdrop", "sublayerdrop"])
    def test_one_is_the_identity(self, kind):
        model = tiny(**{f"encoder_{kind}": 1.0})
        states = model(TOKENS, features_only=True, return_all_hiddens=True)[1]["inner_states"]
        assert len(states) == 5 and all(torch.equal(state, states[0]) for state in states)

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_layer_gets_a_gradient_in_every_pass(self, kind):
        model = tiny(**{f"encoder_{kind}": 0.5})
        for update in range(10):
            model.set_num_updates(update)
            model.zero_grad(set_to_none=True)
            output(model).sum().backward()
            assert all(parameter.grad is not None for parameter in model.encoder.parameters())

    def test_draws_are_those_of_any_encoder(self):
        """They are keyed by seed, update, micro-batch and stack."""

        def drawn(stack, update):
            stack.set_num_updates(update)
            return [skips.layer for _ in range(2) for skips in stack.draw()]

        given = {"encoder_layers": 4, "encoder_layerdrop": 0.5}
        other = build(settings("layerdrop_transformer_tiny", **given)).encoder.layers
        own = layers(tiny(**given))
        assert all(drawn(own, update) == drawn(other, update) for update in range(20))

    def test_settings_reach_the_stack(self):
        model = tiny(
            encoder_layerdrop_rates="0,0.1,0.2,0.4", encoder_headdrop=0.3, layerdrop_time_schedule="warmup",
            layerdrop_warmup_updates=10,
        )  # fmt: skip
        layers(model).set_num_updates(5)
        assert layers(model).rates_in_force.layers == (0, 0.05, 0.1, 0.2)
        assert layers(model).rates_in_force.heads == (0.15,) * 4

    def test_learned_rates(self):
        model = tiny(encoder_layerdrop=0.5, encoder_layerdrop_learned=True)
        importance = model.encoder.sentence_encoder.layer_importance
        for _ in range(6):  # the first losses are alike
            loss = output(model).square().sum()
            importance.join(loss, 8).backward()
        assert importance.weight.grad.any()
        assert learned_importance(model.state_dict()) == {"encoder": tuple(importance.scores.tolist())}

    def test_shared_layers(self):
        model = tiny(encoder_share_layers="2")
        weights = [layers(model)[i].fc1.weight for i in range(4)]
        assert weights[0] is weights[1] and weights[2] is weights[3] and weights[0] is not weights[2]

    @pytest.mark.parametrize("flag", [{"mha_reg_scale_factor": 0.1}, {"ffn_blocks_to_remove": 1}])
    def test_fairseqs_adaptive_pruning_is_refused(self, flag):
        with pytest.raises(UserError, match=f"--{next(iter(flag)).replace('_', '-')} and LayerDrop exclude each other"):
            tiny(encoder_layerdrop=0.5, **flag)
        tiny(**flag)

    def test_fully_sharded_training_is_refused(self):
        with pytest.raises(UserError, match="give pytorch_ddp or legacy_ddp"):
            tiny(encoder_layerdrop=0.5, ddp_backend="fully_sharded")


def old_keys(state):
    """The state dict as RoBERTa's published checkpoints name it."""
    renamed = {key.replace("layernorm_embedding", "emb_layer_norm"): value for key, value in state.items()}
    return {
        f"decoder.{key.removeprefix('encoder.')}" if key.startswith("encoder.") else key: value
        for key, value in old_attention(renamed).items()
    }


@pytest.mark.parametrize("arch", [TINY, pytest.param("roberta", marks=NEEDS_FAIRSEQ_MAIN)])
@pytest.mark.parametrize("text", ["keep:0,1,3", "encoder=drop:1,2.self_attn.head0,3.ffn"])
def test_old_keys_with_a_gap_in_the_plan(arch, text):
    full, cfg = tiny(), tiny_settings()
    old = old_keys(full.state_dict())
    assert "decoder.sentence_encoder.layers.3.self_attn.in_proj_weight" in old
    outputs = []
    for state in (full.state_dict(), old):
        pruned = build_pruned(lambda small: build(small, arch), cfg, parse(text))
        pruned.register_classification_head("topic", num_classes=3)
        pruned.load_state_dict(state, model_cfg=cfg)
        outputs += [output(pruned.eval()), pruned(TOKENS, classification_head_name="topic")[0]]
    assert torch.equal(outputs[0], outputs[2]) and torch.equal(outputs[1], outputs[3])
    full.eval()
    assert not torch.equal(outputs[0], output(full))


def test_it_has_an_encoder_alone():
    structure = model_structure(tiny_settings())
    assert parse("keep:2@top").resolve(structure) == parse("encoder=keep:2@top").resolve(structure)
    with pytest.raises(PlanError, match="this model has no decoder"):
        parse("decoder=keep:1-1").resolve(structure)
