"""The settings of fairseq's sequence generator that are read here."""

# Name -> type, default and help text. Types and defaults are fairseq's, copied so that parsers needn't import it.
GENERATION: dict[str, tuple[type, float, str]] = {
    "beam": (int, 5, "number of beams (default: 5)"),
    "max_len_a": (float, 0, "hypotheses have at most A x source length + B tokens, and this is A (default: 0)"),
    "max_len_b": (int, 200, "hypotheses have at most A x source length + B tokens, and this is B (default: 200)"),
    "min_len": (int, 1, "hypotheses have at least N tokens (default: 1)"),
    "lenpen": (float, 1, "length penalty: below 1 favours shorter hypotheses, above 1 longer ones (default: 1)"),
    "unkpen": (float, 0, "penalty for unknown words: below 0 gives more of them, above 0 fewer (default: 0)"),
    "unnormalized": (bool, False, "compare scores of hypotheses without dividing by their length"),
    "no_repeat_ngram_size": (int, 0, "no n-gram of N tokens occurs twice in a hypothesis (default: 0, no limit)"),
    "match_source_len": (bool, False, "hypotheses are as long as their sources"),
    "temperature": (float, 1.0, "divides the logits before the softmax (default: 1)"),
}
SETTINGS = tuple(GENERATION)
DEFAULTS = {name: default for name, (_, default, _) in GENERATION.items()}

# The metrics of generated text that plans are scored by: each a metric of texts, and which of its scores.
GENERATED = {"bleu": ("sacrebleu", "BLEU"), "rouge": ("rouge", "rougeLsum")}
