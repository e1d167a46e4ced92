"""Sentences per second of one model, whole and pruned, in fairseq-generate and in CTranslate2, with BLEU.

    python scripts/bench/translation_speed.py CKPT DATA_BIN --prune-layers decoder=keep:3@every_other \
        --source test.en --reference reference.de --out configs/multi30k/speed

The models are exported to a scratch folder, then translate the same sentences in turn, again and again: each round
runs every system once, so that what else the machine does hits all alike. Time is that of translating alone, without
loading: fairseq-generate's own figure, and the clock around CTranslate2's translate_batch. Writes OUT.json and OUT.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ctranslate2
import torch

from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.evaluation.bleu import detokenised_bleu
from fairseq_layerdrop.evaluation.cost import machine
from fairseq_layerdrop.evaluation.logs import read_generation_log

BEAM, BATCH, LONGEST = 4, 128, 200


def command(*words, **env):
    program = Path(sys.executable).parent / words[0]
    return subprocess.run(
        [str(program), *map(str, words[1:])],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    ).stdout


class Fairseq:
    """fairseq-generate on an exported checkpoint."""

    def __init__(self, args, scratch, name, spec):
        self.args, self.path = args, scratch / f"{name}.pt"
        command("fairseq-layerdrop", "export", args.checkpoint, *spec, "-o", self.path)
        self.bytes = self.path.stat().st_size
        self.user_dir = command("fairseq-layerdrop", "user-dir").decode().strip()

    def translate(self):
        log = self.path.with_suffix(".log")
        printed = command(
            "fairseq-generate", self.args.data, "--path", self.path, "--user-dir", self.user_dir,
            "--task", "layerdrop_translation", "--cpu", "--beam", BEAM, "--batch-size", BATCH, "--max-len-b", LONGEST,
            "--required-batch-size-multiple", 1, "--remove-bpe", "sentencepiece",
            OMP_NUM_THREADS=str(self.args.threads),
        )  # fmt: skip
        log.write_bytes(printed)
        read = read_generation_log(log)
        return read.hypotheses, read.seconds


class CTranslate2:
    """CTranslate2 on an exported directory."""

    def __init__(self, args, scratch, name, spec, compute_type):
        path = scratch / f"{name}-{compute_type}"
        command(
            "fairseq-layerdrop", "export", args.checkpoint, *spec, "-o", path, "--format", "ctranslate2",
            "--data", args.data, "--quantization", compute_type,
        )  # fmt: skip
        self.bytes = (path / "model.bin").stat().st_size
        self.sentences = [line.split() for line in args.source.read_text(encoding="utf-8").split("\n")[:-1]]
        self.translator = ctranslate2.Translator(
            str(path), compute_type=compute_type, inter_threads=args.threads, intra_threads=1
        )
        self._run(self.sentences[:BATCH])

    def _run(self, sentences):
        return self.translator.translate_batch(
            sentences, beam_size=BEAM, max_batch_size=BATCH, max_decoding_length=LONGEST, max_input_length=0
        )

    def translate(self):
        start = time.perf_counter()
        results = self._run(self.sentences)
        seconds = time.perf_counter() - start
        return ["".join(result.hypotheses[0]).replace("▁", " ").strip() for result in results], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", help="binarised data, with the test set in it")
    parser.add_argument("--prune-layers", required=True, metavar="SPEC")
    parser.add_argument("--source", type=Path, required=True, help="the same test set as text, in SentencePiece pieces")
    parser.add_argument("--reference", type=Path, required=True, help="detokenised references")
    parser.add_argument(
        "--threads", type=int, default=1, help="in fairseq within operations, in CTranslate2 for batches side by side"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    references = args.reference.read_text(encoding="utf-8").split("\n")[:-1]
    with tempfile.TemporaryDirectory() as folder:
        scratch, pruned = Path(folder), ("--prune-layers", args.prune_layers)
        systems = {}
        for depth, spec in {"full": (), "pruned": pruned}.items():
            systems["fairseq-generate", depth, "float32"] = Fairseq(args, scratch, depth, spec)
            for kind in ("float32", "int8"):
                systems["CTranslate2", depth, kind] = CTranslate2(args, scratch, depth, spec, kind)
        rounds = []
        for number in range(args.repeats):
            print(f"round {number + 1} of {args.repeats}", flush=True)
            rounds.append({key: system.translate() for key, system in systems.items()})
        size = {key: system.bytes for key, system in systems.items()}
    rows, baseline = [], None
    for key in sorted(systems, key=lambda key: (key[0] != "fairseq-generate", key[1], key[2])):
        speeds = sorted(len(references) / run[key][1] for run in rounds)
        hypotheses = rounds[0][key][0]
        same = [a == b for a, b in zip(hypotheses, rounds[0]["fairseq-generate", key[1], "float32"][0])]
        baseline = baseline or statistics.median(speeds)
        rows.append(
            {
                "program": key[0],
                "depth": key[1],
                "weights": key[2],
                "bleu": detokenised_bleu(hypotheses, references).score,
                "sentences_per_second": {
                    "median": statistics.median(speeds),
                    "least": speeds[0],
                    "most": speeds[-1],
                },
                "ratio": statistics.median(speeds) / baseline,
                "bytes": size[key],
                "same_as_fairseq_generate": sum(same) / len(references),
            }
        )
    result = {
        "machine": machine(torch.device("cpu")),
        "threads": args.threads,
        "repeats": args.repeats,
        "beam": BEAM,
        "batch": BATCH,
        "sentences": len(references),
        "prune_layers": args.prune_layers,
        "versions": {"torch": torch.__version__, "ctranslate2": ctranslate2.__version__},
        "bleu": detokenised_bleu(references, references).signature,
        "rows": rows,
    }
    lines = [
        "| program | layers | weights | sentences/s | spread | ratio | BLEU | MB | same as fairseq-generate |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        speed = row["sentences_per_second"]
        lines.append(
            f"| {row['program']} | {row['depth']} | {row['weights']} | {speed['median']:.0f} "
            f"| {speed['least']:.0f}-{speed['most']:.0f} | {row['ratio']:.2f} | {row['bleu']:.1f} "
            f"| {row['bytes'] / 1e6:.1f} | {100 * row['same_as_fairseq_generate']:.1f} % |"
        )
    for suffix, text in {".json": json.dumps(result, indent=1), ".md": "\n".join(lines)}.items():
        with write_atomically(f"{args.out}{suffix}") as file:
            file.write(f"{text}\n".encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
