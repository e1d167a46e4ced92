"""``fairseq-layerdrop ended CKPT``."""

import sys


def add_arguments(parser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", help="a fairseq checkpoint (.pt)")
    limits = parser.add_argument_group("limits to tell it by, as in fairseq-train (default: the training's own)")
    limits.add_argument("--max-update", type=int, metavar="N", help="number of updates")
    limits.add_argument("--max-epoch", type=int, metavar="N", help="number of epochs")
    limits.add_argument("--stop-time-hours", type=float, metavar="N", help="hours of training")


def run(args) -> None:
    from ..surgery.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(args.checkpoint)
    given = {name: getattr(args, name) for name in ("max_update", "max_epoch", "stop_time_hours")}
    ended = checkpoint.has_ended(None if set(given.values()) == {None} else given)
    print(f"{args.checkpoint}: {'ended' if ended else 'not ended'} after {checkpoint.updates or 0} updates")
    if not ended:
        sys.exit(1)
