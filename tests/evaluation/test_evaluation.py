"""Reading logs of fairseq-generate, scoring them, and the table by depth."""

import json

import pytest
import sacrebleu

from fairseq_layerdrop.evaluation import (
    LogError,
    Metric,
    Pruning,
    detokenised_bleu,
    read_generation_log,
    read_validation_log,
)
from fairseq_layerdrop.reports.depth_table import measure, to_markdown
from fairseq_layerdrop.reports.depths import DepthScore, varying_stacks
from tests.commands import run
from tests.markdown import lines_of

REFERENCES = ["ein Mann geht .", "zwei Frauen sprechen laut .", "das Haus ist rot ."]


def log(hypotheses, kept=None, sentences=None, seconds="2.5"):
    lines = ["INFO:fairseq_cli.generate:loading model(s)"]
    if kept:
        lines.append(
            f"INFO:fairseq_layerdrop.surgery.build:pruned layers: kept {kept}; 1,000 parameters before, 600 after"
        )
    for i in reversed(range(len(hypotheses))):  # batches come sorted by length
        lines += [f"S-{i}\tx", f"T-{i}\ty", f"H-{i}\t-0.5\tz", f"D-{i}\t-0.5\t{hypotheses[i]}", f"P-{i}\t-0.5"]
    count = len(hypotheses) if sentences is None else sentences
    lines.append(
        f"INFO:fairseq_cli.generate:Translated {count:,} sentences (1,234 tokens) in {seconds}s (9 sentences/s)"
    )
    return "\n".join(lines) + "\n"


class TestGenerationLog:
    def test_read(self, tmp_path):
        path = tmp_path / "a.log"
        path.write_bytes(log(["a\x85b\rc", "", "c"], kept="decoder 2 of 4 layers (0,2)").encode())
        read = read_generation_log(path)
        assert read.hypotheses == ["a\x85b\rc", "", "c"]
        assert (read.seconds, read.tokens, read.pruning.parameters) == (2.5, 1234, 600)
        assert read.pruning == Pruning("decoder 2 of 4 layers (0,2)", {"decoder": (2, 4)}, 600)

    def test_without_plan(self, tmp_path):
        (tmp_path / "a.log").write_text(log(["a"]))
        assert read_generation_log(tmp_path / "a.log").pruning is None

    @pytest.mark.parametrize(
        "text, words",
        [("D-0\t-1\ta\n", "finished"), (log(["a"], sentences=2), "1 hypotheses, but tells of 2 sentences")],
    )
    def test_bad(self, tmp_path, text, words):
        (tmp_path / "a.log").write_text(text)
        with pytest.raises(LogError, match=words):
            read_generation_log(tmp_path / "a.log")

    def test_missing(self, tmp_path):
        with pytest.raises(LogError, match="no such log"):
            read_generation_log(tmp_path / "a.log")


class TestValidationLog:
    TEXT = (
        "INFO:fairseq_layerdrop.surgery.build:pruned layers: kept encoder 2 of 4 layers (0,2); 900 parameters before, "
        "500 after\nINFO:fairseq_cli.validate:valid on 'valid' subset | loss 3.000 | ppl 8.00 | num_updates 0\n"
    )

    def test_read(self, tmp_path):
        (tmp_path / "a.log").write_text(self.TEXT)
        read = read_validation_log(tmp_path / "a.log")
        assert read.loss == 3 and read.pruning == Pruning("encoder 2 of 4 layers (0,2)", {"encoder": (2, 4)}, 500)

    def test_unfinished(self, tmp_path):
        (tmp_path / "a.log").write_text(self.TEXT.splitlines()[0])
        with pytest.raises(LogError, match="no log of a finished fairseq-validate"):
            read_validation_log(tmp_path / "a.log")

    def test_table(self, tmp_path):
        (tmp_path / "small").mkdir()
        (tmp_path / "small" / "a.log").write_text(self.TEXT)
        rows, signature = measure([tmp_path / "small"], Metric("masked-lm"))
        assert "| encoder 2 of 4 layers (0,2) | 500 | 8.0 / 3.0 |" in lines_of(to_markdown(rows, signature))


class TestBleu:
    def test_is_sacrebleus(self):
        hypotheses = ["ein Mann geht .", "zwei Frauen reden laut .", "das Haus ist blau ."]
        bleu = detokenised_bleu(hypotheses, REFERENCES)
        assert bleu.score == sacrebleu.corpus_bleu(hypotheses, [REFERENCES]).score
        assert "tok:13a" in bleu.signature and detokenised_bleu(REFERENCES, REFERENCES).score == pytest.approx(100)

    def test_numbers_must_agree(self):
        with pytest.raises(ValueError, match="2 hypotheses for 3 references"):
            detokenised_bleu(["a", "b"], REFERENCES)


class TestDepthTable:
    def test_files(self, tmp_path):
        (tmp_path / "ref").write_text("\n".join(REFERENCES) + "\n")
        for model, half in (("ours", REFERENCES), ("theirs", ["x", "y", "z"])):
            (tmp_path / model).mkdir()
            whole = "encoder 6 of 6 layers (0-5), decoder 4 of 4 layers (0-3)"
            (tmp_path / model / "1.log").write_text(log(REFERENCES, kept=whole))
            pruned = "encoder 6 of 6 layers (0-5), decoder 2 of 4 layers (0,2)"
            (tmp_path / model / "2.log").write_text(
                log(half, kept=pruned, seconds="1.5").replace("600 after", "400 after")
            )
        run(
            "python", "-m", "fairseq_layerdrop.reports.depth_table", "--reference", tmp_path / "ref",
            "--metric", "sacrebleu", "--out", tmp_path / "out", tmp_path / "ours", tmp_path / "theirs",
        )  # fmt: skip
        rows = json.loads((tmp_path / "out.json").read_text())["rows"]
        assert [(row["model"], row["kept"][-5:], round(row["scores"]["BLEU"])) for row in rows] == [
            ("ours", "(0-3)", 100), ("theirs", "(0-3)", 100), ("ours", "(0,2)", 100), ("theirs", "(0,2)", 0),
        ]  # fmt: skip
        table = lines_of((tmp_path / "out.md").read_text())
        assert (
            table[2] == "| encoder 6 of 6 layers (0-5), decoder 4 of 4 layers (0-3) | 600 | 100.0 | 2.5 | 100.0 | 2.5 |"
        )
        assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")

    def test_full_depth_alone_counts_all_stacks(self, tmp_path):
        (tmp_path / "1.log").write_text(
            log(REFERENCES, kept="encoder 6 of 6 layers (0-5), decoder 4 of 4 layers (0-3)")
        )
        rows, _ = measure([tmp_path], Metric("sacrebleu"), REFERENCES)
        point = DepthScore("a", rows[0].depths, 100)
        assert varying_stacks([point]) == ("encoder", "decoder") and point.layers(varying_stacks([point])) == 10

    def test_perplexity_beside_the_papers(self, tmp_path):
        for name, (kept, loss, parameters) in {
            "1": ("2 of 2 layers (0-1)", 4, 9),
            "2": ("1 of 2 layers (0)", 5, 6),
        }.items():
            (tmp_path / f"{name}.log").write_text(
                f"pruned layers: kept decoder {kept}; 9 parameters before, {parameters} after\n"
                f"Evaluated 1,200 tokens in 3.5s (9 tokens/s)\nLoss (base 2): {loss}.0000, Perplexity: 16.00\n"
            )
        rows, signature = measure([tmp_path], Metric("perplexity"), words=600)
        assert [row.scores["perplexity by token"] for row in rows] == [16, 32]
        assert [row.scores["perplexity by word"] for row in rows] == [256, 1024]
        assert "1,200 tokens" in signature and [row.seconds for row in rows] == [3.5, 3.5]
        paper = {"table": "Table 2", "metric": "perplexity", "values": {tmp_path.name: {"perplexity by token": 18.3}}}
        assert lines_of(to_markdown(rows, signature, paper))[4] == (
            "| paper, full depth (Table 2, perplexity) | | - / 18.3 | |"
        )
        assert lines_of(to_markdown(rows, "", {**paper, "values": {tmp_path.name: "diverges"}}))[4].endswith(
            "| diverges | |"
        )  # fmt: skip

    def test_subwords(self, tmp_path):
        pieces = [" ".join(f"▁{word}" for word in line.split()) for line in REFERENCES]
        (tmp_path / "1.log").write_text(log(pieces, kept="decoder 4 of 4 layers (0-3)"))
        with pytest.raises(LogError, match=r"1\.log: these are subwords, .* give --remove-bpe sentencepiece"):
            measure([tmp_path], Metric("sacrebleu"), REFERENCES)
        rows, _ = measure([tmp_path], Metric("sacrebleu", remove_bpe="sentencepiece"), REFERENCES)
        assert rows[0].scores["BLEU"] == pytest.approx(100)

    def test_too_few_hypotheses(self, tmp_path):
        (tmp_path / "ref").write_text("\n".join(REFERENCES) + "\n")
        (tmp_path / "ours").mkdir()
        (tmp_path / "ours" / "1.log").write_text(log(["a"], kept="decoder 4 of 4 layers (0-3)"))
        done = run(
            "python", "-m", "fairseq_layerdrop.reports.depth_table", "--reference", tmp_path / "ref",
            "--out", tmp_path / "out", tmp_path / "ours", check=False,
        )  # fmt: skip
        assert done.returncode and done.stderr.splitlines()[-1].endswith("has 1 hypotheses for 3 references")
