"""Guards the shipped dialogues, and that a bad file is refused with one line that says where and why."""

from __future__ import annotations

import copy
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import warmup_pipeline
from warmup_pipeline.domain.conversation import Dialogue, validate_dialogues
from warmup_pipeline.domain.values import MEDIA_KINDS, MessageKind

DATA = Path(warmup_pipeline.__file__).parent / "data"
SHIPPED = yaml.safe_load((DATA / "dialogues" / "casual_pt_br.yaml").read_text(encoding="utf-8"))
DIALOGUES = validate_dialogues(SHIPPED)
TEXT_DIALOGUES = [one for one in DIALOGUES if one.opens_with is MessageKind.TEXT]
MEDIA_DIALOGUES = [one for one in DIALOGUES if one.opens_with in MEDIA_KINDS]


# --- what ships ---


def test_at_least_eighty_dialogues_of_text_and_twenty_with_media_ship():
    assert len(TEXT_DIALOGUES) >= 80
    kinds = Counter(one.opens_with for one in MEDIA_DIALOGUES)
    assert kinds[MessageKind.PICTURE] >= 14
    assert kinds[MessageKind.AUDIO] >= 8


def test_every_entry_of_the_file_became_a_dialogue_in_its_order():
    entries = [*SHIPPED["dialogues"], *SHIPPED["media"]]
    assert [one.id for one in DIALOGUES] == [entry["id"] for entry in entries]
    assert [list(one.turns) for one in DIALOGUES] == [entry["turns"] for entry in entries]


def test_dialogues_of_every_length_ship_and_their_mean_is_that_of_planning():
    """Planning turns a day limit into openings with a mean of 3 turns early and 4 later."""
    lengths = Counter(len(one.turns) for one in TEXT_DIALOGUES)
    assert all(lengths[turns] >= 20 for turns in (2, 3, 4))
    assert all(lengths[turns] >= 10 for turns in (5, 6))
    early = [len(one.turns) for one in TEXT_DIALOGUES if len(one.turns) <= 4]
    assert sum(early) / len(early) <= 3
    later = [len(one.turns) for one in TEXT_DIALOGUES]
    assert 3 <= sum(later) / len(later) <= 4


def test_two_chips_alone_in_early_phases_have_enough_dialogues_for_fourteen_days():
    """One opening per four hours of a twelve-hour window, for as long as none may be repeated."""
    assert len([one for one in TEXT_DIALOGUES if len(one.turns) <= 4]) >= 3 * 14


def test_no_shipped_text_speaks_of_numbers_prices_or_greets_by_the_hour():
    """Replies come minutes later or the next morning, so a greeting by the hour would be wrong."""
    unwanted = re.compile(
        r"\b(?:dois|duas|tr[eê]s|quatro|cinco|seis|sete|oito|nove|dez|vinte|cem|mil|reais|bom dia|boa tarde|"
        r"boa noite|desconto|promoção|grátis|remédio|cura|médic[oa])\b",
        re.IGNORECASE,
    )
    assert [text for one in DIALOGUES for text in one.turns if unwanted.search(text)] == []


def test_styles_vary_some_with_emoji_and_most_without():
    texts = [text for one in DIALOGUES for text in one.turns if text]
    with_emoji = [text for text in texts if any(ord(char) > 0x2600 for char in text)]
    assert 0.02 < len(with_emoji) / len(texts) < 0.3
    assert min(len(text) for text in texts) < 10
    assert max(len(text) for text in texts) > 80


def test_no_name_of_a_person_comes_up_again_and_again():
    names = Counter(
        name
        for one in DIALOGUES
        for text in one.turns
        for name in set(re.findall(r"(?:\b[dn]?[ao] |\bpra )([A-Z][a-zà-ú]+)\b", text))
    )
    assert names, "the pattern finds the names there are"
    assert max(names.values()) <= 2


def test_every_file_that_a_dialogue_names_ships_and_every_file_is_named():
    shipped = {path.name for path in (DATA / "media").iterdir() if path.suffix in (".jpg", ".ogg")}
    assert {one.media for one in DIALOGUES if one.media} == shipped


def test_only_dialogues_with_media_name_a_file():
    assert all(one.media is None for one in TEXT_DIALOGUES)


# --- what is refused ---


def changed(section: str = "dialogues", entry: int = 0, **values: object) -> dict[str, Any]:
    """The shipped file with one entry changed."""
    raw: dict[str, Any] = copy.deepcopy(SHIPPED)
    raw[section][entry].update(values)
    return raw


def with_second_turn(text: object) -> dict[str, Any]:
    return changed(entry=2, id="conversa-ruim", turns=["uma primeira fala qualquer", text])


def refusal(raw: object) -> str:
    with pytest.raises(ValueError) as caught:
        validate_dialogues(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WHERE = "dialogue 'conversa-ruim' (dialogues entry 3)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("olha isso https://exemplo.example/x", "a link"),
        ("olha em www.exemplo", "a link"),
        ("vi no exemplo.com ontem", "a link"),
        ("entra em wa.me/fulano", "a link"),
        ("me escreve em fulano@exemplo", "a link or an address"),
        ("chego às 8", "a digit"),
        ("faz muito calor, uns 30º", "a digit"),
        ("em ² minutos", "a digit"),
        ("número ٣", "a digit"),
        ("oi {nome}, tudo bem?", "a placeholder"),
        ("oi <nome>, tudo bem?", "a placeholder"),
        ("oi [nome], tudo bem?", "a placeholder"),
        ("oi %s, tudo bem?", "a placeholder"),
        ("oi %nome%, tudo bem?", "a placeholder"),
        ("oi $nome, tudo bem?", "a placeholder"),
        ("", "is blank"),
        ("   ", "is blank"),
        ("\u200b\u2060", "is blank"),
        ("a" * 201, "has 201 characters; at most 200"),
        ("duas\nlinhas", "a line break"),
        ("nada\x00aqui", "a control character"),
        ("meio par \ud83d", "a control character"),
        (False, "is not a text"),
        (None, "is not a text"),
        (["lista"], "is not a text"),
    ],
)
def test_a_bad_text_is_refused_with_its_dialogue_turn_and_reason(text: object, reason: str):
    message = refusal(with_second_turn(text))
    assert message.startswith(f"{WHERE}, turn 2: ")
    assert reason in message


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200,
        "sei não...tava pensando",
        "Será?! kkkkk",
        "família toda 👨‍👩‍👧 reunida ❤️",
        "é uns % a mais de sono",
        "tá, mas: e o bolo; e o café?",
        "não sei. Depois eu vejo",
    ],
)
def test_an_ordinary_text_is_taken(text: str):
    assert validate_dialogues(with_second_turn(text))[2].turns[1] == text


def test_blanks_around_a_text_are_taken_off():
    assert validate_dialogues(with_second_turn("  pode ser, então \n"))[2].turns[1] == "pode ser, então"


def test_a_refusal_never_quotes_the_text():
    """An operator's text may hold a phone number, and refusals end in logs."""
    message = refusal(with_second_turn("me liga no 11 98888-7777"))
    assert "8888" not in message
    assert "7777" not in message


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_dialogue_of_fewer_than_two_or_more_than_six_turns_is_refused(count: int):
    turns = [f"fala {'x' * number}" for number in range(count)]
    message = refusal(changed(entry=2, id="conversa-ruim", turns=turns))
    assert message == f"{WHERE}: has {count} turns; 2 to 6 are allowed"


def test_fewer_than_sixty_dialogues_are_refused_and_sixty_are_taken():
    sixty = {"dialogues": SHIPPED["dialogues"][:60]}
    assert len(validate_dialogues(sixty)) == 60
    message = refusal({"dialogues": SHIPPED["dialogues"][:59]})
    assert "has 59 dialogues; at least 60 are needed" in message


def test_dialogues_with_media_count_towards_the_sixty():
    raw = {"dialogues": SHIPPED["dialogues"][:50], "media": SHIPPED["media"][:10]}
    assert len(validate_dialogues(raw)) == 60


def test_an_id_that_is_taken_is_refused_and_both_places_are_named():
    taken = SHIPPED["dialogues"][0]["id"]
    message = refusal(changed(entry=5, id=taken))
    assert f"dialogue '{taken}' (dialogues entry 6)" in message
    assert f"already that of dialogue '{taken}' (dialogues entry 1)" in message


def test_an_id_of_the_media_section_may_not_repeat_one_of_the_dialogues():
    taken = SHIPPED["dialogues"][0]["id"]
    assert "(media entry 1)" in refusal(changed("media", 0, id=taken))


@pytest.mark.parametrize("bad", [None, 7, "", "Com Espaço", "acentuação", "-traco", "9abc", "a" * 61, "a\n"])
def test_an_id_that_is_no_slug_is_refused_by_its_place(bad: object):
    assert refusal(changed(entry=3, id=bad)).startswith("dialogues entry 4: its id must be")


@pytest.mark.parametrize("rewrite", [str, str.upper, lambda text: f" {text.replace(' ', '  ')} "])
def test_a_repeated_text_is_refused_whatever_its_letter_case_and_spacing(rewrite: Any):
    first = SHIPPED["dialogues"][0]
    message = refusal(with_second_turn(rewrite(first["turns"][1])))
    assert message == (
        f"{WHERE}, turn 2: repeats the text of dialogue '{first['id']}' (dialogues entry 1), turn 2"
    )


def test_a_text_repeated_inside_one_dialogue_is_refused():
    message = refusal(changed(entry=2, id="conversa-ruim", turns=["eco por aqui", "eco por aqui"]))
    assert message == f"{WHERE}, turn 2: repeats the text of {WHERE}, turn 1"


def entry_of(kind: MessageKind) -> int:
    return next(n for n, entry in enumerate(SHIPPED["media"]) if entry["opens_with"] == kind)


def test_an_audio_note_has_no_caption():
    number = entry_of(MessageKind.AUDIO)
    message = refusal(changed("media", number, turns=["escuta esse recado", "escutei sim senhor"]))
    assert f"(media entry {number + 1}), turn 1: an audio note has no caption" in message


def test_only_the_first_turn_of_an_audio_note_may_be_blank():
    number = entry_of(MessageKind.AUDIO)
    assert "turn 2: is blank" in refusal(changed("media", number, turns=["", ""]))


def test_a_picture_needs_its_caption():
    number = entry_of(MessageKind.PICTURE)
    assert "turn 1: is blank" in refusal(changed("media", number, turns=["", "que foto boa essa sua"]))


@pytest.mark.parametrize("bad", [None, "text", "video", "PICTURE", 3, ["audio"]])
def test_what_a_media_dialogue_opens_with_must_be_a_picture_or_audio(bad: object):
    message = refusal(changed("media", 0, opens_with=bad))
    assert "(media entry 1): `opens_with` must be picture or audio" in message


@pytest.mark.parametrize(
    "bad", ["../foto.jpg", "pasta/foto.jpg", ".jpg", "foto.gif", "nota.ogg", 5, "foto.jpg\n"]
)
def test_a_named_file_must_be_a_plain_name_of_the_right_kind(bad: object):
    number = entry_of(MessageKind.PICTURE)
    assert "`media` must be a plain file name ending in .jpg or .jpeg" in refusal(
        changed("media", number, media=bad)
    )


def test_a_dialogue_with_media_outside_its_section_is_told_where_it_belongs():
    message = refusal(changed(entry=2, id="conversa-ruim", opens_with="picture"))
    assert message.startswith(f"{WHERE}: has an unknown key 'opens_with'")
    assert message.endswith("stand under `media`")


def test_a_misspelt_key_is_refused_by_name():
    assert "has an unknown key 'truns'" in refusal(changed(entry=2, truns=[]))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "must be a mapping"),
        ([], "must be a mapping"),
        ("dialogues", "must be a mapping"),
        ({}, "lacks the list `dialogues`"),
        ({"dialogues": {}}, "has no list under `dialogues`"),
        ({"dialogues": [], "media": "x"}, "has no list under `media`"),
        ({"dialogues": [], "dialogs": []}, "unknown section 'dialogs'"),
        ({"dialogues": []}, "has 0 dialogues"),
        ({"dialogues": ["oi"]}, "dialogues entry 1: must be a mapping"),
        (
            {"dialogues": [{"id": "sem-falas"}]},
            "dialogue 'sem-falas' (dialogues entry 1): `turns` must be a list",
        ),
    ],
)
def test_a_file_of_another_form_is_refused_with_what_is_missing(raw: object, reason: str):
    assert reason in refusal(raw)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["dialogues", "media", "id", "turns", "opens_with", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(anything)
def test_no_content_whatever_ends_in_anything_but_one_line(raw: object):
    """Too little for sixty dialogues, so each is refused; a crash would be another exception."""
    refusal(raw)


@given(entry=st.integers(0, len(SHIPPED["dialogues"]) - 1), junk=anything)
def test_junk_in_the_place_of_a_dialogue_is_refused_at_its_entry(entry: int, junk: object):
    raw = copy.copy(SHIPPED)
    raw["dialogues"] = [*SHIPPED["dialogues"][:entry], junk, *SHIPPED["dialogues"][entry + 1 :]]
    assert f"dialogues entry {entry + 1}" in refusal(raw)


def test_a_dialogue_cannot_be_changed():
    with pytest.raises(AttributeError):
        DIALOGUES[0].turns = ()  # type: ignore[misc] # the case
    assert isinstance(DIALOGUES[0], Dialogue)
