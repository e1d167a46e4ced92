"""LayerDropModuleList on small stacks."""

import copy

import pytest
import torch
from torch import nn

from fairseq_layerdrop.modules import LayerDropModuleList, Skips, identity_with_zero_grad


class Layer(nn.Linear):
    """A layer that counts its calls."""

    def __init__(self):
        super().__init__(4, 4)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) + x


def stack(rate, depth=6, seed=1, name="encoder", layers=None):
    torch.manual_seed(0)
    layers = layers or [Layer() for _ in range(depth)]
    return LayerDropModuleList(layers, [rate] * len(layers), seed=seed, stack=name, returns_tuple=False)


def run(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def ran(layers):
    """Which layers a pass runs."""
    before = [layer.calls for layer in map(layers.__getitem__, range(len(layers)))]
    run(layers, torch.ones(2, 4))
    return [layers[i].calls > calls for i, calls in enumerate(before)]


class TestSkipping:
    def test_what_is_told_and_then_draws_as_before(self):
        layers, alone = stack(0.5), stack(0.5)
        skips = [Skips(layer=number % 2 == 1) for number in range(6)]
        with layers.skipping(skips):
            assert ran(layers) == ran(layers) == [True, False] * 3
            with layers.skipping([Skips()] * 6):
                assert all(ran(layers))
            assert ran(layers) == [True, False] * 3
            layers.eval()
            assert all(ran(layers))
        layers.train()
        assert [ran(layers) for _ in range(5)] == [ran(alone) for _ in range(5)]

    def test_ends_with_an_error(self):
        layers = stack(0.0)
        with pytest.raises(KeyError), layers.skipping([Skips(layer=True)] * 6):
            raise KeyError
        assert all(ran(layers))

    def test_a_draw_ahead_is_the_next_passs(self):
        layers, alone = stack(0.5), stack(0.5)
        for _ in range(5):
            assert [not skipped for skipped in layers.draw()] == ran(alone)


class TestExtremes:
    def test_zero_is_the_plain_stack(self):
        layers, x = stack(0.0), torch.randn(3, 4)
        assert torch.equal(run(layers, x), run(nn.ModuleList([layers[i] for i in range(6)]), x))

    def test_one_is_the_identity(self):
        x = torch.randn(3, 4)
        assert torch.equal(run(stack(1.0), x), x)

    @pytest.mark.parametrize("rate", [0.5, 1.0])
    def test_evaluation_skips_nothing(self, rate):
        layers, x = stack(rate).eval(), torch.randn(3, 4)
        assert torch.equal(run(layers, x), run(stack(0.0), x))

    def test_all_layers_may_be_skipped_in_one_pass(self):
        """With p = 0.5 and 2 layers a quarter of all passes: none among 100 has probability 3e-13."""
        layers = stack(0.5, depth=2)
        assert [False, False] in [ran(layers) for _ in range(100)]

    @pytest.mark.parametrize("rates", [[0.5], [0.5, 1.1], [-0.1, 0.5]])
    def test_rates_are_checked(self, rates):
        with pytest.raises(ValueError, match="rates"):
            LayerDropModuleList([Layer(), Layer()], rates, seed=1, stack="encoder", returns_tuple=False)


class TestSkippedLayer:
    def test_is_not_run_and_gets_a_zero_gradient(self):
        layers = stack(0.5)
        before = [layers[i].calls for i in range(6)]
        x = torch.randn(3, 4, requires_grad=True)
        run(layers, x).sum().backward()
        skipped = [i for i in range(6) if layers[i].calls == before[i]]
        assert 0 < len(skipped) < 6
        for i in range(6):
            gradients = [parameter.grad for parameter in layers[i].parameters()]
            assert all((gradient == 0).all() == (i in skipped) for gradient in gradients)
        assert x.grad.abs().sum() > 0

    def test_frozen_parameters_get_none(self):
        layer = Layer().requires_grad_(False)
        layer.bias.requires_grad_(True)
        identity_with_zero_grad(torch.ones(1, requires_grad=True), layer.parameters()).sum().backward()
        assert layer.weight.grad is None and (layer.bias.grad == 0).all()

    def test_adds_to_gradients_already_there(self):
        layer = Layer()
        layer(torch.ones(1, 4)).sum().backward()
        before = layer.weight.grad.clone()
        identity_with_zero_grad(torch.ones(1, 4), layer.parameters()).sum().backward()
        assert torch.equal(layer.weight.grad, before)

    def test_keeps_its_place(self):
        layers = stack(0.5)
        for _ in range(20):
            for number, layer in enumerate(layers):
                assert (layer if isinstance(layer, Layer) else layer.layer) is layers[number]

    def test_decoder_layer_returns_three(self):
        layers = LayerDropModuleList([Layer()], [1.0], seed=1, stack="decoder", returns_tuple=True)
        (layer,) = layers
        x = torch.ones(1, 4)
        out, attention, states = layer(x, "encoder states", need_attn=True)
        assert torch.equal(out, x) and attention is None and states is None

    @pytest.mark.parametrize("attends", [(False, True), (True, False), (False, False)])
    def test_encoder_states_stay_in_the_graph(self, attends):
        """They get a gradient, if of zero, though the layers that attend to them are skipped."""

        class DecoderLayer(Layer):
            def __init__(self, attends):
                super().__init__()
                self.encoder_attn = Layer() if attends else None

            def forward(self, x, states):
                return super().forward(x) + (self.encoder_attn(states) if self.encoder_attn else 0), None, None

        layers = LayerDropModuleList(
            map(DecoderLayer, attends), [0.5, 0.5], seed=1, stack="decoder", returns_tuple=True
        )
        skipped = set()
        for _ in range(50):
            x, states = torch.ones(1, 4), torch.ones(1, 4, requires_grad=True)
            drawn = list(layers)
            for layer in drawn:
                x, _, _ = layer(x, states)
            skips = tuple(not isinstance(layer, DecoderLayer) for layer in drawn)
            ran = any(attending and not skip for attending, skip in zip(attends, skips))
            if any(skips):
                x.sum().backward()
                assert states.grad is not None and states.grad.bool().any() == ran
                skipped.add(skips)
        assert len(skipped) == 3


class TestDraws:
    def draws(self, layers, updates, micro_batches=1):
        passes = []
        for update in range(updates):
            for _ in range(micro_batches):
                layers.set_num_updates(update)  # as fairseq's trainer does before each micro-batch
                passes.append(ran(layers))
        return passes

    def test_same_seed_same_draws(self):
        assert self.draws(stack(0.5), 20) == self.draws(stack(0.5), 20)
        assert self.draws(stack(0.5), 20) != self.draws(stack(0.5, seed=2), 20)

    def test_stacks_draw_independently(self):
        assert self.draws(stack(0.5), 20) != self.draws(stack(0.5, name="decoder"), 20)

    def test_micro_batches_differ(self):
        passes = self.draws(stack(0.5), 20, micro_batches=2)
        assert passes[0::2] != passes[1::2]
        assert passes[0::2] == self.draws(stack(0.5), 20)

    def test_restart_goes_on_alike(self):
        whole = self.draws(stack(0.5), 20, micro_batches=2)
        restarted = stack(0.5)
        passes = []
        for update in range(10, 20):
            for _ in range(2):
                restarted.set_num_updates(update)
                passes.append(ran(restarted))
        assert passes == whole[20:]

    def test_evaluation_and_printing_draw_nothing(self):
        disturbed = stack(0.5)
        disturbed.eval()
        ran(disturbed)
        disturbed.train()
        assert "DropRates" in repr(disturbed)
        disturbed[1:3], len(disturbed), copy.deepcopy(disturbed)
        assert self.draws(disturbed, 20) == self.draws(stack(0.5), 20)

    def test_rate_of_a_stack(self):
        """2,000 passes of 6 layers: |mean - p| < 5 standard errors (chance: 6e-7)."""
        passes = torch.tensor(self.draws(stack(0.2), 1000, micro_batches=2), dtype=torch.float)
        assert abs(1 - passes.mean().item() - 0.2) < 5 * (0.2 * 0.8 / passes.numel()) ** 0.5


class TestModuleList:
    def test_names_are_those_of_a_module_list(self):
        layers = stack(0.5)
        assert layers.state_dict().keys() == nn.ModuleList([Layer() for _ in range(6)]).state_dict().keys()

    def test_slice_is_a_plain_list(self):
        layers = stack(0.5)
        part = layers[1:3]
        assert type(part) is nn.ModuleList and [*part] == [layers[1], layers[2]]
