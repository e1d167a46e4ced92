"""Entry point of ``fairseq-layerdrop``."""

import argparse
import sys

from . import (
    average,
    choose,
    describe,
    ended,
    export,
    flags,
    glue,
    mixture,
    report,
    score,
    select,
    sensitivity,
    sweep,
    user_dir,
)

VERBS = {
    "average": average,
    "choose": choose,
    "describe": describe,
    "ended": ended,
    "export": export,
    "flags": flags,
    "glue": glue,
    "mixture": mixture,
    "report": report,
    "score": score,
    "select": select,
    "sensitivity": sensitivity,
    "sweep": sweep,
    "user-dir": user_dir,
}


def main(argv: list[str] | None = None) -> None:
    """Run one verb. A user's mistake ends the program with one line and exit status 1, or 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="fairseq-layerdrop", description="Train with LayerDrop in fairseq, prune to any depth.", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, verb in VERBS.items():
        verb_parser = verbs.add_parser(name, help=verb.HELP, description=verb.HELP, allow_abbrev=False)
        verb.add_arguments(verb_parser)
        verb_parser.set_defaults(run=verb.run)
    args, more = parser.parse_known_args(argv)
    overrides = getattr(args, "overrides", None)
    if overrides is not None and not any(word.startswith("-") for word in more):
        overrides.extend(more)  # argparse takes positional arguments behind an option for unknown ones
    elif more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
