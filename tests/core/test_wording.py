"""Foreign text in our sentences."""

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.core.wording import counted, cut, did_you_mean, one_line, printable, quoted


def test_a_near_word_is_offered() -> None:
    assert did_you_mean("Regions ", ["region", "account_id"]) == "; did you mean 'region'?"
    assert did_you_mean("zzz", ["region"]) == ""


def test_words_that_are_as_near_as_each_other_are_both_named() -> None:
    regions = ["us-east-1", "us-east-2", "us-iso-east-1", "us-west-1"]
    assert did_you_mean("us-est-1", regions) == "; did you mean 'us-east-1' or 'us-west-1'?"
    assert did_you_mean("us-east", regions) == "; did you mean 'us-east-1' or 'us-east-2'?"
    assert did_you_mean("us-esat-1", regions) == "; did you mean 'us-east-1'?"
    assert did_you_mean("role", ["profile", "role_arn", "role_name"]) == "; did you mean 'role_arn' or 'role_name'?"


def test_quotes_show_what_would_move_the_cursor() -> None:
    assert quoted("a\x1b[2J\n\udce9\\é") == r"'a\x1b[2J\n\udce9\\é'"


@given(st.text(st.characters()))
def test_whatever_is_quoted_is_short_printable_and_can_be_written(text: str) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 62 * 10
    assert len(cut(text).encode().decode()) <= 200 * 10


def test_what_is_long_is_cut_where_it_stands() -> None:
    assert quoted("a" * 60) == f"'{'a' * 60}'"
    assert quoted("a" * 61) == f"'{'a' * 59}…'"
    assert cut("a" * 200) == "a" * 200
    assert cut("a" * 201) == "a" * 199 + "…"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_whatever_comes_from_outside_is_one_harmless_line_and_can_be_told_from_any_other(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in shown)
    shown.encode()  # a lone surrogate could not be written
    assert shown.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("utf-16", "surrogatepass") == (
        text.encode("utf-16", "surrogatepass")
    )


def test_plain_text_is_shown_as_it_is() -> None:
    assert printable("tfm-1 dédupe 名寄せ 🚀") == "tfm-1 dédupe 名寄せ 🚀"
    assert printable("a\x1b[2J\u202e\\x1b") == r"a\x1b[2J\u202e\\x1b"
    assert printable(r"\x1b") == r"\\x1b"  # nothing of it is harmful, and yet it must not look as what was escaped


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_one_line_is_harmless_too_and_leaves_backslashes_as_they_are(text: str) -> None:
    assert one_line(text).isprintable()
    assert one_line(text).count("\\") >= text.count("\\")
    assert one_line(r"C:\x") == r"C:\x"


def test_numbers_of_things() -> None:
    assert [counted(1, "run"), counted(3000, "run"), counted(2, "retry", "retries")] == [
        "1 run",
        "3,000 runs",
        "2 retries",
    ]
