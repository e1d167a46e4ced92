"""What fairseq and torch do with a model by the class or the calls of its parts, they do with ours as with stock."""

import io
from argparse import Namespace

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models.roberta import RobertaModel
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq.quantization_utils import quantize_model_scalar
from fairseq.sequence_generator import SequenceGenerator

from fairseq_layerdrop.modules import LayerDropModuleList, StepDecoder
from fairseq_layerdrop.plan import parse
from fairseq_layerdrop.surgery.build import build_pruned
from fairseq_layerdrop.surgery.state import stacks_of
from tests.commands import NEEDS_FAIRSEQ_MAIN
from tests.models import test_layerdrop_roberta as roberta
from tests.models.test_layerdrop_models import SAMPLE, build, dictionary, settings, tiny, tiny_settings

pytestmark = NEEDS_FAIRSEQ_MAIN
STOCK = {"transformer": TransformerModel, "transformer_lm": TransformerLanguageModel, "roberta": RobertaModel}
SENTENCES = {"net_input": {key: SAMPLE[key] for key in ("src_tokens", "src_lengths")}}


def stock_and_ours(family="transformer", **given):
    """fairseq's own model, and ours with the same weights."""
    arch = f"layerdrop_{family}_tiny"
    models = [build(settings(arch, **given), arch, model=model) for model in (STOCK[family], None)]
    models[1].load_state_dict(models[0].state_dict())
    return models


def hypotheses(model):
    generator = SequenceGenerator([model], dictionary(40), beam_size=3, max_len_b=8)
    return [[(found["tokens"].tolist(), found["score"].item()) for found in beams] for beams in generator(SENTENCES)]


@pytest.mark.parametrize("family", list(STOCK))
@pytest.mark.parametrize(
    "names",
    [None, "TransformerEncoder", "TransformerDecoder", "TransformerDecoderLayerBase", "MultiheadAttention"],
)
def test_retained_dropout(family, names):
    """``--retain-dropout-modules`` names classes."""
    cfg = FairseqConfig()
    cfg.generation.retain_dropout, cfg.generation.retain_dropout_modules = True, names and [names]
    models = stock_and_ours(family)
    for model in models:
        model.prepare_for_inference_(cfg)
    retained = [
        {name for name, module in model.named_modules() if getattr(module, "apply_during_inference", False)}
        for model in models
    ]
    assert retained[0] == retained[1]
    assert bool(retained[0]) == any(
        names in (None, module.module_name) for module in models[0].modules() if hasattr(module, "module_name")
    )


def test_scalar_quantization(monkeypatch):
    """``--quant-noise-scalar``: projections are of another class, with hooks that look at whole outputs."""
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)  # fairseq asks for a GPU here, for two numbers
    models = stock_and_ours(decoder_layers=3)
    before = hypotheses(models[1].eval())
    for model in models:
        quantize_model_scalar(model.eval(), Namespace(quant_noise_scalar=0.5))
    found = hypotheses(models[1])
    assert found == hypotheses(models[0]) and found != before


class TestTorchScript:
    @pytest.mark.parametrize(
        "given",
        [
            {"rate": 0.5, "decoder_layerdrop_learned": True, "checkpoint_activations": True},
            {
                "pruned_sublayers": "encoder=drop:0.self_attn,1.ffn/"
                "decoder=drop:0.self_attn,1.encoder_attn,2.ffn,3.self_attn.head1",
                "decoder_share_layers": "2,2",
            },
        ],
    )
    def test_model(self, given):
        """It computes what the model does and drops nothing; the model itself stays what it is."""
        model = tiny(**given)
        classes = [type(module) for module in model.modules()]
        script = torch.jit.script(model)
        assert [type(module) for module in model.modules()] == classes
        stored = io.BytesIO()
        torch.jit.save(script, stored)
        stored.seek(0)
        expected = model.eval()(**SAMPLE)[0]
        for scripted in (script, torch.jit.load(stored).train()):
            torch.testing.assert_close(scripted(**SAMPLE)[0], expected)

    def test_pruned(self):
        model = build_pruned(build, tiny_settings(), parse("decoder=keep:0,2/encoder=drop:1,0.ffn"))
        model.load_state_dict(tiny().state_dict())
        torch.testing.assert_close(torch.jit.script(model)(**SAMPLE)[0], model(**SAMPLE)[0])

    def test_parts(self):
        """Where stock fairseq's model as a whole can't be compiled, its stacks can."""
        arch = "layerdrop_transformer_lm_tiny"
        models = [
            tiny(0.5),
            build(settings(arch, decoder_layerdrop=0.5), arch),
            roberta.tiny(encoder_layerdrop=0.5),
        ]
        for model in models:
            for stack in stacks_of(model).values():
                layers = [type(layer) for layer in stack.layers._modules.values()]
                torch.jit.script(stack)
                assert type(stack.layers) is LayerDropModuleList
                assert [type(layer) for layer in stack.layers._modules.values()] == layers

    def test_sequence_generator(self):
        model = tiny(0.5).eval()
        expected = hypotheses(model)
        generator = SequenceGenerator([model], dictionary(40), beam_size=3, max_len_b=8)
        for beams, scored in zip(torch.jit.script(generator)(SENTENCES), expected, strict=True):
            for found, (tokens, score) in zip(beams, scored, strict=True):
                assert found["tokens"].tolist() == tokens
                assert found["score"].item() == pytest.approx(score, abs=1e-5)
        assert type(model.decoder) is StepDecoder and hypotheses(model) == expected
