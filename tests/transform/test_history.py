"""What releases become: versions, revisions and summaries, in whatever order they were landed."""

import dataclasses
import io
import itertools
import logging
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from operator import itemgetter
from pathlib import Path

import pytest

from dataflows.errors import TransformError
from ops.demo.generator import GeneratedRelease
from tests.support.workshop import Workshop
from tests.transform.conftest import HISTORY, REKEYED_IN, Copied
from tests.transform.reference import (
    KINDS,
    Release,
    Version,
    changes,
    counts,
    read,
    rekeyings,
    served_versions,
    versions,
)

Releases = tuple[GeneratedRelease, ...]


def test_versions_are_those_of_the_reference(served: Workshop, releases: Releases) -> None:
    assert served_versions(served) == versions(map(read, releases), rekeyings(served))


def steps(releases: Releases) -> Iterator[tuple[Release, Release, tuple[str, ...]]]:
    """Each release beside the one before, and the commodities that it re-keyed."""
    for number, (before, after) in enumerate(itertools.pairwise(map(read, releases)), 1):
        yield before, after, (HISTORY.rekey_commodity,) if number == REKEYED_IN else ()


def test_a_history_in_batches_is_summarised_as_its_files_differ(served: Workshop, releases: Releases) -> None:
    expected = {
        (after.day, commodity): of_kinds
        for before, after, rekeyed in steps(releases)
        for commodity, of_kinds in counts(before, after, rekeyed).items()
    }
    rows = served.query("SELECT * EXCLUDE (commodity_name) FROM serving.agg_release_summary")
    assert {(day, commodity): tuple(of_kinds) for day, commodity, *of_kinds in rows} == expected
    assert sum(of_kinds[3] for of_kinds in expected.values()) > 100, "a commodity was re-keyed"
    assert all(any(of_kinds[kind] for of_kinds in expected.values()) for kind in range(4))


def test_facts_lie_in_the_order_of_their_keys_also_when_many_releases_were_compared_at_once(served: Workshop) -> None:
    rows = served.query("SELECT ingest_date, hkey FROM staging.stg_psdalldata__commodity")
    for _, release in itertools.groupby(rows, key=itemgetter(0)):
        keys = [key for _, key in release]
        assert keys == sorted(keys)
    assert len(list(itertools.groupby(rows, key=itemgetter(0)))) == len({day for day, _ in rows})


def test_revisions_name_the_very_facts_that_changed(served: Workshop, releases: Releases) -> None:
    for before, after, rekeyed in steps(releases):
        changed = changes(before, after, rekeyed)
        for kind in KINDS:
            found = served.query(
                "SELECT commodity_code, country_code, market_year, attribute_id, unit_id"
                " FROM serving.fct_psd_revision WHERE released_on = ? AND change_kind = ?",
                after.day,
                kind,
            )
            assert len(found) == len(set(found))
            assert set(found) == changed[kind]


def test_as_of_any_release_day_the_whole_release_is_returned(served: Workshop, releases: Releases) -> None:
    for release in releases:
        found = served.query(
            "SELECT commodity_code, country_code, market_year, attribute_id, unit_id, value::DECIMAL(18, 4)"
            " FROM serving.psd_asof(?) WHERE certain",
            release.published_at.date(),
        )
        assert {tuple(fact): value for *fact, value in found} == {
            fact: shown.value for fact, shown in read(release).facts.items()
        }


def test_coverage_counts_every_fact_once(served: Workshop, releases: Releases) -> None:
    day = releases[0].published_at.date().replace(day=28)
    rows = served.query("SELECT certain, uncertain, unknown, absent FROM serving.psd_asof_coverage(?)", day)
    certain, uncertain, unknown, absent = (sum(column) for column in zip(*rows, strict=True))
    standing = served.query("SELECT certain, COUNT(*) FROM serving.psd_asof(?) GROUP BY 1", day)
    assert dict(standing) == {True: certain, False: uncertain}
    facts = {version.fact for version in served_versions(served)}
    later = {v.fact for v in served_versions(served)} - {v.fact for v in served_versions(served) if v.valid_from <= day}
    closed = len(facts) - len(later) - certain - uncertain
    assert unknown + absent == len(later) > 0
    assert unknown > 0 and absent > 0, "only a release of the WASDE cycle shows what it does not contain yet"
    assert closed == 0


def test_on_no_day_is_a_fact_both_known_and_unknown(served: Workshop, releases: Releases) -> None:
    known_from = [min(each.valid_from for each in found) for found in _by_fact(served).values()]
    days = {release.published_at.date() for release in releases}
    for day in sorted(days | {*known_from} | {day - timedelta(days=1) for day in days}):
        rows = served.query("SELECT certain, uncertain, unknown, absent FROM serving.psd_asof_coverage(?)", day)
        certain, uncertain, unknown, absent = (sum(column) for column in zip(*rows, strict=True))
        ((standing,),) = served.query("SELECT COUNT(*) FROM serving.psd_asof(?)", day)
        assert certain + uncertain == standing
        assert certain + uncertain + unknown + absent == len(known_from)
        assert unknown <= sum(day < first for first in known_from)


def _by_fact(served: Workshop) -> dict[object, list[Version]]:
    found: dict[object, list[Version]] = defaultdict(list)
    for version in served_versions(served):
        found[version.fact].append(version)
    return found


def test_the_order_of_landing_never_shows(served: Workshop, releases: Releases, tmp_path: Path) -> None:
    """Every state on the way is right too, and nothing is left to do at the end."""
    workshop = Workshop(tmp_path / "data")
    landed: list[GeneratedRelease] = []
    for arriving in ((4, 1), (3, 0, 2)):
        for number in arriving:
            workshop.land(releases[number])
            landed.append(releases[number])
        workshop.transform()
        assert served_versions(workshop) == versions(map(read, landed), rekeyings(workshop))
    assert workshop.tables() == served.tables()
    again = workshop.transform()
    assert (again.releases_processed, again.models_changed) == (0, False)


def test_republished_removed_and_foreign_snapshots(
    served: Workshop, releases: Releases, copied: Copied, caplog: pytest.LogCaptureFixture
) -> None:
    """One run: a later snapshot of the newest day counts, with an attribute nobody knows; a middle release is
    taken away; a snapshot of coffee is ignored with a notice."""
    workshop = copied(served)
    middle = next(s for s in workshop.landing.snapshots() if s.month == releases[1].month)
    workshop.remove(middle)
    republished = altered(releases[4], b',176,"Ending Stocks",', b',999,"Ending Socks",')
    workshop.land(republished, key="zz-again")
    workshop.land(releases[0], key="coffee", dataset="psd_coffee")
    caplog.set_level(logging.INFO)

    done = workshop.transform()

    assert done.releases_processed >= 2, "the removed day's and its successor's"
    kept = [releases[0], releases[2], releases[3], republished]
    assert served_versions(workshop) == versions(map(read, kept), rekeyings(workshop))
    assert_summary(workshop, list(map(read, kept)))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("ignoring snapshots of psd_coffee" in line for line in warnings)
    assert any("every_attribute_has_a_column" in line for line in warnings)

    assert workshop.transform().releases_processed == 0, "a warning fails no audit"


def test_a_lakehouse_serves_one_dataset(served: Workshop, copied: Copied, releases: Releases) -> None:
    workshop = Workshop(copied(served).data_dir, dataset="psd_coffee")
    workshop.land(releases[0], key="coffee", dataset="psd_coffee")
    with pytest.raises(TransformError, match="holds psd_alldata and PSD_DATASET is psd_coffee"):
        workshop.transform()


def test_nothing_is_left_beside_the_database(served: Workshop) -> None:
    assert not list(served.data_dir.glob("*.wal"))
    assert {path.suffix for path in served.data_dir.glob("lakehouse*")} == {".duckdb"}


def assert_summary(workshop: Workshop, releases: list[Release]) -> None:
    """The summary is the reference's, in the commodities that were never re-keyed."""
    rekeyed = workshop.query(
        "SELECT DISTINCT commodity_code FROM serving.fct_psd_revision WHERE change_kind = 'restated'"
    )
    assert len(rekeyed) == 1
    for before, after in itertools.pairwise(releases):
        found = workshop.query(
            "SELECT commodity_code, facts_new, facts_revised, facts_removed FROM serving.agg_release_summary"
            " WHERE released_on = ? AND commodity_code <> ?",
            after.day,
            rekeyed[0][0],
        )
        counted = {code: of_kinds[:3] for code, of_kinds in counts(before, after).items()}
        counted.pop(rekeyed[0][0])
        assert {code: tuple(of_kinds) for code, *of_kinds in found} == counted


def altered(release: GeneratedRelease, old: bytes, new: bytes) -> GeneratedRelease:
    """The release with some bytes of its CSV replaced."""
    with zipfile.ZipFile(io.BytesIO(release.zip_bytes)) as archive:
        member = archive.infolist()[0]
        text = archive.read(member)
    assert old in text
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, text.replace(old, new))
    return dataclasses.replace(release, zip_bytes=buffer.getvalue())
