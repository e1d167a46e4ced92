"""``python -m fairseq_layerdrop`` is ``fairseq-layerdrop``."""

from .cli.main import main

main()
