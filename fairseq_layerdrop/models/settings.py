"""What our models can be told beyond fairseq's own settings, and what follows from it."""

import math
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II, OmegaConf

from ..modules import DEPTH_SCHEDULES, TIME_SCHEDULES, DropRates, depth_factors, time_factor
from ..plan import UserError


@dataclass
class DropSettings(FairseqDataclass):
    """Settings of every model."""

    layerdrop_depth_schedule: ChoiceEnum(DEPTH_SCHEDULES) = field(
        default="uniform",
        metadata={
            "help": "how all drop rates grow from the first layer of a stack to the last, which has the whole rate: "
            "not at all, (l+1)/L (stochastic depth) or 2^(l/(L-1))-1 (LayerSkip)"
        },
    )
    layerdrop_time_schedule: ChoiceEnum(TIME_SCHEDULES) = field(
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
    """Give *args*, in place, those of our *settings* that it lacks, as those of older and stock checkpoints do."""
    for item in fields(settings):
        refers = str(item.default).startswith("${")  # to another part of a run's configuration
        if (
            getattr(args, item.name, None) is None
            and item.name != "_name"
            and (OmegaConf.is_config(args) or not refers)
        ):
            setattr(args, item.name, item.default)


def with_settings(architecture, settings: type[DropSettings]):
    """fairseq's *architecture*, a function that completes a model's settings, with those of our *settings*.

    They also let the model of a hydra configuration know the run's seed, as that of a command line does.
    """

    def completed(args):
        complete_settings(args, settings)
        architecture(args)

    return completed


def _rate(args, name: str, flag: str) -> float:
    rate = getattr(args, name, None) or 0.0
    if not 0 <= rate <= 1:
        raise UserError(f"--{flag} must be in [0, 1], not {rate}")
    return rate


def drop_rates(args, stack: str, depth: int) -> DropRates:
    """The rates at which a training drops the groups of a stack of *depth* layers.

    Raises:
        UserError: the settings are wrong or exclude each other.
    """
    flag = f"{stack}-layerdrop"
    rate = _rate(args, f"{stack}_layerdrop", flag)
    target = getattr(args, f"{stack}_layerdrop_target_depth", None)
    listed = getattr(args, f"{stack}_layerdrop_rates", None)
    if sum(map(bool, (rate, target is not None, listed))) > 1:
        raise UserError(f"--{flag}, --{flag}-target-depth and --{flag}-rates exclude each other; give one")
    if target is not None:
        if not 1 <= target <= depth:
            raise UserError(f"--{flag}-target-depth must be in 1-{depth}, the depth of the {stack}, not {target}")
        rate = 1 - target / depth
    schedule = getattr(args, "layerdrop_depth_schedule", None) or "uniform"
    if target is not None and schedule != "uniform":
        raise UserError(f"--{flag}-target-depth and --layerdrop-depth-schedule exclude each other; give one")
    factors = depth_factors(str(schedule), depth)
    layers = tuple(rate * factor for factor in factors)
    if listed:
        if schedule != "uniform":
            raise UserError(f"--{flag}-rates and --layerdrop-depth-schedule exclude each other; give one")
        try:
            layers = tuple(float(item) for item in listed.split(","))
        except ValueError:
            layers = ()
        if len(layers) != depth or not all(0 <= item <= 1 for item in layers):
            raise UserError(f"--{flag}-rates must be {depth} numbers in [0, 1], as in 0,0.1,0.2, not {listed}")
    groups = {
        kind: tuple(_rate(args, f"{stack}_{kind}", f"{stack}-{kind}") * factor for factor in factors)
        for kind in ("sublayerdrop", "headdrop")
    }
    return DropRates(layers, groups["sublayerdrop"], groups["headdrop"])


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
