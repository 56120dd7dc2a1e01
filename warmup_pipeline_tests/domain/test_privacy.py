"""Secrets and phone numbers are taken out of every text."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from warmup_pipeline.domain.privacy import MASK, Redactor, mask_phone

TOKEN = "F9B6-not-a-real-token"
PLAIN = Redactor()
SUBSCRIBERS = st.text("0123456789", min_size=8, max_size=8).map("9{}".format)
DDDS = st.sampled_from(["11", "21", "31", "55", "92"])
FORMS = st.sampled_from(
    [
        "55{ddd}{number}",
        "+55{ddd}{number}",
        "{ddd}{number}",
        "+55 {ddd} {first}-{last}",
        "+55 ({ddd}) {first}-{last}",
        "({ddd}) {first}-{last}",
        "55.{ddd}.{first}.{last}",
        "55{ddd}{number}@s.whatsapp.net",
        "55{ddd}{number}:14@s.whatsapp.net",
        "55{ddd}{number}@c.us",
        "%2B55{ddd}{number}",
        "phone55{ddd}{number}",
    ]
)
AROUND = st.sampled_from(
    ["{}", "to {}.", '{{"phone": "{}"}}', "GET /chat/{}?x=1", "[{}]", "'{}'", "{}\n", "a={}&b=2", "<{}>"]
)


def test_a_phone_shows_its_last_four_digits_only():
    assert mask_phone("5511900008618") == "…8618"
    assert mask_phone("+55 (11) 90000-8618") == "…8618"


@given(ddd=DDDS, number=SUBSCRIBERS, form=FORMS, around=AROUND)
def test_no_phone_stays_readable_however_it_is_written(ddd, number, form, around):
    written = form.format(ddd=ddd, number=number, first=number[:5], last=number[5:])
    shown = PLAIN.text(around.format(written))
    # Masking leaves the last four digits; more than those in a row would be a leak.
    assert number[:-4] not in re.sub(r"[^\d…]", "", shown)
    assert f"…{number[-4:]}" in shown


@given(ddd=DDDS, numbers=st.lists(SUBSCRIBERS, min_size=2, max_size=4), between=st.sampled_from(", /;|-"))
def test_phones_beside_each_other_are_all_masked(ddd, numbers, between):
    shown = PLAIN.text(between.join(f"55{ddd}{number}" for number in numbers))
    assert re.search(r"\d{5}", shown) is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-20T08:00:00-03:00",
        "2026-02-20 11:00:00.123456+00:00",
        "fa01e28f-e4a0-5899-9fae-88dcbfeb7763",
        "message 3EB0C431C26A1916E07E accepted",
        "HTTP 429, retry after 30 s",
        "…8618",
        "conversation 12, turn 3 of 6, line 1042",
        "http://127.0.0.1:8080/instance/connect/julia-01",
    ],
)
def test_times_ids_and_small_numbers_stay_as_they_are(text):
    assert PLAIN.text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "POST https://api.z-api.io/instances/3C06/token/ABCDEF0123/send-text",
            "POST https://api.z-api.io/instances/3C06/token/***/send-text",
        ),
        ("Client-Token: abcd1234", "Client-Token: ***"),
        ('{"apikey": "B6D711FC"}', '{"apikey": "***"}'),
        ("{'apikey': 'B6D711FC', 'x': 1}", "{'apikey': '***', 'x': 1}"),
        ("Authorization: Bearer xyz.abc", "Authorization: ***"),
        ("password=hunter2&user=a", "password=***&user=a"),
        ("X-Warmup-Secret: open-sesame", "X-Warmup-Secret: ***"),
        ("/webhooks/z-api/3C06?key=open-sesame", "/webhooks/z-api/3C06?key=***"),
        ("postgresql+psycopg://warmup:hunter2@db/warmup", "postgresql+psycopg://warmup:***@db/warmup"),
        # What our own advice says stays advice.
        ("use postgresql://user:password@host/database", "use postgresql://user:password@host/database"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_even_if_nobody_named_it(text, shown):
    assert PLAIN.text(text) == shown


@given(
    secret=st.text(min_size=4, max_size=30).filter(lambda s: MASK not in s and s.strip("*…")),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_a_known_secret_never_survives(secret, before, after):
    assume(secret not in before + MASK + after)
    assert secret not in Redactor([secret]).text(before + secret + after)


def test_one_secret_inside_another_leaves_nothing_of_either():
    redactor = Redactor(["open", "open-sesame"])
    redactor.learn(["open-sesame-and-more"])
    assert redactor.text("open-sesame-and-more / open-sesame / open") == "*** / *** / ***"


def test_values_too_short_to_be_secrets_do_not_destroy_the_text():
    assert Redactor(["", "abc"]).text("abc of the alphabet") == "abc of the alphabet"


def test_a_traceback_is_whole_with_its_causes_and_without_what_must_not_show():
    def low() -> None:
        raise ConnectionError(f"reset by https://api.z-api.io/instances/1/token/{TOKEN}/send-text")

    def high() -> None:
        try:
            low()
        except ConnectionError as error:
            raise RuntimeError("could not send to 5511900008618") from error

    with pytest.raises(RuntimeError) as caught:
        high()
    text = Redactor([TOKEN]).traceback(caught.value)
    assert "in low" in text
    assert "in high" in text
    assert "direct cause" in text
    assert "RuntimeError: could not send to …8618" in text
    assert TOKEN not in text
    assert "5511900008618" not in text  # nor in the source line that the traceback shows


def test_every_error_of_a_group_is_in_its_traceback():
    group = ExceptionGroup("two bugs", [ValueError("to 5511900008618"), KeyError("to 5521900000945")])
    text = PLAIN.traceback(group)
    assert "ValueError: to …8618" in text
    assert "KeyError: 'to …0945'" in text


@given(st.text(max_size=60))
def test_redacting_twice_changes_nothing_more(text):
    redactor = Redactor([TOKEN])
    once = redactor.text(text)
    assert redactor.text(once) == once


SECRET = 'k3y/with +blank"quote\\and ü'


@pytest.mark.parametrize(
    "written",
    [
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        quote(quote(SECRET, safe=""), safe=""),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps(json.dumps({"error": SECRET})),
        repr({"key": SECRET}),
    ],
)
def test_a_known_secret_is_hidden_in_whatever_form_it_is_written(written):
    shown = Redactor([SECRET]).text(f"GET /x?a={written} failed")
    assert MASK in shown
    assert "k3y" not in shown
    assert "blank" not in shown


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(json.dumps({"apikey": "abcd1234", "n": 1})),
        json.dumps(json.dumps(json.dumps({"token": "abcd1234", "n": 1}))),
        "[(b'client-token', b'abcd1234'), (b'host', b'x')]",
        "('token', 'abcd1234')",
        "Authorization: Basic abcd1234==",
        "next=https%3A%2F%2Fx%2Ftoken%2Fabcd1234%2Fsend-text",
        "next=%2Fhook%3Fkey%3Dabcd1234%26a%3D1",
    ],
)
def test_a_secret_nobody_named_is_hidden_in_quotes_within_quotes_and_in_percent_codes(written):
    shown = PLAIN.text(written)
    assert MASK in shown
    assert "abcd1234" not in shown


@pytest.mark.parametrize("text", ["the token was refused", "password, please", "tokens, keys and more"])
def test_words_that_only_name_a_secret_stay(text):
    assert PLAIN.text(text) == text


@given(st.uuids())
def test_an_id_stays_whole_so_that_what_it_names_is_found(one):
    assert Redactor().text(f"run {one} began no cycle") == f"run {one} began no cycle"


def test_a_number_behind_what_looks_like_an_id_is_masked_all_the_same():
    assert "5511900000121" not in Redactor().text("b538fba6-74aa-440a-9f91-5511900000121")
