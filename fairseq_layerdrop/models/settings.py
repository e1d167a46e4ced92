"""What our models can be told beyond fairseq's own settings, and what follows from it."""

import contextlib
import math
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II, OmegaConf, open_dict

from ..base.errors import UserError
from ..modules import DEPTH_SCHEDULES, TIME_SCHEDULES, DropRates, depth_factors, time_factor
from ..surgery.stack_settings import DROPS, StackSettings


@dataclass
class DropSettings(FairseqDataclass):
    """Settings of every model."""

    layerdrop_depth_schedule: ChoiceEnum(DEPTH_SCHEDULES) = field(  # type: ignore[valid-type]
        default="uniform",
        metadata={
            "help": "how all drop rates grow from the first layer of a stack to the last, which has the whole rate: "
            "not at all, (l+1)/L (stochastic depth) or 2^(l/(L-1))-1 (LayerSkip)"
        },
    )
    layerdrop_time_schedule: ChoiceEnum(TIME_SCHEDULES) = field(  # type: ignore[valid-type]
        default="constant",
        metadata={
            "help": "how all drop rates grow with the updates t: not at all, linearly in --layerdrop-warmup-updates, "
            "or with 1-e^(-gamma t) (Progressive Layer Dropping)"
        },
    )
    layerdrop_warmup_updates: int = field(
        default=0, metadata={"help": "updates until --layerdrop-time-schedule warmup has reached the rates"}
    )
    layerdrop_gamma: float = field(default=0.001, metadata={"help": "gamma of --layerdrop-time-schedule progressive"})
    pruned_sublayers: Optional[str] = field(
        default=None,
        metadata={
            "help": "sub-layers and heads that the model is without, for instance decoder=drop:3.ffn,4.self_attn"
        },
    )
    layer_norm_eps: Optional[float] = field(
        default=None,
        metadata={"help": "eps of all layer norms, as in 1e-12 of a BERT; default: fairseq's, 1e-5"},
    )
    seed: int = II("common.seed")
    ddp_backend: str = II("distributed_training.ddp_backend")


@dataclass
class EncoderDropSettings(DropSettings):
    """Settings of models with an encoder."""

    encoder_sublayerdrop: float = field(
        default=0.0, metadata={"help": "probability that a training pass skips a sub-layer of the encoder"}
    )
    encoder_headdrop: float = field(
        default=0.0, metadata={"help": "probability that a training pass drops an attention head of the encoder"}
    )
    encoder_layerdrop_rates: Optional[str] = field(
        default=None,
        metadata={"help": "LayerDrop rate of each encoder layer, as in 0,0.1,0.2, in place of --encoder-layerdrop"},
    )
    encoder_sublayerdrop_rates: Optional[str] = field(
        default=None,
        metadata={
            "help": "rate of the sub-layers of each encoder layer, as in 0,0.1,0.2, in place of --encoder-sublayerdrop"
        },
    )
    encoder_headdrop_rates: Optional[str] = field(
        default=None,
        metadata={"help": "rate of the heads of each encoder layer, as in 0,0.1,0.2, in place of --encoder-headdrop"},
    )
    encoder_layerdrop_target_depth: Optional[int] = field(
        default=None,
        metadata={
            "help": "in place of --encoder-layerdrop, the best rate for pruning the N layers to this many, r: 1-r/N"
        },
    )
    encoder_layerdrop_learned: bool = field(
        default=False,
        metadata={
            "help": "learn which encoder layers to drop, --encoder-layerdrop being the mean rate (Data Driven Pruning)"
        },
    )
    encoder_share_layers: Optional[str] = field(
        default=None,
        metadata={
            "help": "adjacent encoder layers that share weights: in chunks of so many, or of 2,1,2 for the size of each"
        },
    )


@dataclass
class DecoderDropSettings(DropSettings):
    """Settings of models with a decoder."""

    decoder_output_bias: bool = field(
        default=False, metadata={"help": "add a learned bias to the logit of each symbol, as an imported Marian has it"}
    )
    decoder_sublayerdrop: float = field(
        default=0.0, metadata={"help": "probability that a training pass skips a sub-layer of the decoder"}
    )
    decoder_headdrop: float = field(
        default=0.0, metadata={"help": "probability that a training pass drops an attention head of the decoder"}
    )
    decoder_layerdrop_rates: Optional[str] = field(
        default=None,
        metadata={"help": "LayerDrop rate of each decoder layer, as in 0,0.1,0.2, in place of --decoder-layerdrop"},
    )
    decoder_sublayerdrop_rates: Optional[str] = field(
        default=None,
        metadata={
            "help": "rate of the sub-layers of each decoder layer, as in 0,0.1,0.2, in place of --decoder-sublayerdrop"
        },
    )
    decoder_headdrop_rates: Optional[str] = field(
        default=None,
        metadata={"help": "rate of the heads of each decoder layer, as in 0,0.1,0.2, in place of --decoder-headdrop"},
    )
    decoder_layerdrop_target_depth: Optional[int] = field(
        default=None,
        metadata={
            "help": "in place of --decoder-layerdrop, the best rate for pruning the N layers to this many, r: 1-r/N"
        },
    )
    decoder_layerdrop_learned: bool = field(
        default=False,
        metadata={
            "help": "learn which decoder layers to drop, --decoder-layerdrop being the mean rate (Data Driven Pruning)"
        },
    )
    decoder_share_layers: Optional[str] = field(
        default=None,
        metadata={
            "help": "adjacent decoder layers that share weights: in chunks of so many, or of 2,1,2 for the size of each"
        },
    )


@dataclass
class BothDropSettings(EncoderDropSettings, DecoderDropSettings):
    """Settings of encoder-decoder models."""


def complete_settings(args, settings: type[DropSettings]) -> None:
    """Give *args*, in place, those of our *settings* that it lacks.

    Checkpoints of older versions and of stock models lack them, and so does an architecture of the user's that calls
    fairseq's own. In a hydra configuration they also let the model know the run's seed, as a command line does.
    """
    in_run = OmegaConf.is_config(args)
    with open_dict(args) if in_run else contextlib.nullcontext():
        for item in fields(settings):
            refers = str(item.default).startswith("${")  # to another part of a run's configuration
            if getattr(args, item.name, None) is None and item.name != "_name" and (in_run or not refers):
                setattr(args, item.name, item.default)


def _listed(text: str, flag: str, depth: int) -> tuple[float, ...]:
    try:
        rates = tuple(float(item) for item in text.split(","))
    except ValueError:
        rates = ()
    if len(rates) != depth or not all(0 <= rate <= 1 for rate in rates):
        raise UserError(f"{flag} must be {depth} numbers in [0, 1], as in 0,0.1,0.2, not {text}")
    return rates


def _rates(settings: StackSettings, kind: str, depth: int) -> tuple[float, ...]:
    """The rates of groups of one *kind*, as ``headdrop``, in each of *depth* layers, from the one way that is given."""
    flag = f"--{settings.stack}-{kind}"
    rate, listed = settings.rate(kind), settings.rates(kind)
    target = settings.layerdrop_target_depth if kind == "layerdrop" else None
    schedule = str(getattr(settings.cfg, "layerdrop_depth_schedule", None) or "uniform")
    ways = {
        flag: bool(rate),
        f"{flag}-target-depth": target is not None,
        f"{flag}-rates": bool(listed),
        "--layerdrop-depth-schedule": (target is not None or bool(listed)) and schedule != "uniform",
    }
    given = [way for way, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other; give one")
    if listed:
        return _listed(listed, f"{flag}-rates", depth)
    if target is not None:
        if not 1 <= target <= depth:
            raise UserError(
                f"{flag}-target-depth must be in 1-{depth}, the depth of the {settings.stack}, not {target}"
            )
        rate = 1 - target / depth
    if not 0 <= rate <= 1:
        raise UserError(f"{flag} must be in [0, 1], not {rate}")
    return tuple(rate * factor for factor in depth_factors(schedule, depth))


def drop_rates(args, stack: str, depth: int) -> DropRates:
    """The rates at which a training drops the groups of a stack of *depth* layers.

    Raises:
        UserError: the settings are wrong or exclude each other.
    """
    return DropRates(*(_rates(StackSettings(args, stack), kind, depth) for kind in DROPS))


def drop_schedule(args):
    """The function from updates to the part of the rates that is in force; None where that is always all.

    Raises:
        UserError: a constant of the schedule is wrong.
    """
    name = str(getattr(args, "layerdrop_time_schedule", None) or "constant")
    if name != "warmup" and args.layerdrop_warmup_updates:
        raise UserError("--layerdrop-warmup-updates is for --layerdrop-time-schedule warmup")
    if name == "constant":
        return None
    constants = {"warmup_updates": args.layerdrop_warmup_updates, "gamma": args.layerdrop_gamma}
    if name == "warmup" and constants["warmup_updates"] <= 0:
        raise UserError("--layerdrop-time-schedule warmup needs --layerdrop-warmup-updates of at least 1")
    if name == "progressive" and not 0 < constants["gamma"] < math.inf:
        raise UserError("--layerdrop-time-schedule progressive needs a --layerdrop-gamma above 0")
    return partial(time_factor, name, **constants)
