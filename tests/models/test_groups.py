"""Dropping sub-layers and heads while training: against the layers' own formulas, and against stock models."""

import copy
from dataclasses import replace
from itertools import chain, combinations

import pytest
import torch

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.modules import DropRates, LayerDropModuleList, remove_heads, sub_layers_of, without
from fairseq_layerdrop.modules.layer_drop import Skips
from fairseq_layerdrop.plan import SUB_LAYERS
from tests.commands import NEEDS_FAIRSEQ_MAIN
from tests.models.test_layerdrop_models import (
    SAMPLE,
    WARMING_UP,
    build,
    equal,
    settings,
    tiny,
    tiny_settings,
    training_pass,
)

KINDS = ("layerdrop", "sublayerdrop", "headdrop")
SOME_KINDS = [kinds for size in (1, 2, 3) for kinds in combinations(KINDS, size)]


def dropping(also=(), **rates):
    """A 4 + 4-layer model without dropout, in training mode; *rates* are those of both stacks."""
    given = {f"{stack}_{kind}": rate for kind, rate in rates.items() for stack in ("encoder", "decoder")}
    given = {"dropout": 0.0, "encoder_layers": 4, "decoder_layers": 4, **given, **dict(also)}
    return build(settings("layerdrop_transformer_tiny", **given))


def outputs(model, update=0):
    model.set_num_updates(update)
    return model(**SAMPLE)[0]


def attention_by_heads(attention, x, heads, key=None):
    """Attention over T x B x C written out head by head, over *heads* alone."""
    key = x if key is None else key
    width = attention.head_dim
    out = attention.out_proj.bias.expand_as(x).clone()
    for head in heads:
        rows = slice(head * width, (head + 1) * width)

        def project(linear, states, rows=rows):
            return torch.einsum("tbc,dc->btd", states, linear.weight[rows]) + linear.bias[rows]

        q, k, v = project(attention.q_proj, x), project(attention.k_proj, key), project(attention.v_proj, key)
        weights = torch.softmax(q @ k.transpose(1, 2) * width**-0.5, dim=-1)
        out = out + torch.einsum("btd,cd->tbc", weights @ v, attention.out_proj.weight[:, rows])
    return out


class TestWithout:
    """A layer without some groups, by hand."""

    @pytest.fixture
    def layer(self):
        return tiny().encoder.layers[0].eval()

    @pytest.mark.parametrize("heads", [(0,), (1,)])
    def test_heads_are_left_out_of_the_projection(self, layer, heads):
        x = torch.randn(5, 2, 64)
        kept = [head for head in range(layer.self_attn.num_heads) if head not in heads]
        attended = layer.self_attn_layer_norm(x + attention_by_heads(layer.self_attn, x, kept))
        expected = layer.final_layer_norm(attended + layer.fc2(torch.relu(layer.fc1(attended))))
        torch.testing.assert_close(without(layer, heads={"self_attn": heads})(x, None), expected)

    def test_sub_layers_are_the_identity(self, layer):
        x = torch.randn(5, 2, 64)
        attended = layer.self_attn_layer_norm(x + attention_by_heads(layer.self_attn, x, range(2)))
        torch.testing.assert_close(without(layer, ["ffn"])(x, None), attended)
        expected = layer.final_layer_norm(x + layer.fc2(torch.relu(layer.fc1(x))))
        torch.testing.assert_close(without(layer, ["self_attn"])(x, None), expected)
        assert torch.equal(without(layer, ["self_attn", "ffn"])(x, None), x)

    def test_the_layer_stays_as_it_is(self, layer):
        before, x = copy.deepcopy(layer), torch.randn(5, 2, 64)
        without(layer, ["ffn"], {"self_attn": (0,)})
        assert str(layer) == str(before) and torch.equal(layer(x, None), before(x, None))

    def test_dropped_heads_get_zero_gradients(self, layer):
        without(layer, heads={"self_attn": (1,)})(torch.randn(5, 2, 64), None).pow(2).sum().backward()
        attention = layer.self_attn
        for gradient in (
            attention.q_proj.weight.grad,
            attention.v_proj.weight.grad,
            attention.out_proj.weight.grad.t(),
        ):
            assert gradient[:32].any() and not gradient[32:].any()

    @pytest.mark.parametrize("heads", [(0, 1), (2,)])
    def test_impossible_heads(self, layer, heads):
        with pytest.raises(ValueError, match="heads must be"):
            if heads == (0, 1):  # these are all
                without(layer, heads={"self_attn": heads})
            remove_heads(layer.self_attn, heads)


@pytest.mark.parametrize("kinds", SOME_KINDS, ids="+".join)
class TestExtremes:
    @NEEDS_FAIRSEQ_MAIN
    def test_zero_in_force_is_the_stock_model(self, kinds):
        """Bit by bit, forwards and backwards, with dropout, though all that drops is there."""
        ours = dropping(**dict.fromkeys(kinds, 0.5), also={**WARMING_UP, "dropout": 0.1})
        assert all(type(stack.layers) is LayerDropModuleList for stack in (ours.encoder, ours.decoder))
        expected = training_pass(build(tiny_settings(dropout=0.1), "transformer_tiny"), SAMPLE)
        assert equal(training_pass(ours, SAMPLE), expected)
        assert not equal(training_pass(ours, SAMPLE, update=10), expected)

    def test_one_is_the_identity(self, kinds):
        """Without attention, each layer of the heads' model is its feed-forward part; any other kind takes that too."""
        model = dropping(**dict.fromkeys(kinds, 1.0))
        left = ["ffn"] if kinds == ("headdrop",) else []
        run = []
        for layer in model.modules():
            if hasattr(layer, "fc1"):
                layer.fc1.register_forward_hook(lambda *_: run.append("ffn"))
                layer.self_attn.register_forward_hook(lambda *_: run.append("self_attn"))
        out = outputs(model)
        assert run == left * 8
        stock = build(tiny_settings(), "transformer_tiny")
        for stack in (stock.encoder, stock.decoder):
            stack.layers = torch.nn.ModuleList(
                [without(layer, [name for name in SUB_LAYERS if name not in left]) for layer in stack.layers]
            )
        assert torch.equal(out, outputs(stock))

    def test_evaluation_drops_nothing(self, kinds):
        stock = build(tiny_settings(), "transformer_tiny").eval()
        assert torch.equal(outputs(dropping(**dict.fromkeys(kinds, 0.9)).eval()), outputs(stock))


@pytest.mark.parametrize("kind", KINDS)
class TestBackwards:
    def test_every_parameter_gets_a_gradient(self, kind):
        """Also those of the encoder where nothing attends to it: torch's DDP waits for all."""
        model = dropping(**{kind: 1.0})
        outputs(model).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    def test_checkpointed_activations_change_nothing(self, kind):
        given = {f"{stack}_{kind}": 0.5 for stack in ("encoder", "decoder")}
        gradients = []
        for checkpointed in (False, True):
            given = {**given, "encoder_layers": 4, "decoder_layers": 4, "dropout": 0.0}
            model = build(settings("layerdrop_transformer_tiny", checkpoint_activations=checkpointed, **given))
            outputs(model, update=3).pow(2).sum().backward()
            gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        assert any(not gradient.any() for gradient in gradients[0].values())
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


class TestDraws:
    def passes(self, number, **rates):
        layers = dropping(**rates).decoder.layers
        for update in range(number):
            layers.set_num_updates(update)
            yield layers.draw()

    def test_expected_number_of_sub_layers(self):
        """2,000 passes of 12 groups at p = 0.2: |mean - p| < 5 standard errors (chance: 6e-7)."""
        skipped = [
            len(SUB_LAYERS) if skips.layer else len(skips.sub_layers)
            for drawn in self.passes(2000, sublayerdrop=0.2)
            for skips in drawn
        ]
        total = 2000 * 12
        assert abs(sum(skipped) / total - 0.2) < 5 * (0.2 * 0.8 / total) ** 0.5

    def test_expected_number_of_heads(self):
        """As above, for the 2 heads of 8 attentions; an attention without heads counts as both."""
        dropped = [
            sum(map(len, skips.heads.values())) + 2 * len(skips.sub_layers)
            for drawn in self.passes(2000, headdrop=0.2)
            for skips in drawn
        ]
        total = 2000 * 16
        assert abs(sum(dropped) / total - 0.2) < 5 * (0.2 * 0.8 / total) ** 0.5

    def test_kinds_draw_independently(self):
        """The layers that a seed skips are the same whatever else is dropped."""
        alone = [[skips.layer for skips in drawn] for drawn in self.passes(50, layerdrop=0.5)]
        along = [[skips.layer for skips in drawn] for drawn in self.passes(50, layerdrop=0.5, headdrop=0.1)]
        assert alone == along
        drops = {  # the first group of each kind
            "layerdrop": lambda skips: skips.layer,
            "sublayerdrop": lambda skips: skips.layer or "self_attn" in skips.sub_layers,
            "headdrop": lambda skips: "self_attn" in skips.sub_layers or 0 in skips.heads.get("self_attn", ()),
        }
        assert len({tuple(of(drawn[0]) for drawn in self.passes(50, **{kind: 0.5})) for kind, of in drops.items()}) == 3

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_precision(self, dtype, autocast):
        """What fairseq's --bf16, --fp16 and --amp make of a model; their optimizers need a GPU."""
        given = {f"{stack}_{kind}": 0.4 for stack in ("encoder", "decoder") for kind in KINDS}
        learned = {"decoder_layerdrop_learned": True, "dropout": 0.0, "encoder_layers": 4, "decoder_layers": 4}
        model = build(settings("layerdrop_transformer_tiny", **given, **learned))
        model = model if autocast else model.to(dtype)
        for update in range(3):
            with torch.autocast("cpu", dtype, enabled=autocast):
                loss = outputs(model, update).float().sum()
            (model.decoder.layer_importance.join(loss, 8) * 16).backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())

    def test_expected_number_of_all_kinds(self):
        """A layer's sub-layers and heads that run, at p = 0.2 of each kind, q = 1 - p.

        The feed-forward part runs with probability q^2, an attention with q^2 (1 - p^2), as it goes with its 2 heads,
        and each head with q^3. 2,000 passes of 4 layers: each mean within 5 of its standard errors (chance: 6e-7).
        """
        found = {"sub-layers": [], "heads": []}
        for skips in chain.from_iterable(self.passes(2000, **dict.fromkeys(KINDS, 0.2))):
            left = [] if skips.layer else [name for name in SUB_LAYERS if name not in skips.sub_layers]
            found["sub-layers"].append(len(left))
            found["heads"].append(sum(2 - len(skips.heads.get(name, ())) for name in left if name != "ffn"))
        expected = {"sub-layers": 0.8**2 * (1 + 2 * (1 - 0.2**2)), "heads": 4 * 0.8**3}
        for name, counts in found.items():
            counts = torch.tensor(counts, dtype=torch.double)
            assert abs(counts.mean() - expected[name]) < 5 * counts.std() / len(counts) ** 0.5


def by_hand(layer, x, skips, encoded):
    """A post-norm layer over T x B x C written out, without what is skipped of it."""
    if skips.layer:
        return x
    for name, key in (("self_attn", None), ("encoder_attn", encoded)):
        attention = getattr(layer, name, None)
        if attention is not None and name not in skips.sub_layers:
            heads = [head for head in range(attention.num_heads) if head not in skips.heads.get(name, ())]
            x = getattr(layer, f"{name}_layer_norm")(x + attention_by_heads(attention, x, heads, key))
    return x if "ffn" in skips.sub_layers else layer.final_layer_norm(x + layer.fc2(torch.relu(layer.fc1(x))))


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_all_kinds_together(stack):
    """Each pass is what the formulas say of the groups that it keeps; its gradients are theirs, and else zero."""
    layers = getattr(dropping(**dict.fromkeys(KINDS, 0.3)), stack).layers
    x, encoded, weights = torch.randn(5, 2, 64), torch.randn(3, 2, 64), torch.randn(5, 2, 64)
    seen = set()
    for update in range(20):
        layers.set_num_updates(update)
        drawn = layers.draw()
        layers.micro_batch = 0  # that the pass draws the same
        found = x
        for layer in layers:
            found = layer(found, None) if stack == "encoder" else layer(found, encoded)[0]
        expected = x.clone().requires_grad_()
        for number, skips in enumerate(drawn):
            seen |= {"layer"} if skips.layer else {*skips.sub_layers, *skips.heads}
            expected = by_hand(layers[number], expected, skips, encoded)
        torch.testing.assert_close(found, expected)
        if all(skips.layer for skips in drawn):
            continue
        parameters = tuple(layers.parameters())
        gradients = torch.autograd.grad((found * weights).sum(), parameters)
        others = torch.autograd.grad((expected * weights).sum(), parameters, materialize_grads=True)
        torch.testing.assert_close(gradients, others, rtol=1e-4, atol=1e-4)
    assert seen >= {"layer", "self_attn", "ffn"}


class TestRates:
    def test_depth_schedules(self):
        rates = {
            schedule: tiny(0.4, layerdrop_depth_schedule=schedule).encoder.layers.rates.layers
            for schedule in ("uniform", "linear", "exponential")
        }
        assert rates["uniform"] == (0.4,) * 4
        assert rates["linear"] == pytest.approx([0.1, 0.2, 0.3, 0.4])  # stochastic depth: l/L p, l = 1..L
        assert rates["exponential"] == pytest.approx([0.4 * (2 ** (i / 3) - 1) for i in range(4)])  # LayerSkip

    @pytest.mark.parametrize("kind, field", zip(KINDS, ("layers", "sub_layers", "heads")))
    def test_listed_rates(self, kind, field):
        """In the layers named, the groups of that kind and no others; a warm-up goes over the list."""
        warmup = {"layerdrop_time_schedule": "warmup", "layerdrop_warmup_updates": 10}
        model = tiny(**{f"decoder_{kind}_rates": "0,0.1,0.5,1"}, **warmup)
        layers = model.decoder.layers
        assert layers.rates == replace(DropRates((0.0,) * 4), **{field: (0, 0.1, 0.5, 1)})
        assert type(model.encoder.layers) is torch.nn.ModuleList
        for update in (5, 10):
            layers.set_num_updates(update)
            assert getattr(layers.rates_in_force, field) == pytest.approx([0, update / 100, update / 20, update / 10])
        first, *_, last = layers.draw()
        without_attention = Skips(sub_layers=("self_attn", "encoder_attn"))
        assert not first and last == (without_attention if kind == "headdrop" else Skips(layer=True))

    def test_lists_are_those_of_one_rate(self):
        """The same draws as a rate for all layers, of each kind, also beside one another."""
        plain = dropping(**dict.fromkeys(KINDS, 0.3))
        listed = {f"{stack}_{kind}_rates": "0.3,0.3,0.3,0.3" for kind in KINDS for stack in ("encoder", "decoder")}
        listed = tiny(**listed)
        for update in range(3):
            assert equal(training_pass(listed, SAMPLE, update), training_pass(plain, SAMPLE, update))

    @pytest.mark.parametrize("target, rate", [(1, 0.75), (2, 0.5), (4, 0.0)])
    def test_best_rate_for_a_depth(self, target, rate):
        layers = tiny(encoder_layerdrop_target_depth=target).encoder.layers
        assert (layers.rates.layers if rate else (0.0,) * 4) == (rate,) * 4
        assert isinstance(layers, LayerDropModuleList) == bool(rate)

    def test_time_schedules(self):
        warmup = tiny(0.4, layerdrop_time_schedule="warmup", layerdrop_warmup_updates=10).encoder.layers
        progressive = tiny(0.5, layerdrop_time_schedule="progressive", layerdrop_gamma=0.01).encoder.layers
        for update in (0, 5, 10, 100):
            for layers in (warmup, progressive):
                layers.set_num_updates(update)
            assert warmup.rates_in_force.layers == pytest.approx([0.4 * min(1, update / 10)] * 4)
            theta = 0.5 * 2.718281828459045 ** (-0.01 * update) + 0.5  # Progressive Layer Dropping's keep rate
            assert progressive.rates_in_force.layers == pytest.approx([1 - theta] * 4)

    @pytest.mark.parametrize(
        "given, message",
        [
            ({"encoder_layerdrop": 0.1, "encoder_layerdrop_target_depth": 2}, "exclude each other"),
            ({"encoder_layerdrop_rates": "0,0,0,1", "encoder_layerdrop_target_depth": 2}, "exclude each other"),
            ({"decoder_layerdrop_rates": "0,0.5"}, "must be 4 numbers"),
            ({"decoder_layerdrop_rates": "0,0,0,x"}, "must be 4 numbers"),
            ({"decoder_layerdrop_rates": "0,0,0,1", "layerdrop_depth_schedule": "linear"}, "exclude each other"),
            ({"encoder_layerdrop_target_depth": 2, "layerdrop_depth_schedule": "linear"}, "exclude each other"),
            ({"decoder_headdrop_rates": "0,0.5,1"}, r"--decoder-headdrop-rates must be 4 numbers in \[0, 1\]"),
            ({"decoder_sublayerdrop_rates": "0,0,0,1.1"}, r"--decoder-sublayerdrop-rates must be 4 numbers"),
            ({"encoder_headdrop_rates": "0,0,0,nan"}, r"--encoder-headdrop-rates must be 4 numbers"),
            (
                {"encoder_headdrop": 0.1, "encoder_headdrop_rates": "0,0,0,1"},
                "^--encoder-headdrop and --encoder-headdrop-rates exclude each other; give one$",
            ),
            (
                {"decoder_sublayerdrop_rates": "0,0,0,1", "layerdrop_depth_schedule": "exponential"},
                "^--decoder-sublayerdrop-rates and --layerdrop-depth-schedule exclude each other; give one$",
            ),
            ({"decoder_layerdrop_target_depth": 5}, "must be in 1-4"),
            ({"decoder_sublayerdrop": 1.5}, r"--decoder-sublayerdrop must be in \[0, 1\]"),
            ({"decoder_layerdrop": 0.1, "layerdrop_time_schedule": "warmup"}, "--layerdrop-warmup-updates"),
            ({"decoder_layerdrop": 0.1, "ddp_backend": "fully_sharded"}, "give pytorch_ddp or legacy_ddp"),
            ({"decoder_layerdrop_learned": True}, "needs a mean rate"),
            ({"decoder_share_layers": "3,3"}, "add up to the 4 layers"),
        ],
    )
    def test_mistakes_are_one_line(self, given, message):
        with pytest.raises(UserError, match=message):
            build(settings("layerdrop_transformer_tiny", encoder_layers=4, decoder_layers=4, **given))

    def test_checked_values(self):
        with pytest.raises(ValueError, match="rates"):
            DropRates((0.5,), (0.5, 0.5))
        with pytest.raises(ValueError, match="rates"):
            replace(DropRates((0.5,)), heads=(2.0,))
        assert sub_layers_of(tiny().decoder.layers[0]) == SUB_LAYERS
