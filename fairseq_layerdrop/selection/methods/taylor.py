"""Taylor scores (Shortened LLaMA, 2402.02834, section 3.2)."""

from ..orders import one_shot
from ..problem import Selection, SelectionProblem


def taylor(problem: SelectionProblem) -> Selection:
    """Remove the layers with the smallest sum over their weight matrices of |w * dL/dw|; one shot.

    L is the loss with which the model was trained, summed over the data: where labels were smoothed, smoothed too. The
    published variant "Taylor+" never removes the first four and last two layers: these are the protected ends by
    default.
    """
    engine = problem.engine
    model = engine.stacks.model
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.requires_grad_(True)
        model.zero_grad()
        for sample in engine.samples:
            loss, _, _ = problem.criterion(model, sample)
            loss.backward()
        scores = {
            unit: sum(
                float((weight.detach() * weight.grad).abs().double().sum())
                for weight in engine.stacks.modules[unit[0]].layers[unit[1]].parameters()
                if weight.dim() > 1 and weight.grad is not None
            )
            for unit in engine.units(sublayers=False)
        }
    finally:
        model.zero_grad()
        for parameter, required in before.items():
            parameter.requires_grad_(required)
    return Selection(tuple(one_shot(scores, problem.budget)))
