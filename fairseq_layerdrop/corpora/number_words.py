"""A small parallel corpus that anyone can make: numbers, dates and prices in English and German words.

``python -m fairseq_layerdrop.corpora.number_words OUT`` writes what :func:`~.subwords.write_pairs` says. Sentences
come from templates and the num2words library; all source sentences are distinct, so none of the test set is in the
training set.
"""

import argparse
import random
from pathlib import Path

from num2words import num2words

from .parallel import write_parallel

ENGLISH_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
GERMAN_MONTHS = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
]
ENGLISH_WARES = ["the book", "the lamp", "the ticket", "the bread", "the table", "the coat", "the house", "the bicycle"]
GERMAN_WARES = [
    "das Buch",
    "die Lampe",
    "die Fahrkarte",
    "das Brot",
    "der Tisch",
    "der Mantel",
    "das Haus",
    "das Fahrrad",
]
ENGLISH_EVENTS = [
    "he was born",
    "she came home",
    "the war ended",
    "the shop opened",
    "the letter was written",
    "it rained",
]
GERMAN_EVENTS = [
    "wurde er geboren",
    "kam sie nach Hause",
    "endete der Krieg",
    "wurde das Geschäft eröffnet",
    "wurde der Brief geschrieben",
    "regnete es",
]


def _number(rng: random.Random) -> tuple[str, str]:
    number = rng.randrange(10 ** rng.randint(2, 6))
    return num2words(number, lang="en"), num2words(number, lang="de")


def _count(rng: random.Random) -> tuple[str, str]:
    english, german = _number(rng)
    return (
        f"they counted {english} people and {(other := _number(rng))[0]} cars",
        f"sie zählten {german} Menschen und {other[1]} Autos",
    )


def _date(rng: random.Random) -> tuple[str, str]:
    day, month, year = rng.randint(1, 28), rng.randrange(12), rng.randint(1100, 1999)
    event = rng.randrange(len(ENGLISH_EVENTS))
    english = (
        f"{ENGLISH_EVENTS[event]} on the {num2words(day, lang='en', to='ordinal')} of {ENGLISH_MONTHS[month]} "
        f"{num2words(year, lang='en', to='year')}"
    )
    german = (
        f"am {num2words(day, lang='de', to='ordinal')}n {GERMAN_MONTHS[month]} {num2words(year, lang='de', to='year')} "
        f"{GERMAN_EVENTS[event]}"
    )
    return english, german


def _price(rng: random.Random) -> tuple[str, str]:
    euros, cents = rng.randint(2, 9999), rng.randint(2, 99)
    ware = rng.randrange(len(ENGLISH_WARES))
    english = f"{ENGLISH_WARES[ware]} costs {num2words(euros, lang='en')} euros and {num2words(cents, lang='en')} cents"
    german = f"{GERMAN_WARES[ware]} kostet {num2words(euros, lang='de')} Euro und {num2words(cents, lang='de')} Cent"
    return english, german


KINDS = (_count, _date, _price)


def make_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """*count* pairs of an English and a German sentence, with distinct English sides, in random order."""
    rng = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        english, german = rng.choice(KINDS)(rng)
        pairs[english] = german
    return list(pairs.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=40000, help="number of training pairs (default: %(default)s)")
    parser.add_argument("--heldout", type=int, default=500, help="pairs of valid and of test (default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=1000, help="number of BPE pieces (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    pairs = make_pairs(args.train + 2 * args.heldout, args.seed)
    cuts = {
        "valid": pairs[: args.heldout],
        "test": pairs[args.heldout : 2 * args.heldout],
        "train": pairs[2 * args.heldout :],
    }
    splits = {split: ([en for en, _ in part], [de for _, de in part]) for split, part in cuts.items()}
    write_parallel(splits, "en", "de", args.vocabulary, args.out)


if __name__ == "__main__":
    main()
