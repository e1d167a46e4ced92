"""``fairseq-layerdrop VERB``: one module a verb, each with ``HELP``, ``add_arguments(parser)`` and ``run(args)``."""
