"""Loop marks: only ours count, and a hostile header costs nothing."""

import re

from hypothesis import given
from hypothesis import strategies as st

from router.route.marks import MAX_MARKS, MAX_TOKENS, sign, verify

KEY, OLD = b"k" * 32, b"o" * 32


def test_a_token_is_short_and_fits_a_header_field() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{16}", sign(KEY, "Q1", "joe@example.edu", "cliff"))


def test_verified_by_either_key_among_other_tokens() -> None:
    marks = ("nothing", f"Q2:xxxx,{sign(OLD, 'Q2', 'joe@example.edu', 'cliff')} ,yyyy")

    assert verify((KEY, OLD), marks, "joe@example.edu", "cliff")
    assert not verify((KEY,), marks, "joe@example.edu", "cliff")
    assert not verify((), marks, "joe@example.edu", "cliff")


def test_a_token_is_bound_to_its_queue_id() -> None:
    token = sign(KEY, "Q2", "joe@example.edu", "cliff")

    assert not verify((KEY,), (f"Q3:{token}",), "joe@example.edu", "cliff")


TEXTS = st.text(max_size=20)


@given(st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))
def test_different_facts_have_different_tokens(one: tuple[str, str, str], two: tuple[str, str, str]) -> None:
    assert (sign(KEY, *one) == sign(KEY, *two)) == (one == two)


@given(st.lists(st.text(st.characters(categories=None), max_size=60), max_size=5))
def test_no_header_makes_it_raise_or_agree(marks: list[str]) -> None:
    assert not verify((KEY, OLD), marks, "joe@example.edu", "cliff")


def test_only_so_much_is_looked_at() -> None:
    token = sign(KEY, "Q", "joe@example.edu", "cliff")

    assert verify((KEY,), ["Q:a"] * (MAX_MARKS - 1) + [f"Q:{token}"], "joe@example.edu", "cliff")
    assert not verify((KEY,), ["Q:a"] * MAX_MARKS + [f"Q:{token}"], "joe@example.edu", "cliff")
    assert verify((KEY,), ["Q:" + "x," * (MAX_TOKENS - 1) + token], "joe@example.edu", "cliff")
    assert not verify((KEY,), ["Q:" + "x," * MAX_TOKENS + token], "joe@example.edu", "cliff")
