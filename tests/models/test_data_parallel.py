"""torch's DistributedDataParallel with its default settings, on two gloo processes."""

import socket

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from fairseq_layerdrop.modules import LayerImportance
from fairseq_layerdrop.plan import parse
from fairseq_layerdrop.surgery.build import build_pruned
from tests.models.test_layerdrop_models import build, tiny, tiny_settings

UPDATES = 6
GROUPS = {
    **{f"{stack}_sublayerdrop": 0.3 for stack in ("encoder", "decoder")},
    **{f"{stack}_headdrop": 0.3 for stack in ("encoder", "decoder")},
}


def batch(update):
    """Four sentence pairs of one length, so that halves and whole have the same mean loss."""
    generator = torch.Generator().manual_seed(update)
    tokens = torch.randint(4, 40, (4, 7), generator=generator)
    return {"src_tokens": tokens, "src_lengths": torch.full((4,), 7), "prev_output_tokens": tokens.roll(1, 1)}


def train(model, rows):
    """Train on some rows of each batch; returns which decoder layers ran in each update."""
    module = getattr(model, "module", model)
    ran = []
    for number in range(4):
        module.decoder.layers[number].register_forward_hook(lambda *_, number=number: ran[-1].append(number))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for update in range(UPDATES):
        module.set_num_updates(update)
        ran.append([])
        sample = {name: tensor[rows] for name, tensor in batch(update).items()}
        logits = model(**sample)[0]
        optimizer.zero_grad()
        loss = cross_entropy(logits.flatten(0, 1), sample["src_tokens"].flatten())
        for importance in module.modules():
            if isinstance(importance, LayerImportance):
                loss = importance.join(loss, 1)
        loss.backward()
        optimizer.step()
    return ran


def model_of(spec, rate, given):
    """A 4 + 4-layer model, or what a plan keeps of it."""
    return tiny(rate, **given) if spec is None else build_pruned(build, tiny_settings(rate, **given), parse(spec))


def worker(rank, port, results, spec, rate, given):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = model_of(spec, rate, given)
    ran = train(DistributedDataParallel(model), slice(2 * rank, 2 * rank + 2))
    results[rank] = (ran, {name: parameter.tolist() for name, parameter in model.named_parameters()})
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "spec, rate, given",
    [
        (None, 0.5, {}),
        ("encoder=drop:1.ffn/decoder=drop:0.encoder_attn,2.self_attn,3.encoder_attn", 0.5, {}),
        ("decoder=drop:0.encoder_attn,2.self_attn,3.ffn", 0.0, {}),
        ("decoder=drop:0.self_attn.head1", 0.2, GROUPS),
        (None, 0.2, {**GROUPS, "decoder_share_layers": "2", "decoder_layerdrop_learned": True}),
    ],
)
def test_two_processes_give_the_update_of_one(spec, rate, given):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = torch.multiprocessing.Manager().dict()
    torch.multiprocessing.spawn(worker, args=(port, results, spec, rate, given), nprocs=2)
    one = model_of(spec, rate, given)
    ran = train(one, slice(None))
    assert results[0][0] == results[1][0] == ran
    assert any(len(layers) < 4 for layers in ran) == (rate > 0)
    for name, tensor in one.named_parameters():
        both = [torch.tensor(results[rank][1][name]) for rank in (0, 1)]
        assert torch.equal(*both)
        torch.testing.assert_close(both[0], tensor.detach(), rtol=1e-4, atol=1e-6)
