"""Joint pieces: the same in each process, whatever part of the text they are learned from."""

import random

from fairseq_layerdrop.corpora.subwords import drawn
from tests.commands import run

PREPARE = """
import sys
from pathlib import Path
from fairseq_layerdrop.corpora import subwords
from fairseq_layerdrop.corpora.parallel import read_parallel, write_parallel
subwords._MOST_LINES = int(sys.argv[3])
splits = {split: read_parallel(Path(sys.argv[1]), "a", "b") for split in ("train", "valid", "test")}
write_parallel(splits, "a", "b", 60, Path(sys.argv[2]))
"""


def test_text_beyond_what_is_learned_from(tmp_path):
    """Two processes learn the same from 150 of 400 lines, and another thing than from all."""
    rng = random.Random(1)
    for lang in "ab":
        lines = ("".join(rng.choices("abcdefg ", k=30)) for _ in range(200))
        (tmp_path / f"text.{lang}").write_text("".join(f"{line}\n" for line in lines))
    learned = []
    for name, most in {"first": 150, "second": 150, "all": 1000}.items():
        run("python", "-c", PREPARE, tmp_path / "text", tmp_path / name, most, PYTHONHASHSEED=str(len(learned)))
        learned.append((tmp_path / name / "spm.vocab").read_text())
    assert learned[0] == learned[1] != learned[2]


def test_each_line_is_as_likely():
    lines = [str(number) for number in range(20)]
    draws = [list(drawn(lines, 20, 5, seed)) for seed in range(2000)]
    assert all(len(draw) == 5 and draw == sorted(draw, key=int) for draw in draws)
    counts = [sum(line in draw for draw in draws) for line in lines]
    assert min(counts) > 420 and max(counts) < 580  # 500 on average, with a standard deviation of 19
    assert list(drawn(lines, 20, 20)) == list(drawn(lines, 20, 30)) == lines
    assert list(drawn(lines, 20, 5)) == list(drawn(lines, 20, 5))
