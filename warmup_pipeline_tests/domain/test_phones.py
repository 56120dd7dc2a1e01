"""Phones: normal form, area code, region."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.phones import REGION_OF, area_code, line_of, normalise, region, same_line

AREA_CODES = {
    "sp_capital": "11",
    "sp_interior": "12 13 14 15 16 17 18 19",
    "rj": "21 22 24",
    "es": "27 28",
    "mg": "31 32 33 34 35 37 38",
    "sul": "41 42 43 44 45 46 47 48 49 51 53 54 55",
    "nordeste": "71 73 74 75 77 79 81 82 83 84 85 86 87 88 89",
    "norte": "63 68 69 91 92 93 94 95 96 97",
    "centro_oeste": "61 62 64 65 66 67",
}
DDDS = st.sampled_from(sorted(REGION_OF))
SUBSCRIBERS = st.from_regex(r"9[0-9]{8}|[0-9]{8}", fullmatch=True)


def test_every_area_code_lies_in_the_region_of_the_page():
    expected = {code: name for name, codes in AREA_CODES.items() for code in codes.split()}
    assert expected == REGION_OF


@given(ddd=DDDS, number=SUBSCRIBERS)
def test_all_ways_of_writing_a_phone_have_one_normal_form(ddd, number):
    first, last = number[:-4], number[-4:]
    forms = {
        normalise(form)
        for form in (
            f"55{ddd}{number}",
            f"+55{ddd}{number}",
            f"{ddd}{number}",
            f"+55 ({ddd}) {first}-{last}",
            f"({ddd}) {first}.{last}",
            f"  55 {ddd} {first} {last} ",
        )
    }
    assert forms == {f"55{ddd}{number}"}


@given(ddd=DDDS, number=SUBSCRIBERS)
def test_normalising_twice_changes_nothing_and_the_area_code_is_kept(ddd, number):
    phone = normalise(ddd + number)
    assert normalise(phone) == phone
    assert area_code(phone) == ddd
    assert region(phone) == REGION_OF[ddd]


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "abc",
        "5511",
        "55119000001211",
        "5520900000121",
        "4911900000121",
        "5511900000121@s.whatsapp.net",
        "11 9000O-0121",
        "5511900000١٢١",
    ],
)
def test_what_is_no_brazilian_phone_is_refused_and_not_repeated(raw):
    with pytest.raises(ValueError) as caught:
        normalise(raw)
    assert len(raw) < 8 or raw not in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_either_a_phone_in_normal_form_or_a_value_error(raw):
    try:
        phone = normalise(raw)
    except ValueError:
        return
    assert phone.startswith("55")
    assert phone.isascii()
    assert len(phone) in (12, 13)
    assert region(phone) in AREA_CODES


@pytest.mark.parametrize("raw", ["+1 415 555 2671", "+44 20 7946 0958", "+351 912 345 678"])
def test_a_number_of_another_country_is_never_read_as_a_brazilian_one(raw):
    with pytest.raises(ValueError, match="only numbers of Brazil"):
        normalise(raw)


def test_nine_digits_that_do_not_begin_with_nine_are_no_subscriber():
    with pytest.raises(ValueError, match="begins with 9"):
        normalise("5514155552671")


@given(
    *(
        st.tuples(st.sampled_from(["11", "85"]), st.from_regex(r"9?[0-9]{8}", fullmatch=True))
        for _ in range(2)
    )
)
def test_two_numbers_have_one_key_exactly_if_they_are_one_line(one, other):
    first, second = (f"55{ddd}{subscriber}" for ddd, subscriber in (one, other))
    assert (line_of(first) == line_of(second)) is same_line(first, second)
