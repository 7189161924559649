"""Foreign text in our sentences."""

from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.core.wording import cut, did_you_mean, quoted


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
