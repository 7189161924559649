"""How a message shows what others wrote, what it takes them to have meant, and how it counts."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

LONGEST_QUOTE = 60
LONGEST_TEXT = 200

_MOST_MEANT = 3
"""So many words are offered where one is as near as the other."""


def quoted(text: str) -> str:
    """Foreign text inside a sentence: in quotes, cut, and without a character that could move a terminal's cursor."""
    cut_text = text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"
    return f"'{printable(cut_text)}'"


def printable(text: str) -> str:
    r"""Text from outside on one line, harmless: controls, line ends, bidi marks and lone surrogates as ``\x1b``.

    A backslash is doubled, so that what was escaped cannot be mistaken for what was written.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """The same, but for backslashes: for text that is to be read, or a command that is to be typed, as it stands."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def cut(text: str) -> str:
    """A line of a file to be shown beside its fault: cut, and encodable whatever bytes it was made of."""
    cut_text = text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
    return cut_text.encode("utf-8", "backslashreplace").decode()


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 run``, ``3,000 runs``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: ``; did you mean 'region'?``, or nothing where nothing is near.

    Two that are as near as each other are both named: ``us-est-1`` may be in the east or in the west.
    """
    by_folded = {choice.casefold(): choice for choice in choices}
    folded = word.casefold().strip()
    near = get_close_matches(folded, by_folded, n=5, cutoff=0.6)
    far = {choice: _distance(choice, folded) for choice in by_folded if choice in near}
    nearest = [choice for choice, distance in far.items() if distance == min(far.values())][:_MOST_MEANT]
    meant = " or ".join(quoted(by_folded[choice]) for choice in nearest)
    return f"; did you mean {meant}?" if meant else ""


def _distance(choice: str, word: str) -> tuple[bool, bool, float]:
    """Two letters swapped are the likeliest slip, then an end that was left out, then whatever is most alike."""
    cut_short = choice.startswith(word)
    alike = 0 if cut_short else SequenceMatcher(None, choice, word).ratio()
    return sorted(choice) != sorted(word), not cut_short, -alike


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()
