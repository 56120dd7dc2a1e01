"""Conversations: the dialogues they follow, who can afford which, and when the next turn is due.

Holds: :class:`Dialogue`, the validation of a dialogues file's content (:func:`validate_dialogues`),
and the rules of a thread of turns between two chips: its length, its cost to each side, the choice
of its dialogue, the delay of a reply, when it counts as two-way. Add here: a rule that speaks of
turns or dialogues. Do not add: reading of the YAML file or of media folders (the warm-up layer
does), pairing, limits (pre-send validation), SQL.

Nothing is random: every choice is drawn from a hash of what the caller passes in, so that planning
or replaying the same conversation gives the same result.

Source: domain.md, "A conversation" (under "Planning"), "Words and values", "Unanswered cap", and
issue 5, "Dialogues" (14 days, no links, no numbers, no placeholders).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from warmup_pipeline.domain.values import EARLY_PHASES, MEDIA_KINDS, MessageKind, Phase

CONVERSATION_LIFETIME: Final = timedelta(hours=24)
"""A conversation this old is closed with a reason, whatever turns it still has."""

REPEAT_AFTER: Final = timedelta(days=14)
"""For how long a dialogue is not repeated between the same two chips."""

UNANSWERED_CAP: Final = 3
"""Unanswered turns in a row between two chips after which that pair rests."""

UNANSWERED_REST: Final = timedelta(hours=24)
"""How long a pair rests after :data:`UNANSWERED_CAP` unanswered turns."""

MIN_TURNS: Final = 2
"""Turns of the shortest conversation: one of each side."""

EARLY_MAX_TURNS: Final = 4
"""Most turns while either chip is in one of the early phases."""

MAX_TURNS: Final = 6
"""Most turns of any conversation."""

MIN_DIALOGUES: Final = 60
"""Fewest dialogues of a file, those that begin with media included."""

MAX_TEXT_LENGTH: Final = 200
"""Most characters of one turn."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One written conversation; turns alternate between the opener and the responder.

    Attributes:
        id: stable slug; what "not repeated within 14 days" is remembered by.
        turns: the texts in order, the opener's first. The first one is the caption where
            ``opens_with`` is a picture, and empty where it is an audio note.
        opens_with: what the first turn carries; the others are text.
        media: file name of the picture or audio note that the first turn needs to make sense;
            ``None`` if any of that kind will do.
    """

    id: str
    turns: tuple[str, ...]
    opens_with: MessageKind = MessageKind.TEXT
    media: str | None = None


# --- the content of a dialogues file -------------------------------------------------------------

_SECTIONS: Final = ("dialogues", "media")
_TEXT_KEYS: Final = frozenset({"id", "turns"})
_MEDIA_KEYS: Final = frozenset({"id", "turns", "opens_with", "media"})
_MEDIA_SUFFIXES: Final[Mapping[MessageKind, tuple[str, ...]]] = {
    MessageKind.PICTURE: (".jpg", ".jpeg"),
    MessageKind.AUDIO: (".ogg",),
}
_SLUG: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST_SLUG: Final = 60
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
# A scheme, an address or mention, or a word with a dot inside it, which a messenger turns into a link.
_LINK: Final = re.compile(
    r"\b[a-z][a-z0-9+.-]*://|\bmailto:|\bwww\.|@|[^\W_][\w-]*\.[^\W\d_]{2,}", re.IGNORECASE
)
_PLACEHOLDER: Final = re.compile(r"[{}<>\[\]$]|%s\b|%\w+%")


class _Place(NamedTuple):
    """Where in the file something stands, as an operator finds it."""

    section: str
    entry: int
    dialogue_id: str = ""
    turn: int = 0

    def __str__(self) -> str:
        where = f"{self.section} entry {self.entry}"
        if self.dialogue_id:
            where = f"dialogue {self.dialogue_id!r} ({where})"
        return f"{where}, turn {self.turn}" if self.turn else where

    def refused(self, reason: str) -> ValueError:
        return ValueError(f"{self}: {reason}")


def _refused_file(reason: str) -> ValueError:
    return ValueError(f"the dialogues file {reason}")


def validate_dialogues(raw: object) -> tuple[Dialogue, ...]:
    """Return the dialogues of a file's parsed content, in the file's order.

    The content is a mapping with the lists ``dialogues`` (entries with ``id`` and ``turns``) and,
    where some begin with media, ``media`` (entries with ``opens_with``: ``picture`` or ``audio``
    too, and optionally the file name under ``media``).

    Args:
        raw: what a YAML or JSON parser made of the file.

    Raises:
        ValueError: the first thing that is wrong, as one line: which dialogue, which turn, why.
            Refused are fewer than 60 dialogues, fewer than 2 or more than 6 turns, a link, a
            digit, a placeholder, a blank text (an audio note's first turn must be blank instead),
            a text over 200 characters or of more than one line, a repeated id, a repeated text,
            and anything that has not the form above. The text itself is never quoted: it may
            hold a phone number.
    """
    if not isinstance(raw, Mapping):
        raise _refused_file("must be a mapping with the list `dialogues`")
    unknown = sorted(str(key) for key in raw if key not in _SECTIONS)
    if unknown:
        raise _refused_file(f"has an unknown section {unknown[0]!r}; known: {', '.join(_SECTIONS)}")
    if "dialogues" not in raw:
        raise _refused_file("lacks the list `dialogues`")
    found: list[Dialogue] = []
    places_by_id: dict[str, _Place] = {}
    places_by_text: dict[str, _Place] = {}
    for section in _SECTIONS:
        entries = raw.get(section, [])
        if not isinstance(entries, list):
            raise _refused_file(f"has no list under `{section}`")
        for number, entry in enumerate(entries, start=1):
            dialogue = _dialogue(entry, _Place(section, number))
            place = _Place(section, number, dialogue.id)
            if dialogue.id in places_by_id:
                raise place.refused(f"its id is already that of {places_by_id[dialogue.id]}; give it another")
            places_by_id[dialogue.id] = place
            _refuse_repeated_texts(dialogue, place, places_by_text)
            found.append(dialogue)
    if len(found) < MIN_DIALOGUES:
        raise _refused_file(
            f"has {len(found)} dialogues; at least {MIN_DIALOGUES} are needed, so that no two chips "
            f"repeat one within {REPEAT_AFTER.days} days"
        )
    return tuple(found)


def _dialogue(entry: object, place: _Place) -> Dialogue:
    """Return one entry as a dialogue, or raise with its place."""
    if not isinstance(entry, Mapping):
        raise place.refused("must be a mapping with `id` and `turns`")
    dialogue_id = entry.get("id")
    if (
        not isinstance(dialogue_id, str)
        or len(dialogue_id) > _LONGEST_SLUG
        or not _SLUG.fullmatch(dialogue_id)
    ):
        raise place.refused(
            f"its id must be at most {_LONGEST_SLUG} small letters, digits and dashes, e.g. cafe-acabou"
        )
    place = place._replace(dialogue_id=dialogue_id)
    known = _TEXT_KEYS if place.section == "dialogues" else _MEDIA_KEYS
    unknown = sorted(str(key) for key in entry if key not in known)
    if unknown:
        hint = "; dialogues that begin with media stand under `media`" if unknown[0] in _MEDIA_KEYS else ""
        raise place.refused(f"has an unknown key {unknown[0]!r}{hint}")
    kind = MessageKind.TEXT if place.section == "dialogues" else _media_kind(entry, place)
    turns = entry.get("turns")
    if not isinstance(turns, list):
        raise place.refused("`turns` must be a list of texts")
    if not MIN_TURNS <= len(turns) <= MAX_TURNS:
        raise place.refused(f"has {len(turns)} turns; {MIN_TURNS} to {MAX_TURNS} are allowed")
    texts = tuple(
        _text(turn, place._replace(turn=number), silent=number == 1 and kind is MessageKind.AUDIO)
        for number, turn in enumerate(turns, start=1)
    )
    return Dialogue(dialogue_id, texts, kind, _media_file(entry, kind, place))


def _media_kind(entry: Mapping[object, object], place: _Place) -> MessageKind:
    """Return what an entry of the ``media`` section begins with."""
    kinds = {kind.value: kind for kind in MessageKind if kind in MEDIA_KINDS}
    said = entry.get("opens_with")
    if not isinstance(said, str) or said not in kinds:
        raise place.refused(f"`opens_with` must be {' or '.join(kinds)}")
    return kinds[said]


def _media_file(entry: Mapping[object, object], kind: MessageKind, place: _Place) -> str | None:
    """Return the file name an entry asks for, ``None`` without one; never a path."""
    name = entry.get("media")
    if name is None:
        return None
    suffixes = _MEDIA_SUFFIXES[kind]
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or not name.lower().endswith(suffixes):
        raise place.refused(f"`media` must be a plain file name ending in {' or '.join(suffixes)}")
    return name


def _text(turn: object, place: _Place, *, silent: bool) -> str:
    """Return the text of one turn, without blanks around it, or raise with its place."""
    if not isinstance(turn, str):
        raise place.refused("is not a text; put it in quotes")
    text = turn.strip()
    blank = not any(unicodedata.category(char)[0] not in "ZC" for char in text)
    if silent:
        if not blank:
            raise place.refused('an audio note has no caption; its first turn must be ""')
        return ""
    if blank:
        raise place.refused("is blank")
    if len(text) > MAX_TEXT_LENGTH:
        raise place.refused(f"has {len(text)} characters; at most {MAX_TEXT_LENGTH} are allowed")
    # Zero-width joiners (Cf) belong to emoji; line breaks, NUL and lone surrogates belong to no small talk.
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
        raise place.refused("has a line break or a control character; write it as one line")
    if _LINK.search(text):
        raise place.refused("has a link or an address; if it is none, put a space after the full stop")
    # Any sign that stands for a number, not only 0-9: a superscript or a keycap emoji reads as one too.
    if any(unicodedata.category(char).startswith("N") for char in text):
        raise place.refused("has a digit; small talk here goes without numbers")
    if _PLACEHOLDER.search(text):
        raise place.refused("has a placeholder or one of the characters { } < > [ ] $; write the text itself")
    return text


def _refuse_repeated_texts(dialogue: Dialogue, place: _Place, seen: dict[str, _Place]) -> None:
    """Record a dialogue's texts; raise where one was seen, letter case and spacing apart."""
    for number, text in enumerate(dialogue.turns, start=1):
        if not text:
            continue
        here = place._replace(turn=number)
        same = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        if same in seen:
            raise here.refused(f"repeats the text of {seen[same]}")
        seen[same] = here


# --- the rules of a conversation -----------------------------------------------------------------


def max_turns(opener_phase: Phase, responder_phase: Phase) -> int:
    """Return the most turns a conversation of two chips may have (the fewest are :data:`MIN_TURNS`).

    Four while either is in ``setup`` or ``primeiros_contatos``, six later (domain.md, "A conversation").
    """
    return EARLY_MAX_TURNS if {opener_phase, responder_phase} & EARLY_PHASES else MAX_TURNS


def turns_by_side(turns: int) -> tuple[int, int]:
    """Return how many of ``turns`` are the opener's and how many the responder's.

    Raises:
        ValueError: ``turns`` is negative.
    """
    if turns < 0:
        raise ValueError(f"a conversation cannot have {turns} turns")
    return (turns + 1) // 2, turns // 2


def affordable(
    dialogues: Iterable[Dialogue],
    *,
    opens_with_media: bool,
    opener_budget: int,
    responder_budget: int,
    max_turns: int,
    recently_used: Collection[str],
) -> tuple[Dialogue, ...]:
    """Return the dialogues that two chips can hold with what both may still send today.

    A dialogue fits if its turns fit both budgets whole: they are reserved while it is open, so no
    conversation begins that a limit would cut off. One that was used is left out even if nothing
    else remains: never is one repeated within :data:`REPEAT_AFTER`.

    Args:
        dialogues: all dialogues; their order is kept.
        opens_with_media: true for ``ENVIAR_MIDIA`` (first turn a picture or an audio note), false
            for ``CONVERSA_PAR`` (first turn a text).
        opener_budget: messages the opener may still send today, reservations taken off.
        responder_budget: the same of the responder.
        max_turns: most turns for these two chips (:func:`max_turns`).
        recently_used: ids of the dialogues these two chips held, whoever opened, in the last 14 days.
    """
    fitting = []
    for dialogue in dialogues:
        opener, responder = turns_by_side(len(dialogue.turns))
        if (
            (dialogue.opens_with in MEDIA_KINDS) == opens_with_media
            and len(dialogue.turns) <= max_turns
            and opener <= opener_budget
            and responder <= responder_budget
            and dialogue.id not in recently_used
        ):
            fitting.append(dialogue)
    return tuple(fitting)


def pick(candidates: Iterable[Dialogue], *, seed: str) -> Dialogue | None:
    """Return the candidate that ``seed`` draws, ``None`` if there are none.

    The same seed draws the same dialogue whatever the order of the candidates, and taking another
    candidate away changes nothing: each is ranked by its own hash with the seed.

    Args:
        candidates: what :func:`affordable` left.
        seed: what makes this conversation this one, e.g. its opening activity's id.
    """
    return max(candidates, key=lambda dialogue: (_draw(seed, dialogue.id), dialogue.id), default=None)


def reply_delay(
    conversation_id: str, turn: int, *, shortest_minutes: int = 2, longest_minutes: int = 20
) -> timedelta:
    """Return how long after the turn before it a turn is due: whole seconds, both bounds included.

    Args:
        conversation_id: the same conversation and turn always give the same delay.
        turn: number of the turn that is to be sent.
        shortest_minutes: least delay, in minutes.
        longest_minutes: greatest delay, in minutes.

    Raises:
        ValueError: the bounds are negative or not in order.
    """
    if not 0 <= shortest_minutes <= longest_minutes:
        raise ValueError(f"a reply cannot take {shortest_minutes} to {longest_minutes} minutes")
    spread_seconds = (longest_minutes - shortest_minutes) * 60
    drawn = _draw("reply", conversation_id, str(turn)) % (spread_seconds + 1)
    return timedelta(minutes=shortest_minutes, seconds=drawn)


def next_day_reply_at(
    next_window_start: datetime,
    conversation_id: str,
    turn: int,
    *,
    shortest_minutes: int = 2,
    longest_minutes: int = 20,
) -> datetime:
    """Return when a reply that cannot go today is due: the next day's 08:00 plus 2-20 minutes.

    Args:
        next_window_start: start of the next day's sending window (08:00 local), with its zone; the
            result is in the same zone.
        conversation_id: see :func:`reply_delay`.
        turn: see :func:`reply_delay`.
        shortest_minutes: see :func:`reply_delay`.
        longest_minutes: see :func:`reply_delay`.

    Raises:
        ValueError: ``next_window_start`` has no zone, or the bounds are not in order.
    """
    if next_window_start.tzinfo is None:
        raise ValueError("the start of the next window must have a time zone")
    return next_window_start + reply_delay(
        conversation_id, turn, shortest_minutes=shortest_minutes, longest_minutes=longest_minutes
    )


def is_bidirectional(accepted_turns_by_side: tuple[int, int]) -> bool:
    """Whether each side of a conversation has had at least one turn accepted (and counting).

    Args:
        accepted_turns_by_side: accepted and still counting turns of the opener and the responder.
    """
    opener, responder = accepted_turns_by_side
    return opener >= 1 and responder >= 1


def _draw(*parts: str) -> int:
    """Return a number from 0 to 2**64 - 1 that depends on ``parts`` alone, on every machine and run.

    Python's own ``hash`` differs from one process to the next.
    """
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
