"""How much faster `select` scores plans than scoring each from scratch, beside what its counts promise.

    python scripts/bench/selection_speed.py --out configs/selection_speed

One process, the same model, the same batches, the same plans: shared, as `select` walks them, and naive, each plan as
a forward pass of the pruned model. Two questions: all subsets of a 12-layer decoder, and the first removals of FinerCut
on its 24 sub-layers, once with and once without its protected share. The model is a language model with random
weights. The promise is the ratio of the layers, or sub-layers, that are run; embedding and output layer are paid by
both for each plan, so it can be met only as far as these are small: the model's vocabulary is. Writes OUT.json and
OUT.md.
"""

import argparse
import itertools
import json
import platform
import statistics
import time
from argparse import Namespace

import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

import fairseq_layerdrop.register  # noqa: F401  (registers the models)
from fairseq_layerdrop.base.files import write_atomically
from fairseq_layerdrop.plan import plan_without, transformer_structure
from fairseq_layerdrop.running.engine import Engine
from fairseq_layerdrop.running.measures import Distance, loss
from fairseq_layerdrop.running.scorer import Processes, ScoreLog, Scorer
from fairseq_layerdrop.selection.budget import Budget
from fairseq_layerdrop.selection.methods import METHODS
from fairseq_layerdrop.selection.problem import SelectionProblem

ARCH = "layerdrop_transformer_lm"


class Task:
    def __init__(self, symbols):
        self.dictionary = Dictionary()
        for number in range(symbols - len(self.dictionary)):
            self.dictionary.add_symbol(str(number))
        self.source_dictionary = self.target_dictionary = self.output_dictionary = self.dictionary


def make(args):
    width = args.width
    given = Namespace(
        decoder_layers=args.layers, decoder_embed_dim=width, decoder_input_dim=width, decoder_output_dim=width,
        decoder_ffn_embed_dim=4 * width, decoder_attention_heads=8, share_decoder_input_output_embed=True,
        decoder_normalize_before=True, tokens_per_sample=args.length, max_target_positions=args.length, seed=1,
    )  # fmt: skip
    ARCH_CONFIG_REGISTRY[ARCH](given)
    defaults = vars(ARCH_MODEL_REGISTRY[ARCH].__dataclass())
    torch.manual_seed(1)
    task = Task(args.vocabulary)
    model = ARCH_MODEL_REGISTRY[ARCH].build_model(Namespace(**{**defaults, **vars(given)}), task).eval()
    tokens = torch.randint(4, args.vocabulary, (args.sentences, args.length + 1))
    sample = {
        "net_input": {"src_tokens": tokens[:, :-1].contiguous()}, "target": tokens[:, 1:].contiguous(),
        "ntokens": args.sentences * args.length,
    }  # fmt: skip
    return model, task, [sample]


class Naive(Engine):
    """Each plan from scratch: a forward pass of the pruned model."""

    @torch.inference_mode()
    def score(self, plan, measure, part):
        dropped = set(self.units(plan[0][2] is not None)) - set(plan)
        self._runs += len(plan) * len(self.samples)
        with self.stacks.pruned(plan_without(self.structure, dropped)) as model:
            return sum(measure(model(**sample["net_input"]), sample) for sample in self.samples)


def all_subsets(engine, args, task):
    units = engine.units(False)
    scorer = Scorer(
        engine, False, loss(engine.stacks.model, CrossEntropyCriterion(task, False)), 1.0,
        ScoreLog(None, {}, Processes()),
    )  # fmt: skip
    sizes = range(len(units))
    return scorer.scores([dropped for size in sizes for dropped in itertools.combinations(units, size)])


def finercut(share):
    def run(engine, args, task):
        units = engine.units(True)
        budget = Budget(units, ("decoder",), {}, len(units) - args.removals)

        def scorer(name):
            measure = Distance(engine, name, task.dictionary.pad())
            return Scorer(engine, True, measure, 1.0, ScoreLog(None, {}, Processes()), name)

        problem = SelectionProblem(engine, budget, task.dictionary.pad(), None, scorer, "js", {"protect_share": share})
        return [score for _, score in METHODS["finercut"](problem).removals]

    return run


QUESTIONS = {
    "all subsets of {layers} layers": all_subsets,
    "FinerCut, {removals} of {sublayers} sub-layers": finercut(0.0),
    "FinerCut with protected share, {removals} of {sublayers}": finercut(0.4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=1000)
    parser.add_argument("--sentences", type=int, default=1)
    parser.add_argument("--length", type=int, default=40)
    parser.add_argument("--removals", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, task, samples = make(args)
    structure = transformer_structure({"decoder": args.layers})
    rows = []
    for text, problem in QUESTIONS.items():
        name = text.format(layers=args.layers, sublayers=2 * args.layers, removals=args.removals)
        seconds, runs, scores = {"shared": [], "naive": []}, {}, {}
        for _ in range(args.rounds):
            for how, engine_type in (("shared", Engine), ("naive", Naive)):
                engine = engine_type(model, structure, samples)
                start = time.perf_counter()
                scores[how] = problem(engine, args, task)
                seconds[how].append(time.perf_counter() - start)
                runs[how] = engine.evaluations
                print(name, how, f"{seconds[how][-1]:.1f} s", f"{runs[how]:,.0f} run", flush=True)
        assert all(abs(a - b) <= 1e-4 * abs(b) + 1e-4 for a, b in zip(scores["shared"], scores["naive"], strict=True))
        medians = {how: statistics.median(times) for how, times in seconds.items()}
        ratios = sorted(naive / shared for naive, shared in zip(seconds["naive"], seconds["shared"], strict=True))
        rows.append(
            {
                "problem": name, "run_shared": runs["shared"], "run_naive": runs["naive"],
                "promise": runs["naive"] / runs["shared"], "seconds_shared": medians["shared"],
                "seconds_naive": medians["naive"], "ratio": medians["naive"] / medians["shared"],
                "least": ratios[0], "most": ratios[-1],
            }
        )  # fmt: skip
    machine = platform.processor() or platform.machine()
    result = {**vars(args), "machine": machine, "torch": torch.__version__, "rows": rows}
    lines = [
        "| problem | units run: shared | naive | promise | seconds: shared | naive | faster | spread |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ] + [
        f"| {row['problem']} | {row['run_shared']:,.0f} | {row['run_naive']:,.0f} | {row['promise']:.2f} | "
        f"{row['seconds_shared']:.1f} | {row['seconds_naive']:.1f} | **{row['ratio']:.2f}** | "
        f"{row['least']:.2f}-{row['most']:.2f} |"
        for row in rows
    ]
    with write_atomically(f"{args.out}.json") as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    with write_atomically(f"{args.out}.md") as file:
        file.write(("\n".join(lines) + "\n").encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
