"""Entry point of ``fairseq-layerdrop``. A verb's module is imported when the verb is asked for."""

import argparse
import os
import sys
from collections.abc import Collection
from importlib import import_module

from ..version import __version__

# Verb -> what it does, in a line. Its module here has `add_arguments(parser)` and `run(args)`.
VERBS = {
    "average": "average the weights of checkpoints",
    "choose": "the best plan of a sweep for a budget, with the commands to use it",
    "describe": "show a checkpoint's architecture, layers, parameters, LayerDrop rates and how it was pruned",
    "ended": "tell whether the training that wrote a checkpoint has ended; exit status 1 where it hasn't",
    "export": "write a pruned model that stands alone, for stock fairseq, CTranslate2 or transformers, or the plan to "
    "prune it",
    "flags": "print the training of a YAML configuration of fairseq-hydra-train, or of a checkpoint, as flags of "
    "fairseq-train, quoted for a shell",
    "glue": "score a fine-tuned model by the metrics of one of GLUE's tasks, and time it",
    "import": "make a fairseq checkpoint of a pre-trained model of Hugging Face's transformers, in a local folder",
    "mixture": "code lengths and regret of the Bayesian mixture over all sub-networks that LayerDrop can draw",
    "report": "write a page that shows a sweep: table, charts and the choice for a budget; needs no network",
    "score": "BLEU, ROUGE or perplexity of what fairseq-generate or fairseq-eval-lm wrote, or of text files",
    "select": "choose by data which layers or sub-layers to keep, and write a plan or a ladder for --prune-layers",
    "sensitivity": "tell what each layer and sub-layer is worth: the loss without it, and that of random sub-networks "
    "without it",
    "sweep": "measure quality, size, speed and memory of models at each depth, with pictures",
    "user-dir": "print the path to give as --user-dir",
}


def build_parser(verbs: Collection[str] = VERBS) -> argparse.ArgumentParser:
    """The parser of the command line, with the arguments of *verbs* alone."""
    parser = argparse.ArgumentParser(
        prog="fairseq-layerdrop", description="Train with LayerDrop in fairseq, prune to any depth.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    sub_parsers = parser.add_subparsers(metavar="VERB", required=True)
    for name, description in VERBS.items():
        verb_parser = sub_parsers.add_parser(name, help=description, description=description, allow_abbrev=False)
        if name in verbs:
            verb = import_module(f".{name.replace('-', '_')}", __package__)
            verb.add_arguments(verb_parser)
            verb_parser.set_defaults(run=verb.run)
    return parser


def _complete() -> None:
    """Answer a shell that asks how a command line goes on; see ``register-python-argcomplete``."""
    import argcomplete

    words = os.environ["COMP_LINE"].split()
    argcomplete.autocomplete(build_parser(words[1:2]))


def main(argv: list[str] | None = None) -> None:
    """Run one verb. A user's mistake ends the program with one line and exit status 1, or 2 for wrong usage."""
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser(argv[:1])
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
