"""A tokenizer's symbols as a fairseq dictionary."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from .folder import ImportFolderError, read_json

# Files of transformers' tokenizers, which are copied beside an imported model.
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "sentencepiece.model", "source.spm",
    "target.spm", "vocab-src.json", "vocab-tgt.json", "target_vocab.json",
)  # fmt: skip
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
# fairseq's first symbols, in the order of their numbers, each with the names of transformers' roles.
SPECIAL = {
    "<s>": ("cls_token", "bos_token"),
    "<pad>": ("pad_token",),
    "</s>": ("sep_token", "eos_token"),
    "<unk>": ("unk_token",),
}
MASK = "<mask>"


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a model, in fairseq's order.

    Attributes:
        symbols: those behind fairseq's four own, as in ``dict.txt``.
        order: for each symbol, the four among them, its number in transformers; None for one that isn't there.
    """

    symbols: tuple[str, ...]
    order: tuple[int | None, ...]

    def with_mask(self) -> "Vocabulary":
        """It with a symbol for masks, which fairseq's tasks for encoders add where there is none."""
        return self if MASK in self.symbols else Vocabulary((*self.symbols, MASK), (*self.order, None))

    def rows(self, table: torch.Tensor, new: torch.Tensor | float = 0.0) -> torch.Tensor:
        """*table*, with a row a symbol, in fairseq's order; rows of symbols that it lacks are filled with *new*."""
        if self.order == tuple(range(len(table))):
            return table
        made = table[torch.tensor([number or 0 for number in self.order])]
        made[[place for place, number in enumerate(self.order) if number is None]] = new
        return made

    def rows_back(self, table: torch.Tensor) -> torch.Tensor:
        """The table of transformers' model from one in fairseq's order."""
        if self.order == tuple(range(len(table))):
            return table
        places = {number: place for place, number in enumerate(self.order) if number is not None}
        return table[torch.tensor([places[number] for number in range(len(places))])]


def tokens_of(folder: Path, *files: str) -> dict[int, str]:
    """The tokens of the tokenizer in *folder*, by their numbers.

    Args:
        folder: of the tokenizer.
        files: the file to read is the first of these that is there; by default, of all that transformers knows.

    Raises:
        ImportFolderError: there is none that can be read.
    """
    name = next((name for name in files or _VOCABULARIES if os.path.isfile(folder / name)), None)
    if name is None:
        raise ImportFolderError(
            f"{folder} has no {' or '.join(files or _VOCABULARIES)}; AutoTokenizer.from_pretrained(…) of transformers, "
            "with save_pretrained(…), makes the files"
        )
    if name == "tokenizer.json":
        content = read_json(folder / name)
        vocabulary = (content.get("model") or {}).get("vocab")
        if isinstance(vocabulary, dict):
            tokens = {number: token for token, number in vocabulary.items()}
        else:  # of a unigram model: pieces with their scores
            tokens = dict(enumerate(piece for piece, _ in vocabulary or ()))
        added = content.get("added_tokens") or ()
        return tokens | {token["id"]: token["content"] for token in added}
    if name == "vocab.txt":
        lines = (folder / name).read_text(encoding="utf-8").split("\n")
        return dict(enumerate(lines[:-1] if lines[-1] == "" else lines))
    added = read_json(folder / "added_tokens.json") if os.path.isfile(folder / "added_tokens.json") else {}
    return {number: token for token, number in {**read_json(folder / name), **added}.items()}


def _named_roles(folder: Path) -> Iterator[tuple[str, str]]:
    """Roles of tokens, with the tokens, as a tokenizer's settings tell them."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if os.path.isfile(folder / name):
            for role, token in read_json(folder / name).items():
                token = token.get("content") if isinstance(token, dict) else token
                if role.endswith("_token") and isinstance(token, str):
                    yield role, token


def roles_of(folder: Path, config: Mapping, tokens: Mapping[int, str]) -> dict[str, int]:
    """The numbers of the tokens that have a role, such as ``pad_token``."""
    numbers = {token: number for number, token in sorted(tokens.items(), reverse=True)}
    roles = {name.removesuffix("_id"): config[name] for name in config if name.endswith("_token_id")}
    roles = {name: number for name, number in roles.items() if isinstance(number, int)}
    usual = {"[CLS]": "cls_token", "[PAD]": "pad_token", "[SEP]": "sep_token", "[UNK]": "unk_token"}
    usual |= {"[MASK]": "mask_token", "<mask>": "mask_token", "<unk>": "unk_token"}
    found = {role: numbers[token] for token, role in usual.items() if token in numbers}
    return {**found, **roles, **{role: numbers[token] for role, token in _named_roles(folder) if token in numbers}}


def vocabulary(tokens: Mapping[int, str], roles: Mapping[str, int], size: int) -> Vocabulary:
    """The symbols of a model with *size* rows of embeddings.

    fairseq's own four come first. Of two that are the same token, ``</s>`` has it, and the other one takes the token
    of its own name, if there is one. What no dictionary can hold (a name that is there twice, an empty one) and rows
    without a token get names that no text has.

    Raises:
        ImportFolderError: the tokenizer has more tokens than the model, or none.
    """
    if not tokens or max(tokens) >= size:
        raise ImportFolderError(
            f"the tokenizer has tokens up to number {max(tokens, default=None)}, and the model {size} embeddings"
        )
    named = {token: number for number, token in tokens.items()}
    special: dict[str, int | None] = {}
    for symbol in ("</s>", "<pad>", "<s>", "<unk>"):
        wanted = [roles.get(role) for role in SPECIAL[symbol]] + [named.get(symbol)]
        free = (number for number in wanted if number is not None and number not in special.values())
        special[symbol] = next(free, None)
    mask = roles.get("mask_token")
    rest = [number for number in range(size) if number not in special.values()]
    taken = {*SPECIAL, MASK}
    symbols = []
    for number in rest:
        symbol = MASK if number == mask else tokens.get(number, "")
        if number != mask and (symbol in taken or symbol.split() != [symbol]):
            symbol = f"madeupword{number:04d}"
        taken.add(symbol)
        symbols.append(symbol)
    return Vocabulary(tuple(symbols), (*(special[symbol] for symbol in SPECIAL), *rest))


def read_vocabulary(folder: Path, config: Mapping, size: int, *files: str) -> Vocabulary:
    """The symbols of the model in *folder*, which has *size* rows of embeddings, from one of these *files*.

    Raises:
        ImportFolderError: the tokenizer isn't this model's, or can't be read.
    """
    try:
        tokens = tokens_of(folder, *files)
        return vocabulary(tokens, roles_of(folder, config, tokens), size)
    except ImportFolderError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImportFolderError(f"the tokenizer in {folder} isn't in transformers' format") from error


def named_symbols(folder: Path, config: Mapping) -> dict[int, str]:
    """fairseq's names of the tokens of a tokenizer, by their numbers there.

    Raises:
        ImportFolderError: it can't be read.
    """
    tokens = tokens_of(folder)
    size = max(config.get("vocab_size") or 0, max(tokens, default=0) + 1)
    made = vocabulary(tokens, roles_of(folder, config, tokens), size)
    return {number: name for number, name in zip(made.order, (*SPECIAL, *made.symbols)) if number is not None}
