"""Small models with data in memory, and the plain way to score a plan of them."""

import copy
import math

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion

from fairseq_layerdrop.plan import plan_without, transformer_structure
from fairseq_layerdrop.surgery.build import remove_missing_sublayers
from fairseq_layerdrop.surgery.state import stacks_of
from tests.models.test_layerdrop_models import FakeTask, build, settings

PAD = 1
SYMBOLS = 40


def _tokens(generator, lengths, left=False):
    longest = max(lengths)
    rows = []
    for length in lengths:
        row = torch.randint(4, SYMBOLS, (length,), generator=generator)
        row[-1] = 2
        pad = torch.full((longest - length,), PAD)
        rows.append(torch.cat([pad, row] if left else [row, pad]))
    return torch.stack(rows)


def samples(translation, seed=0):
    """Three batches of sentences of different lengths, sources padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for lengths in ([5, 3], [7], [4, 6, 2]):
        target = _tokens(generator, lengths)
        before = torch.full_like(target, PAD)
        before[:, 0] = 2
        before[:, 1:] = target[:, :-1].masked_fill(target[:, :-1] == 2, PAD)
        if translation:
            source = _tokens(generator, [length + 1 for length in lengths], left=True)
            inputs = {
                "src_tokens": source, "src_lengths": source.ne(PAD).sum(1), "prev_output_tokens": before,
            }  # fmt: skip
        else:
            inputs = {"src_tokens": before, "src_lengths": before.ne(PAD).sum(1)}
        made.append({"net_input": inputs, "target": target, "ntokens": int(target.ne(PAD).sum())})
    return made


def criterion():
    made = LabelSmoothedCrossEntropyCriterion(FakeTask(SYMBOLS), sentence_avg=False, label_smoothing=0.1)
    return made.eval()


def translation_model(encoder=3, decoder=4, seed=0, **given):
    cfg = settings(
        "layerdrop_transformer_tiny", encoder_layers=encoder, decoder_layers=decoder, dropout=0.0,
        encoder_embed_dim=16, encoder_ffn_embed_dim=24, decoder_ffn_embed_dim=24, **given,
    )  # fmt: skip
    return shaken(build(cfg, symbols=SYMBOLS), seed), transformer_structure({"encoder": encoder, "decoder": decoder})


def language_model(decoder=4, seed=0, **given):
    arch = "layerdrop_transformer_lm_tiny"
    given = {"share_decoder_input_output_embed": True, **given}
    cfg = settings(arch, decoder_layers=decoder, dropout=0.0, decoder_embed_dim=16, decoder_ffn_embed_dim=24, **given)
    return shaken(build(cfg, arch, SYMBOLS), seed), transformer_structure({"decoder": decoder})


def shaken(model, seed):
    """*model* with all parameters moved at random, so that no sub-layer does nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def silence(model, unit, scale=1e-3):
    """Make a layer, or a sub-layer, of a pre-norm model a near-identity."""
    stack, number, name = unit
    layer = getattr(model, stack).layers[number]
    lasts = {
        "self_attn": layer.self_attn.out_proj,
        "encoder_attn": getattr(getattr(layer, "encoder_attn", None), "out_proj", None),
        "ffn": layer.fc2,
    }
    with torch.no_grad():
        for last in lasts.values() if name is None else [lasts[name]]:
            if last is not None:
                last.weight *= scale
                last.bias *= scale


def without(model, structure, dropped):
    """A copy of *model* whose dropped layers and sub-layers are really gone."""
    pruned = copy.deepcopy(model)
    plan = plan_without(structure, dropped)
    remove_missing_sublayers(
        pruned,
        {stack: [keep or full for keep, full in zip(part.keep, part.full)] for stack, part in plan.stacks.items()},
    )
    for stack, part in plan.stacks.items():
        own = stacks_of(pruned)[stack]
        own.layers = torch.nn.ModuleList(own.layers[number] for number in part.layers)
    return pruned


@torch.no_grad()
def logits(model, data):
    return [model(**sample["net_input"])[0] for sample in data]


@torch.no_grad()
def bits(model, data):
    """Cross-entropy in bits by token, by hand."""
    total = count = 0.0
    for output, sample in zip(logits(model, data), data):
        wanted = sample["target"].ne(PAD)
        log_probabilities = torch.log_softmax(output.double(), -1).gather(-1, sample["target"][..., None])[..., 0]
        total -= float(log_probabilities[wanted].sum())
        count += int(wanted.sum())
    return total / count / math.log(2)
