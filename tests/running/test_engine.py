"""The engine runs any plan as the pruned model would, and each unit once for each distinct beginning of a plan."""

import itertools

import pytest
import torch

from fairseq_layerdrop.base.errors import UserError
from fairseq_layerdrop.plan import plan_without
from fairseq_layerdrop.running.engine import Engine
from fairseq_layerdrop.surgery.state import state_structure
from tests.running.models import language_model, logits, samples, translation_model, without


def subsets(units, sizes=None):
    """All plans that keep at least one unit, sorted by place."""
    every = [
        plan for size in (sizes or range(1, len(units) + 1)) for plan in itertools.combinations(range(len(units)), size)
    ]
    return [tuple(units[i] for i in plan) for plan in sorted(every)]


def last(output, sample):
    return float(output[0].double().sum())


@pytest.fixture(params=[True, False], ids=["pre-norm", "post-norm"])
def pre_norm(request):
    return request.param


class TestOutputs:
    def check(self, made, translation, dropped):
        model, structure = made
        data = samples(translation)
        engine = Engine(model, structure, data)
        sublayers = dropped[0][2] is not None
        kept = [unit for unit in engine.units(sublayers) if unit not in dropped]
        with torch.inference_mode():
            expected = logits(without(model, structure, dropped), data)
        for (output, sample), wanted, given in zip(engine.outputs(kept), expected, data, strict=True):
            assert sample is given
            torch.testing.assert_close(output[0], wanted, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        "dropped",
        [
            [("decoder", 1, None)],
            [("encoder", 0, None), ("decoder", 3, None)],
            [("decoder", 0, "encoder_attn"), ("decoder", 2, "ffn"), ("encoder", 1, "self_attn")],
            [("decoder", 3, name) for name in ("self_attn", "encoder_attn", "ffn")],
        ],
    )
    def test_translation(self, dropped, pre_norm):
        made = translation_model(encoder_normalize_before=pre_norm, decoder_normalize_before=pre_norm)
        self.check(made, True, dropped)

    @pytest.mark.parametrize("dropped", [[("decoder", 0, None)], [("decoder", 1, "ffn"), ("decoder", 3, "self_attn")]])
    def test_language_model(self, dropped, pre_norm):
        self.check(language_model(decoder_normalize_before=pre_norm), False, dropped)

    def test_of_a_model_with_activation_checkpoints(self):
        """fairseq's wrapper binds the layer's own forward to it, which a part of the layer must not run."""
        self.check(
            language_model(checkpoint_activations=True), False, [("decoder", 1, "ffn"), ("decoder", 2, "self_attn")]
        )

    def test_the_model_itself_runs_pruned_for_a_while(self):
        model, structure = translation_model()
        data = samples(True)
        dropped = [("encoder", 2, None), ("decoder", 1, None)]
        engine = Engine(model, structure, data)
        whole, expected = logits(model, data), logits(without(model, structure, dropped), data)
        with engine.stacks.pruned(plan_without(structure, dropped)) as pruned:
            for ours, theirs in zip(logits(pruned, data), expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        assert all(torch.equal(a, b) for a, b in zip(whole, logits(model, data)))
        assert state_structure(model.state_dict()) == structure


class TestCounts:
    def test_all_subsets_of_twelve_layers(self):
        model, structure = language_model(12)
        engine = Engine(model, structure, samples(False))
        plans = subsets(engine.units(False))
        for plan in plans:
            engine.score(plan, last, 0)
        assert len(plans) == engine.evaluations == 2**12 - 1

    def test_subsets_of_one_size(self):
        model, structure = language_model(8)
        engine = Engine(model, structure, samples(False))
        plans = subsets(engine.units(False), [3])
        for plan in plans:
            engine.score(plan, last, 0)
        prefixes = {plan[:end] for plan in plans for end in range(1, 4)}
        assert engine.evaluations == len(prefixes) < 3 * len(plans)

    def test_decoders_share_the_encoder(self):
        model, structure = translation_model()
        engine = Engine(model, structure, samples(True))
        encoder, decoder = engine.units(False)[:3], subsets(engine.units(False)[3:])
        for plan in decoder:
            engine.score((*encoder, *plan), last, 0)
        assert engine.evaluations == 3 + 2**4 - 1


class TestMemory:
    def test_scores_are_the_same_in_parts(self):
        model, structure = translation_model()
        data = samples(True)
        whole, small = Engine(model, structure, data), Engine(model, structure, data, memory=20_000)
        assert (whole.parts, small.parts) == (1, 3)
        for plan in subsets(whole.units(False)[3:]):
            plan = (*whole.units(False)[:3], *plan)
            parts = [small.score(plan, last, part) for part in range(3)]
            assert sum(parts) == pytest.approx(whole.score(plan, last, 0), rel=1e-12)

    @pytest.mark.parametrize("memory", [3_000, 20_000, 60_000])
    def test_states_stay_within_the_bound(self, memory):
        """But for one state, the one that is being computed."""
        model, structure = language_model(6)
        engine = Engine(model, structure, samples(False), memory=memory)
        most = 0
        expected = Engine(model, structure, samples(False))
        for part in range(engine.parts):
            for plan in subsets(engine.units(False)):
                engine.score(plan, last, part)
                most = max(most, sum(state.bytes for state in engine._states.values()))
        assert most <= memory and engine._stored == sum(state.bytes for state in engine._states.values())
        plan = engine.units(False)[1:4]
        total = sum(engine.score(plan, last, part) for part in range(engine.parts))
        assert total == pytest.approx(expected.score(plan, last, 0), rel=1e-12)

    def test_what_is_alive_stays_within_the_bound(self):
        """Encoder's outputs that decoder states hold on to are counted."""
        model, structure = translation_model()
        engine = Engine(model, structure, samples(True), memory=60_000)
        most = 0
        for part in range(engine.parts):
            for plan in subsets(engine.units(False)):
                if {unit[0] for unit in plan} == {"encoder", "decoder"}:
                    engine.score(plan, last, part)
                    alive = {}
                    for state in engine._states.values():
                        outs = [call.encoder_out["encoder_out"] for call in state.calls if call.encoder_out]
                        for tensor in (*state.hidden, *(one for out in outs for one in out)):
                            alive[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
                    most = max(most, sum(alive.values()))
        assert most <= 1.1 * 60_000

    def test_no_data(self):
        model, structure = language_model(2)
        with pytest.raises(UserError, match="no data"):
            Engine(model, structure, [])
