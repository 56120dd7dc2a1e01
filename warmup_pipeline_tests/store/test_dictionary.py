"""The trap: a data dictionary that says what a column meant last year."""

from __future__ import annotations

from pathlib import Path

from warmup_pipeline.store.dictionary import column_description, data_dictionary
from warmup_pipeline.store.schema import metadata

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "data-dictionary.md"


def test_every_table_and_column_is_explained() -> None:
    for table in metadata.tables.values():
        assert table.comment, table.name
        for column in table.columns:
            assert column_description(column), f"{table.name}.{column.name}"


def test_the_document_is_what_the_schema_says() -> None:
    assert _DOCUMENT.read_text(encoding="utf-8") == data_dictionary(metadata), (
        "run: python -m warmup_pipeline.store.dictionary > docs/data-dictionary.md"
    )
