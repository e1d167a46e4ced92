"""What a checkpoint's model computes. As a script: ``python outputs.py DATA OUT CKPT…``, with stock fairseq alone."""

import sys

import torch
from fairseq import checkpoint_utils


def load(path, data, **overrides):
    """The model and the task of a checkpoint, as fairseq's commands load them."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(path)], arg_overrides={"data": str(data), **overrides}
    )
    return models[0].eval(), task


@torch.no_grad()
def outputs(model, task) -> torch.Tensor:
    """Logits for a batch with padding, at once and step by step; of a RoBERTa those of symbols and of each class."""
    torch.set_num_threads(1)  # sums are split among threads
    eos, pad = task.target_dictionary.eos(), task.target_dictionary.pad()
    if not hasattr(model, "decoder"):
        bos = task.source_dictionary.bos()
        tokens = torch.tensor([[bos, 5, 6, 7, eos], [bos, 8, eos, pad, pad]])
        asked = (None, *model.classification_heads)
        return torch.cat([model(tokens, classification_head_name=head)[0].flatten(1) for head in asked], dim=1)
    target = torch.tensor([[eos, 5, 6, 7, 8], [eos, 9, 10, pad, pad]])
    if not hasattr(model, "encoder"):
        encoder_out, forward = None, model(target)[0]
    else:
        source = torch.tensor([[4, 5, 6, 7, eos], [pad, 8, 9, 10, eos]])
        encoder_out = model.encoder(source, torch.tensor([5, 4]))
        forward = model(source, torch.tensor([5, 4]), target)[0]
    state = {}
    steps = [
        model.decoder(target[:, : i + 1], encoder_out=encoder_out, incremental_state=state)[0]
        for i in range(target.size(1))
    ]
    return torch.cat([forward, *steps], dim=1)


def same_but_for_steps(stock, ours) -> None:
    """Assert that outputs are equal bit for bit where a batch is computed at once, and else within rounding.

    Our decoding step by step sums the same terms in another order than stock fairseq's.
    """
    at_once = ours.size(1) // 2
    assert torch.equal(stock[:, :at_once], ours[:, :at_once])
    torch.testing.assert_close(stock, ours, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    assert "fairseq_layerdrop" not in sys.modules
    data, out, *paths = sys.argv[1:]
    torch.save([outputs(*load(path, data)) for path in paths], out)
