"""How a message quotes what others wrote, and what it takes them to have meant."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_QUOTE = 60
LONGEST_TEXT = 200


def quoted(text: str) -> str:
    """Foreign text inside a sentence: in quotes, cut, and without a character that could move a terminal's cursor."""
    cut_text = text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"
    return "'" + "".join(c if c.isprintable() and c != "\\" else _escaped(c) for c in cut_text) + "'"


def cut(text: str) -> str:
    """A line of a file to be shown beside its fault: cut, and encodable whatever bytes it was made of."""
    cut_text = text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
    return cut_text.encode("utf-8", "backslashreplace").decode()


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: ``; did you mean 'region'?``, or nothing where nothing is near."""
    by_folded = {choice.casefold(): choice for choice in choices}
    folded = word.casefold().strip()
    near = get_close_matches(folded, by_folded, n=5, cutoff=0.6)
    near.sort(key=lambda choice: sorted(choice) != sorted(folded))  # two letters swapped are the likeliest slip
    return f"; did you mean {quoted(by_folded[near[0]])}?" if near else ""


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()
