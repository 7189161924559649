"""Foreign text in our sentences."""

from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.core.wording import cut, did_you_mean, quoted


def test_a_near_word_is_offered() -> None:
    assert did_you_mean("Regions ", ["region", "account_id"]) == "; did you mean 'region'?"
    assert did_you_mean("zzz", ["region"]) == ""


def test_quotes_show_what_would_move_the_cursor() -> None:
    assert quoted("a\x1b[2J\n\udce9\\é") == r"'a\x1b[2J\n\udce9\\é'"


@given(st.text(st.characters()))
def test_whatever_is_quoted_is_short_printable_and_can_be_written(text: str) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 62 * 10
    assert len(cut(text).encode().decode()) <= 200 * 10
