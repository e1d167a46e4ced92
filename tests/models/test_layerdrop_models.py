"""The registered models: what they are, how big, and what LayerDrop does in them."""

from argparse import Namespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer_lm import TransformerLanguageModel

from fairseq_layerdrop import LayerDropTransformerModel
from fairseq_layerdrop.models.settings import BothDropSettings, DecoderDropSettings, complete_settings
from fairseq_layerdrop.modules import LayerDropModuleList, StepAttention
from fairseq_layerdrop.plan import parse
from fairseq_layerdrop.surgery.config import model_structure, prune_config
from tests.commands import NEEDS_FAIRSEQ_MAIN

TRANSLATION = [
    "layerdrop_transformer",
    "layerdrop_transformer_tiny",
    "layerdrop_transformer_iwslt_de_en",
    "layerdrop_transformer_wmt_en_de",
    "layerdrop_transformer_wmt_en_de_big",
    "layerdrop_transformer_wmt_en_de_big_12_6",
    "layerdrop_transformer_wmt_en_de_big_t2t",
]
LANGUAGE_MODELS = [
    "layerdrop_transformer_lm_tiny",
    "layerdrop_transformer_lm",
    "layerdrop_transformer_lm_wiki103",
    "layerdrop_transformer_lm_wiki103_40",
]


def dictionary(symbols):
    """A dictionary of *symbols* symbols, the four special ones among them."""
    made = Dictionary()
    for i in range(symbols - len(made)):
        made.add_symbol(f"w{i}")
    return made


class FakeTask:
    """What building a model asks a task for: two dictionaries, and whether it tells the loss."""

    learns_rates = True

    def __init__(self, symbols):
        self.source_dictionary = self.target_dictionary = dictionary(symbols)


def settings(arch, **given):
    """Model settings as a model is built with them: *given*, then the architecture's, then the model's defaults."""
    cfg = Namespace(seed=1, tokens_per_sample=32, max_target_positions=None, **given)
    ARCH_CONFIG_REGISTRY[arch](cfg)
    if hasattr(ARCH_MODEL_REGISTRY[arch], "complete_settings"):
        ARCH_MODEL_REGISTRY[arch].complete_settings(cfg)
    dataclass = getattr(ARCH_MODEL_REGISTRY[arch], "__dataclass", None)
    if dataclass:
        cfg = Namespace(**{**vars(dataclass()), **vars(cfg)})
    return cfg


def build(cfg, arch="layerdrop_transformer_tiny", symbols=40, model=None):
    torch.manual_seed(1)
    return (model or ARCH_MODEL_REGISTRY[arch]).build_model(cfg, FakeTask(symbols))


def tiny_settings(rate=0.0, **given):
    given = {"encoder_layers": 4, "decoder_layers": 4, "dropout": 0.0, **given}
    return settings("layerdrop_transformer_tiny", encoder_layerdrop=rate, decoder_layerdrop=rate, **given)


def tiny(rate=0.0, **given):
    return build(tiny_settings(rate, **given))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


SAMPLE = {
    "src_tokens": torch.tensor([[4, 5, 6, 7, 2], [8, 9, 10, 2, 1]]),
    "src_lengths": torch.tensor([5, 4]),
    "prev_output_tokens": torch.tensor([[2, 5, 6, 7], [2, 9, 10, 11]]),
}


# Rates that are in force after 10 updates: until then all that drops is there, and begins with dropping nothing.
WARMING_UP = {"layerdrop_time_schedule": "warmup", "layerdrop_warmup_updates": 10}


def training_pass(model, sample, update=0):
    """What a training pass computes: its output, and the gradient of each parameter by name."""
    model.set_num_updates(update)
    model.zero_grad(set_to_none=True)
    torch.manual_seed(7)  # of dropout
    out = model(**sample)[0]
    out.square().sum().backward()
    return {"": out.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class TestArchitectures:
    @NEEDS_FAIRSEQ_MAIN
    @pytest.mark.parametrize("arch", TRANSLATION + LANGUAGE_MODELS)
    def test_has_the_settings_and_parameters_of_the_stock_one(self, arch):
        stock = arch.removeprefix("layerdrop_").removesuffix("_12_6").removesuffix("_40")
        stock = {"transformer_lm_tiny": "transformer_lm_gpt2_tiny"}.get(stock, stock)
        overrides = {}
        if arch.endswith("_12_6"):
            overrides = {"encoder_layers": 12}
        if arch.endswith("_40"):
            overrides = {"decoder_layers": 40, "decoder_ffn_embed_dim": 2560}
        both = Namespace()
        complete_settings(both, DecoderDropSettings if arch in LANGUAGE_MODELS else BothDropSettings)
        ours, theirs = vars(settings(arch)), vars(settings(stock, **overrides))
        apart = {"tpu": None, "ddp_backend": None}
        assert {**ours, **apart} == {**vars(both), **theirs, **apart}
        symbols = 70000 if "wiki103" in arch else 40  # adaptive inputs cut at 60,000
        with torch.device("meta"):
            ours = build(settings(arch, decoder_layerdrop=0.2), arch, symbols)
            theirs = build(settings(stock, **overrides), stock, symbols)
        shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
        assert shapes == {name: tensor.shape for name, tensor in theirs.state_dict().items()}

    def test_wiki103_has_the_published_sizes(self):
        arch = "layerdrop_transformer_lm_wiki103"
        cfg = settings(arch)
        pruned = prune_config(cfg, parse("keep:8@every_other").resolve(model_structure(cfg)))
        with torch.device("meta"):
            assert count(build(cfg, arch, 267744)) == 246_933_504
            assert count(build(pruned, arch, 267744)) == 146_163_712

    def test_wiki103_40_has_the_papers_size(self):
        arch = "layerdrop_transformer_lm_wiki103_40"
        with torch.device("meta"):
            assert count(build(settings(arch), arch, 267744)) == 423_352_320

    @pytest.mark.parametrize("arch, millions", [("big", 209.91), ("big_12_6", 285.49)])
    def test_wmt_sizes(self, arch, millions):
        arch = f"layerdrop_transformer_wmt_en_de_{arch}"
        with torch.device("meta"):
            model = build(settings(arch, share_all_embeddings=True), arch, 32768)
        assert round(count(model) / 1e6, 2) == millions


class TestLayerDrop:
    @pytest.mark.parametrize("normalize_before", [False, True])
    @pytest.mark.parametrize("rate", [0.2, 1.0])
    def test_evaluation_is_that_of_no_layerdrop(self, rate, normalize_before):
        given = {"encoder_normalize_before": normalize_before, "decoder_normalize_before": normalize_before}
        plain, dropped = tiny(0.0, **given).eval(), tiny(rate, **given).eval()
        dropped.load_state_dict(plain.state_dict())
        assert torch.equal(plain(**SAMPLE)[0], dropped(**SAMPLE)[0])

    @NEEDS_FAIRSEQ_MAIN
    def test_zero_in_force_is_the_stock_language_model(self):
        """Bit by bit, with dropout; encoder-decoder models are compared so in test_groups.py."""
        arch, rates = (
            "layerdrop_transformer_lm_tiny",
            {f"decoder_{kind}drop": 0.5 for kind in ("layer", "sublayer", "head")},
        )
        given, sample = {"decoder_layers": 4, "dropout": 0.1}, {"src_tokens": SAMPLE["prev_output_tokens"]}
        stock = build(settings(arch, **given), model=TransformerLanguageModel)
        ours = build(settings(arch, **given, **rates, **WARMING_UP), arch)
        assert type(ours.decoder.layers) is LayerDropModuleList
        assert equal(training_pass(ours, sample), training_pass(stock, sample))
        assert not equal(training_pass(ours, sample, update=10), training_pass(stock, sample))

    def test_one_is_the_identity(self):
        model = tiny(1.0, encoder_normalize_before=True, decoder_normalize_before=True)
        encoder = model.encoder
        padding = SAMPLE["src_tokens"].eq(1)
        embedded = encoder.forward_embedding(SAMPLE["src_tokens"])[0] * ~padding.unsqueeze(-1)
        expected = encoder.layer_norm(embedded.transpose(0, 1))
        assert torch.equal(encoder(SAMPLE["src_tokens"])["encoder_out"][0], expected)
        states = model.decoder.extract_features(SAMPLE["prev_output_tokens"], encoder_out=None)[1]["inner_states"]
        assert len(states) == 5 and all(torch.equal(state, states[0]) for state in states)

    def test_there_is_a_hidden_state_for_each_layer(self):
        model = tiny(0.5)
        for _ in range(10):
            encoded = model.encoder(SAMPLE["src_tokens"], return_all_hiddens=True)
            assert len(encoded["encoder_states"]) == 5

    def test_attention_is_that_of_the_layers_own_number(self):
        """What is asked for comes from layer 2 when it runs, whatever runs below it, and from none when it doesn't."""
        model = tiny(0.5)
        seen = {True: 0, False: 0}
        called = []
        model.decoder.layers[2].register_forward_hook(lambda *_: called.append(True))
        encoded = model.encoder(SAMPLE["src_tokens"])
        for _ in range(40):
            called.clear()
            attention = model.decoder(SAMPLE["prev_output_tokens"], encoded, alignment_layer=2)[1]["attn"][0]
            assert (attention is not None) == bool(called)
            seen[bool(called)] += 1
        assert all(seen.values())

    def test_every_parameter_gets_a_gradient_in_every_pass(self):
        model = tiny(0.5)  # some of the 100 passes skip all four decoder layers, and so all attention to the encoder
        for _ in range(100):
            model.zero_grad(set_to_none=True)
            model(**SAMPLE)[0].sum().backward()
            assert all(parameter.grad is not None for parameter in model.parameters())

    def test_stacks_have_their_own_rates(self):
        model = build(settings("layerdrop_transformer_tiny", encoder_layerdrop=0.3, decoder_layerdrop=0.0))
        assert model.encoder.layers.rates.layers == (0.3, 0.3)
        assert not hasattr(model.decoder.layers, "rates")

    def test_language_model_drops(self):
        arch = "layerdrop_transformer_lm_tiny"
        model = build(settings(arch, decoder_layerdrop=1.0), arch)
        states = model.decoder.extract_features(SAMPLE["prev_output_tokens"], None)[1]["inner_states"]
        assert len(states) == 3 and all(torch.equal(state, states[0]) for state in states)

    def test_seed_reaches_the_draws(self):
        assert tiny(0.5).encoder.layers.seed == 1
        cfg = settings("layerdrop_transformer_tiny", encoder_layerdrop=0.5)
        cfg.seed = 17
        assert build(cfg).encoder.layers.seed == 17
        assert isinstance(build(cfg), LayerDropTransformerModel)


def test_decoders_look_back():
    """Self-attentions of decoders alone get nothing but the mask of the positions to come."""
    model = tiny()
    assert {type(module).__name__ for module in model.encoder.modules() if hasattr(module, "q_proj")} == {
        "MultiheadAttention"
    }
    for number in range(len(model.decoder.layers)):
        layer = model.decoder.layers[number]
        assert layer.self_attn.looks_back and not layer.encoder_attn.looks_back


class TestLookingBack:
    """Whole models whose decoders leave away the mask, as on a GPU; here the CPU is told to do so too."""

    @pytest.fixture
    def looked(self, monkeypatch):
        """The attentions that looked back."""
        looked, look_back = [], StepAttention._look_back
        monkeypatch.setattr(
            StepAttention,
            "_look_back",
            lambda attention, query: looked.append(attention) or look_back(attention, query),
        )
        monkeypatch.setattr(StepAttention, "causal_on", ("cpu",))
        return looked

    @staticmethod
    def assert_close(found, expected):
        """Each tensor within 1e-5 of its own largest value, or of 1."""
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert (found[name] - tensor).abs().max() <= 1e-5 * max(1, tensor.abs().max()), name

    @NEEDS_FAIRSEQ_MAIN
    @pytest.mark.parametrize("family", ["transformer", "transformer_lm"])
    @pytest.mark.parametrize("normalize_before", [False, True])
    def test_trains_as_the_stock_model_does(self, family, normalize_before, looked):
        stock = TransformerModel if family == "transformer" else TransformerLanguageModel
        arch, given = f"layerdrop_{family}_tiny", {"decoder_normalize_before": normalize_before, "decoder_layers": 4}
        given.update(dropout=0.0, attention_dropout=0.0)
        sample = SAMPLE if family == "transformer" else {"src_tokens": SAMPLE["prev_output_tokens"]}
        expected = training_pass(build(settings(arch, **given), model=stock), sample)
        assert not looked
        self.assert_close(training_pass(build(settings(arch, **given), arch), sample), expected)
        assert len(looked) == 4

    def test_with_all_that_is_dropped(self, looked):
        """Looking back or not, at the same draws; also an attention that lost heads looks back."""
        rates = {f"{stack}_{kind}": 0.3 for stack in ("encoder", "decoder") for kind in ("sublayerdrop", "headdrop")}
        looking, masked = tiny(0.2, **rates), tiny(0.2, **rates)
        for module in masked.modules():
            if isinstance(module, StepAttention):
                module.causal_on = ()
        for update in range(5):
            self.assert_close(training_pass(looking, SAMPLE, update), training_pass(masked, SAMPLE, update))
        assert {attention.num_heads for attention in looked} == {1, 2}
        assert not any("causal_on" in vars(attention) for attention in looked)


@pytest.mark.parametrize("offload", [False, True])
def test_checkpointed_activations(offload):
    """Decoding takes the same steps with them as without, and training finds the same gradients."""
    flags = {"checkpoint_activations": True, "offload_activations": offload}
    plain, checkpointed = tiny(), tiny(**flags)
    outputs, gradients, steps = [], [], {plain: [], checkpointed: []}
    tokens = SAMPLE["prev_output_tokens"]
    for model in (plain, checkpointed):
        for layer in model.decoder.layers:
            assert hasattr(layer, "precheckpoint_forward") == (model is checkpointed)
            step = layer._step
            layer._step = lambda *args, step=step, model=model: steps[model].append(1) or step(*args)
        model(**SAMPLE)[0].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        with torch.no_grad():
            encoded, state = model.eval().encoder(SAMPLE["src_tokens"], SAMPLE["src_lengths"]), {}
            for length in range(1, 5):
                outputs.append(model.decoder(tokens[:, :length], encoded, incremental_state=state)[0])
    assert all(map(torch.equal, outputs[:4], outputs[4:]))
    assert len(steps[checkpointed]) == len(steps[plain]) == 4 * 4
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-4)
