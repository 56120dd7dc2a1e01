"""Number normalisation, as Evolution does it.

Trap guarded: indexing a message by the number sent, when the gateway answers under another jid.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.gateways.simulator.jids import account, create_jid, source_of

DIGITS = st.text("0123456789", min_size=0, max_size=17)


@pytest.mark.parametrize(
    ("number", "jid"),
    [
        ("5585987654321", "558587654321@s.whatsapp.net"),
        ("5511987654321", "5511987654321@s.whatsapp.net"),
        ("5585967654321", "5585967654321@s.whatsapp.net"),
        ("5491123456789", "541123456789@s.whatsapp.net"),
        ("5215512345678", "525512345678@s.whatsapp.net"),
        ("+55 (11) 98765-4321", "5511987654321@s.whatsapp.net"),
        ("5511987654321:12@s.whatsapp.net", "5511987654321@s.whatsapp.net"),
        ("98765432109876@lid", "98765432109876@lid"),
        ("120363000000000000", "120363000000000000@g.us"),
        ("5511987654321-1400000000", "5511987654321-1400000000@g.us"),
        ("abc", "@s.whatsapp.net"),
        ("", "@s.whatsapp.net"),
    ],
)
def test_a_number_becomes_the_jid_of_the_contract(number: str, jid: str) -> None:
    assert create_jid(number) == jid


@given(st.text(max_size=40))
def test_any_text_becomes_a_jid(number: str) -> None:
    assert "@" in create_jid(number)


@given(st.text(max_size=40))
def test_a_jid_stays_as_it_is(number: str) -> None:
    jid = create_jid(number)
    assert create_jid(jid) == jid or ":" in jid


@given(DIGITS, st.lists(st.sampled_from(" ()+.-"), max_size=5))
def test_punctuation_in_a_number_changes_nothing(digits: str, marks: list[str]) -> None:
    decorated = "".join(marks) + digits
    if "-" in decorated and len(decorated) >= 24:
        return
    assert create_jid(decorated) == create_jid(digits)


@given(st.integers(11, 99), st.integers(0, 99_999_999))
def test_a_brazilian_mobile_loses_its_ninth_digit_exactly_from_area_code_31_on(ddd: int, rest: int) -> None:
    subscriber = f"{rest:08d}"
    jid = create_jid(f"55{ddd}9{subscriber}")
    dropped = ddd >= 31 and subscriber[0] >= "7"
    assert jid == f"55{ddd}{'' if dropped else '9'}{subscriber}@s.whatsapp.net"


@given(DIGITS)
def test_an_account_keeps_all_but_at_most_one_digit(phone: str) -> None:
    kept = account(phone)
    assert len(phone) - len(kept) in (0, 1)
    assert account(kept) == kept


@pytest.mark.parametrize(
    ("message_id", "source"),
    [
        ("3EB0D56198378BD13C866A", "web"),
        ("3A1B2C3D4E5F60718293", "ios"),
        ("A" * 21, "android"),
        ("A" * 32, "android"),
        ("A" * 18, "desktop"),
        ("A" * 20, "unknown"),
    ],
)
def test_the_source_follows_from_the_id(message_id: str, source: str) -> None:
    assert source_of(message_id) == source
