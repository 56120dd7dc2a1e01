"""The trap: a value that PostgreSQL reads as another one, because of how it is written in an array's text."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from warmup_pipeline.store.arrays import Ids, among, array_text
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.types import UtcDateTime
from warmup_pipeline_tests.support import MORNING

LONG_AGO = MORNING.replace(tzinfo=None, year=1900)
"""An instant without a zone."""

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
awkward = st.sampled_from(["", " ", "NULL", "null", "{}", '"', "\\", '\\"', '","', "a,b", "é\n", "'"])
KINDS: list[tuple[sa.types.TypeEngine[Any], st.SearchStrategy[Any]]] = [
    (sa.Text(), st.one_of(texts, awkward)),
    (sa.Integer(), st.integers(-(2**31), 2**31 - 1)),
    (sa.BigInteger(), st.integers(-(2**63), 2**63 - 1)),
    (sa.Float(), st.floats(allow_nan=False)),
    (sa.Boolean(), st.booleans()),
    (sa.Date(), st.dates()),
    (UtcDateTime(), st.datetimes(LONG_AGO, timezones=st.sampled_from([UTC]))),
]
columns = st.sampled_from(KINDS).flatmap(
    lambda kind: st.tuples(st.just(kind[0]), st.lists(st.none() | kind[1], max_size=8))
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=columns)
def test_what_is_written_as_an_array_is_what_comes_out_of_it(
    postgres_url: str, column: tuple[sa.types.TypeEngine[Any], list[Any]]
) -> None:
    kind, values = column
    array = sa.cast(sa.bindparam("given", type_=sa.Text()), postgresql.ARRAY(kind, dimensions=1))
    places = (
        sa.func.unnest(array)
        .table_valued(sa.column("value", kind), with_ordinality="place", name="given")
        .render_derived()
    )
    query = sa.select(places.c.value).order_by(places.c.place)
    store = Store(postgres_url)
    with store.read() as tx:
        found = tx.connection.execute(query, {"given": array_text(kind, values)}).all()
    store.close()
    assert [row[0] for row in found] == values


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.one_of(texts, awkward), max_size=8), value=st.one_of(texts, awkward))
def test_a_value_is_among_the_given_ones_where_it_is_one_of_them(
    store: Store, asked: list[str], value: str
) -> None:
    ids: sa.BindParameter[Any] = sa.bindparam("ids", type_=Ids())
    column = sa.bindparam("value", type_=sa.Text())
    with store.read() as tx:
        for given_ids in (ids, asked):
            query = sa.select(sa.func.count()).where(among(column, given_ids))
            found = tx.connection.execute(query, {"ids": asked, "value": value}).scalar_one()
            assert found == (value in asked)


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        array_text(UtcDateTime(), [LONG_AGO])
