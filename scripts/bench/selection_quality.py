"""Every way of choosing, at some sizes, on some models: chosen on valid, measured on test. Writes OUT.json and OUT.md.

    python scripts/bench/selection_quality.py translation work/multi30k/data-bin \
        --layers 6 --keep 4 3 2 --sentences 256 --reference work/multi30k/text/reference.de \
        --log work/multi30k/selection.jsonl --out configs/multi30k/selection \
        work/multi30k/layerdrop/checkpoint_best.pt work/multi30k/baseline/checkpoint_best.pt
    python scripts/bench/selection_quality.py lm work/wikitext2/data-bin --layers 12 --keep 8 6 4 --sentences 16 \
        --log work/wikitext2/selection.jsonl --out configs/wikitext2/selection \
        work/wikitext2/layerdrop/checkpoint_best.pt work/wikitext2/baseline/checkpoint_best.pt

Layers are removed from the decoder. A method that removes sub-layers keeps as many of them as the wanted number of
layers has. Plans are made by `fairseq-layerdrop select`, as commands, and used by fairseq-generate or fairseq-eval-lm
with --prune-layers; a model's name is that of its folder. Each result is a line of --log at once, and a second call
goes on from there.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.evaluation import Perplexity, detokenised_bleu, read_eval_lm_log, read_generation_log
from fairseq_layerdrop.surgery.checkpoint_file import load_checkpoint
from fairseq_layerdrop.surgery.history import fingerprint

RULES = ("every_other", "top", "bottom", "middle")
LADDERS = ("contribution", "block-influence", "relative-magnitude", "taylor", "sleb")
SUB_LAYERS = ("similarity", "blockpruner", "finercut")
PER_SIZE = ("angular", "search")
GENERATE = ("--beam", "4", "--max-len-a", "1.5", "--max-len-b", "20", "--batch-size", "128")
EVALUATE = ("--tokens-per-sample", "256", "--max-tokens", "4096")


def command(*words) -> str:
    program, *arguments = map(str, words)
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stdout[-2000:]}")
    return done.stdout


class Bench:
    def __init__(self, args, scratch):
        self.args, self.scratch = args, scratch
        self.user_dir = command("fairseq-layerdrop", "user-dir").strip()
        self.names = 3 if args.kind == "translation" else 2

    def select(self, checkpoint, method, *more):
        """The file that `select` wrote, and the seconds that it took."""
        out = self.scratch / f"{len(list(self.scratch.iterdir()))}.json"
        ends = ("--protect-first", "0", "--protect-last", "0") if method == "taylor" else ()
        said = command(
            "fairseq-layerdrop", "select", self.args.data, "--path", checkpoint, "--method", method, "--cpu",
            "--sentences", self.args.sentences, "-o", out, *ends, *more,
        )  # fmt: skip
        return out, float(re.findall(r"([\d.]+) s$", said, re.MULTILINE)[-1])

    def plans(self, checkpoint):
        """Method, number of layers, text for --prune-layers, and seconds that choosing took."""
        for keep in self.args.keep:
            for rule in RULES:
                verb = "keep" if rule == "every_other" else "drop"
                count = keep if verb == "keep" else self.args.layers - keep
                yield rule, keep, lambda count=count, verb=verb, rule=rule: (f"decoder={verb}:{count}@{rule}", 0.0)
        for method in (*LADDERS, *SUB_LAYERS):
            made = []

            def ladder(method=method, made=made):
                if not made:
                    made.append(self.select(checkpoint, method, "--stacks", "decoder"))
                return made[0]

            for keep in self.args.keep:
                count = keep * self.names if method in SUB_LAYERS else keep

                def of_ladder(count=count, ladder=ladder):
                    path, seconds = ladder()
                    return f"decoder=keep:{count}@{path}", seconds

                yield method, keep, of_ladder
        for method in PER_SIZE:
            for keep in self.args.keep:
                yield method, keep, lambda m=method, k=keep: self.select(checkpoint, m, "--keep", f"decoder={k}")

    def measure(self, checkpoint, spec) -> tuple[float, str]:
        log = self.scratch / "log"
        common = (
            self.args.data, "--path", checkpoint, "--user-dir", self.user_dir, "--cpu", "--gen-subset", "test",
            "--required-batch-size-multiple", "1", *(("--prune-layers", spec) if spec else ()),
        )  # fmt: skip
        if self.args.kind == "translation":
            words = ("fairseq-generate", *common, "--task", "layerdrop_translation", *GENERATE)
            log.write_text(command(*words, "--remove-bpe", "sentencepiece"))
            read = read_generation_log(log)
            references = Path(self.args.reference).read_text(encoding="utf-8").removesuffix("\n").split("\n")
            return detokenised_bleu(read.hypotheses, references).score, read.kept
        log.write_text(command("fairseq-eval-lm", *common, "--task", "layerdrop_language_modeling", *EVALUATE))
        read = read_eval_lm_log(log)
        return Perplexity(read.bits_per_token, read.tokens).by_token, read.kept


def to_markdown(rows, args) -> str:
    models = list(dict.fromkeys(row["model"] for row in rows))
    what = "BLEU" if args.kind == "translation" else "perplexity"
    heads = [f"{model}, {keep}" for model in models for keep in args.keep]
    by = {(row["method"], row["model"], row["keep"]): row for row in rows}
    full = ", ".join(f"{model} {by['full', model, None]['score']:.1f}" for model in models)
    lines = [
        f"Test {what}; whole models: {full}.",
        "",
        "| method | " + " | ".join(heads) + " | seconds to choose |",
        "|---|" + "---:|" * (len(heads) + 1),
    ]
    for method in dict.fromkeys(row["method"] for row in rows if row["keep"] is not None):
        of_method = [row for row in rows if row["method"] == method]
        cells = [f"{by[method, model, keep]['score']:.1f}" for model in models for keep in args.keep]
        seconds = sorted(row["seconds"] for row in of_method)
        took = "" if method in RULES else f"{seconds[0]:.0f}-{seconds[-1]:.0f}"
        lines.append(f"| `{method}` | " + " | ".join(cells) + f" | {took} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("translation", "lm"))
    parser.add_argument("data")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--keep", type=int, nargs="+", required=True, help="numbers of decoder layers")
    parser.add_argument("--layers", type=int, required=True, help="decoder layers of the whole model")
    parser.add_argument("--sentences", type=int, required=True, help="sentences, or blocks, of valid to look at")
    parser.add_argument("--reference")
    parser.add_argument("--log", required=True, help="results so far, to go on from")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    log = Path(args.log)
    settings = {name: value for name, value in vars(args).items() if name in ("kind", "data", "layers", "sentences")}
    settings["checkpoints"] = {
        path.parent.name: fingerprint(load_checkpoint(path)["model"]) for path in args.checkpoints
    }
    lines = log.read_text().split("\n")[:-1] if log.exists() else []  # what follows the last line feed is a cut line
    if lines and json.loads(lines[0]) != settings:
        raise SystemExit(f"{log} is of other settings or checkpoints; give another --log, or remove it")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(f"{line}\n" for line in lines or [json.dumps(settings)]))
    rows = [json.loads(line) for line in lines[1:]]
    done = {(row["model"], row["method"], row["keep"]) for row in rows}
    with tempfile.TemporaryDirectory() as scratch, log.open("a") as file:
        bench = Bench(args, Path(scratch))

        def add(checkpoint, method, keep, make):
            model = checkpoint.parent.name
            if (model, method, keep) in done:
                return
            spec, seconds = make()
            score, kept = bench.measure(checkpoint, spec)
            rows.append(
                {"model": model, "method": method, "keep": keep, "score": score, "kept": kept, "seconds": seconds}
            )
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
            print(json.dumps(rows[-1]), flush=True)

        for checkpoint in args.checkpoints:
            add(checkpoint, "full", None, lambda: (None, 0.0))
            for method, keep, make in bench.plans(checkpoint):
                add(checkpoint, method, keep, make)
    with write_atomically(f"{args.out}.json") as file:
        file.write((json.dumps({**settings, "rows": rows}, indent=1) + "\n").encode())
    table = to_markdown(rows, args)
    with write_atomically(f"{args.out}.md") as file:
        file.write(table.encode())
    print(table)


if __name__ == "__main__":
    main()
