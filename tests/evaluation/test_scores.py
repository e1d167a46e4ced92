"""BLEU, ROUGE and perplexity, against other implementations and by hand."""

import json
import re

import pytest
from fairseq.scoring.bleu import BleuConfig, Scorer
from rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer

from fairseq_layerdrop.evaluation import Perplexity, detokenised_bleu, read_generation_log, tokenised_bleu
from fairseq_layerdrop.evaluation.rouge import answer_rouge, summary_rouge
from fairseq_layerdrop.evaluation.sentences import in_sentences
from tests.commands import LAYERDROP_TRANSLATION, ROOT, ends_in_one_line, generate, layerdrop, run, train_lm
from tests.tasks.test_language_modeling_commands import evaluate

CNN_DM = ROOT.parent / "shared" / "data" / "cnn_dm" / "cnn_dm_999.jsonl"
HYPOTHESES = ["the long-term plan of the state-owned bank is a well-known secret .", "he does n't know it , she said ."]
REFERENCES = [
    "the long-term plans of the state-run bank are a well-known secret .",
    "he does n't know that , she said .",
]
SUMMARY = "The old bridge fell on Monday. Nobody was hurt, Mr. Smith said. Repairs will take a year."
REFERENCE = "Bridge fell Monday .<q>Repairs to take one year .<q>No one hurt ."


class TestBleu:
    def fairseq_score(self, hypotheses, references):
        """fairseq-score's own, with its own numbering of words."""
        scorer, numbers = Scorer(BleuConfig(pad=1, eos=2, unk=3)), {}
        import torch

        for hypothesis, reference in zip(hypotheses, references):
            ids = [
                [numbers.setdefault(word, len(numbers) + 4) for word in line.split()]
                for line in (reference, hypothesis)
            ]
            scorer.add(*(torch.IntTensor(line) for line in ids))
        return scorer.score()

    def test_tokenised_is_fairseq_scores(self):
        ours = tokenised_bleu(HYPOTHESES, REFERENCES).score
        assert ours == pytest.approx(self.fairseq_score(HYPOTHESES, REFERENCES))

    def test_compounds(self):
        """The split by sed's rule: a hyphen between two characters that aren't spaces."""
        split = [
            [line.replace("long-term", "long ##AT##-##AT## term").replace("state-", "state ##AT##-##AT## ")
             .replace("well-known", "well ##AT##-##AT## known") for line in lines]
            for lines in (HYPOTHESES, REFERENCES)
        ]  # fmt: skip
        ours = tokenised_bleu(HYPOTHESES, REFERENCES, split_compounds=True).score
        assert ours == pytest.approx(self.fairseq_score(*split))
        assert ours != tokenised_bleu(HYPOTHESES, REFERENCES).score

    def test_signature_tells_the_tokeniser(self):
        assert "tok:none" in tokenised_bleu(HYPOTHESES, REFERENCES).signature
        assert "tok:13a" in detokenised_bleu(HYPOTHESES, REFERENCES).signature


class TestRouge:
    def test_summaries_are_rouge_scores_own(self):
        scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
        expected = scorer.score(REFERENCE.replace("<q>", "\n"), SUMMARY.replace(". ", ".\n").replace("Mr.\n", "Mr. "))
        ours = summary_rouge([SUMMARY], [REFERENCE])
        assert ours == {name: pytest.approx(100 * score.fmeasure) for name, score in expected.items()}
        assert ours["rougeLsum"] != ours["rougeL"]

    def test_sentences(self):
        assert in_sentences(SUMMARY).split("\n") == [
            "The old bridge fell on Monday.", "Nobody was hurt, Mr. Smith said.", "Repairs will take a year.",
        ]  # fmt: skip
        assert in_sentences("One . Two<q> three ") == "One . Two\nthree"
        assert in_sentences("") == ""

    def test_answers_by_hand(self):
        """Three of four words match once stemmed; n-grams count once, however often they stand there."""
        scores = answer_rouge(["cats were running fast"], ["the cat was run fast"])
        assert scores["rouge1"] == pytest.approx(100 * 2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
        assert scores["rouge2"] == pytest.approx(100 * 2 * (1 / 3) * (1 / 4) / (1 / 3 + 1 / 4))
        assert answer_rouge(["a a a b"], ["a b"])["rouge1"] == pytest.approx(100)
        assert answer_rouge(["fast,"], ["fast"])["rouge1"] == answer_rouge([""], ["fast"])["rouge1"] == 0

    def test_answers_are_the_authors_package(self):
        stemmed = ["the old bridg fell on monday . nobodi wa hurt .", "the bridg fell monday . no one hurt ."]
        [expected] = Rouge().get_scores(*stemmed)
        ours = answer_rouge(
            ["The old bridge fell on Monday . Nobody was hurt ."], ["The bridge fell Monday . No one hurt ."]
        )
        assert ours == {
            name.replace("-", "").replace("l", "L"): pytest.approx(100 * scores["f"])
            for name, scores in expected.items()
        }  # fmt: skip

    def test_long_answers(self):
        assert answer_rouge([" ".join(map(str, range(900)))], [" ".join(map(str, range(900)))])[
            "rougeL"
        ] == pytest.approx(100)

    @pytest.mark.skipif(not CNN_DM.is_file(), reason="the CNN/DailyMail articles are not here")
    def test_real_summaries(self):
        items = [json.loads(line) for line in CNN_DM.read_text().splitlines()[:20]]
        references = [item["highlights"].replace("\n", "<q>") for item in items]
        leads = ["\n".join(in_sentences(item["article"]).split("\n")[:3]) for item in items]
        scorer = RougeScorer(["rougeLsum"], use_stemmer=True)
        expected = [scorer.score(item["highlights"], lead)["rougeLsum"].fmeasure for item, lead in zip(items, leads)]
        assert summary_rouge(leads, references)["rougeLsum"] == pytest.approx(100 * sum(expected) / 20)
        assert summary_rouge(references, references)["rougeLsum"] == pytest.approx(100)


class TestPerplexity:
    def test_by_word(self):
        """2 bits a token, 1.5 tokens a word: 3 bits a word."""
        perplexity = Perplexity(2.0, 300, words=200)
        assert (perplexity.by_token, perplexity.by_word) == (4.0, 8.0)
        assert Perplexity(2.0, 300).by_word is None


class TestCommand:
    def test_of_a_generation_log(self, translation_data, checkpoint, tmp_path):
        done = generate(translation_data, checkpoint, *LAYERDROP_TRANSLATION, "--nbest", "2")
        (tmp_path / "log").write_text(done.stdout + done.stderr)
        log = read_generation_log(tmp_path / "log")
        assert len(log.tokenised) == len(log.references) == 16
        told = json.loads(run("fairseq-layerdrop", "score", tmp_path / "log", "--metric", "bleu", "--json").stdout)
        assert told["BLEU"] == tokenised_bleu(log.tokenised, log.references).score
        for name, lines in {"h": log.hypotheses, "r": log.references}.items():
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        for metric in ("sacrebleu", "compound-bleu", "rouge", "rouge-eli5"):
            of_log = layerdrop("score", tmp_path / "log", "--metric", metric).stdout
            files = layerdrop(
                "score", "--hypotheses", tmp_path / "h", "--references", tmp_path / "r", "--metric", metric
            )
            assert of_log == files.stdout and re.search(r"\d\.\d\d\n", of_log)

    def test_of_an_eval_lm_log(self, lm_data, tmp_path):
        train_lm(lm_data, tmp_path, 1)
        done = evaluate(lm_data, tmp_path / "checkpoint_last.pt", *LAYERDROP_TRANSLATION[:2])
        (tmp_path / "log").write_text(done.stdout + done.stderr)
        told = json.loads(
            layerdrop("score", tmp_path / "log", "--metric", "perplexity", "--words", "50", "--json").stdout
        )
        printed = float(re.search(r"Perplexity: ([\d.]+)", done.stdout + done.stderr)[1])
        assert told["perplexity by token"] == pytest.approx(printed, rel=1e-3)
        assert told["perplexity by word"] == pytest.approx(2 ** (told["bits by token"] * told["tokens"] / 50))

    def test_mistakes(self, tmp_path):
        (tmp_path / "two").write_text("a\nb\n")
        (tmp_path / "one").write_text("a\n")
        (tmp_path / "latin").write_bytes(b"\xe4\n")
        for arguments, words in {
            (): "give either LOG or --hypotheses",
            ("--hypotheses", tmp_path / "two"): "--hypotheses wants --references",
            ("--hypotheses", tmp_path / "two", "--references", tmp_path / "one"): "2 hypotheses for 1 references",
            ("--hypotheses", tmp_path / "none", "--references", tmp_path / "one"): "cannot read",
            ("--hypotheses", tmp_path / "latin", "--references", tmp_path / "one"): "is not UTF-8",
            ("--metric", "perplexity"): "wants the LOG of fairseq-eval-lm",
        }.items():
            ends_in_one_line(layerdrop("score", *arguments, check=False), words)
        done = layerdrop("score", tmp_path / "one", check=False)
        assert done.returncode and "is no log of a finished fairseq-generate" in done.stderr
