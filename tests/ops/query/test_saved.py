"""The saved queries of the console and of `materia query --saved`."""

from collections.abc import Iterator
from datetime import date

import pytest

from dataflows.serving import ServingReader
from ops.query.saved import SAVED, SavedQuery
from tests.support.served_demo import ServedDemo
from tui.query.sql import View, wrap_in_view


@pytest.fixture(scope="module")
def reader(served_demo: ServedDemo) -> Iterator[ServingReader]:
    with ServingReader(served_demo.serving_path) as open_reader:
        yield open_reader


@pytest.mark.parametrize("saved", SAVED, ids=lambda saved: saved.name)
def test_every_saved_query_runs_as_it_is_and_sorted(reader: ServingReader, saved: SavedQuery) -> None:
    for checked_on in (None, date(2025, 8, 21)):
        sql = saved.text(checked_on)
        answer = reader.query(sql)
        column = answer.table.schema.names[0]
        again = reader.query(wrap_in_view(sql, View(column, descending=True)))
        assert again.table.num_rows == answer.table.num_rows


def test_names_are_unique_words_for_the_command_line() -> None:
    names = [saved.name for saved in SAVED]
    assert len({*names}) == len(names) and all(name.replace("-", "").isalpha() and name.islower() for name in names)
