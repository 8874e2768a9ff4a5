import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from dataflows.landing.snapshot import Snapshot
from dataflows.serving.store import ServingStore
from ops.demo.generator import GeneratedRelease, generate
from ops.host.exits import Exit
from tests.support.command_line import materia, modules_of
from tests.support.served_demo import ServedDemo
from tests.transform.reference import changes, read

SNAPSHOT = Snapshot(
    dataset="psd_alldata",
    url="http://127.0.0.1/2026/03/psd_alldata_csv.zip",
    etag='"march"',
    last_modified="Tue, 10 Mar 2026 16:00:00 GMT",
    release_year=2026,
    release_month=3,
    released_on=date(2026, 3, 10),
    size_bytes=1_500_000,
    sha256="0" * 64,
    member="psd_alldata.csv",
    row_count=20_000,
    landed_at=datetime(2026, 3, 11, tzinfo=UTC),
    key="march",
)


@pytest.fixture(scope="module")
def generated(served_demo: ServedDemo) -> list[GeneratedRelease]:
    """What was posted."""
    return list(generate(served_demo.spec))


def land(data_dir: Path, *snapshots: Snapshot) -> None:
    """Write the markers of snapshots, which is what makes them landed."""
    folder = data_dir / "landing" / "psd"
    folder.mkdir(parents=True)
    for snapshot in snapshots:
        (folder / f"{snapshot.key}.json").write_text(snapshot.to_json())


def listed(data_dir: Path, **environ: str) -> list[dict[str, object]]:
    shown = materia(data_dir, "releases", "--json", **environ)
    assert shown.returncode == Exit.DONE, shown.stderr
    return json.loads(shown.stdout)


def test_every_release_is_listed_with_what_it_changed(
    served_demo: ServedDemo, generated: list[GeneratedRelease]
) -> None:
    last, middle, first = listed(served_demo.data_dir)
    assert [release["month"] for release in (first, middle, last)] == [str(each.month) for each in generated]
    assert [release["etag"] for release in (first, middle, last)] == [each.etag for each in generated]
    assert (first["standing"], first["facts_revised"], first["row_count"]) == ("baseline", None, generated[0].row_count)
    for release, created in ((middle, generated[1]), (last, generated[2])):
        assert release["standing"] == "served"
        assert release["facts_revised"] > 0
        assert release["released_on"] == str(created.published_at.date())
    assert (first["compared_with"], middle["compared_with"]) == (None, first["released_on"])
    changed = changes(read(generated[0]), read(generated[1]))
    assert {kind: middle[f"facts_{kind}"] for kind in changed} == {kind: len(facts) for kind, facts in changed.items()}
    assert middle["facts_restated"] == 0 and last["facts_restated"] > 500


def test_a_line_per_release_is_aligned(served_demo: ServedDemo, generated: list[GeneratedRelease]) -> None:
    lines = materia(served_demo.data_dir, "releases").stdout.splitlines()
    assert lines[0].startswith("served: generation 3, built ") and lines[1] == ""
    assert lines[2].split()[:5] == ["month", "released", "compared", "with", "facts"] and len(lines) == 3 + len(
        generated
    )
    assert lines[3].split()[0] == str(generated[-1].month) and " served " in lines[3]
    assert lines[-1].split()[4:8] == ["-"] * 4 and lines[-1].split()[2] == "-" and " baseline " in lines[-1]


def shown(data_dir: Path, *arguments: str) -> dict[str, Any]:
    done = materia(data_dir, "releases", "show", *arguments, "--json")
    assert done.returncode == Exit.DONE, done.stderr
    return json.loads(done.stdout)


def test_a_release_shows_the_world_before_and_after(served_demo: ServedDemo, generated: list[GeneratedRelease]) -> None:
    """The world's figures are the sums of both files; the change of a figure is that of its countries."""
    before, after = read(generated[0]), read(generated[1])
    summary = shown(served_demo.data_dir, str(generated[1].month), "--since-year", "1900")
    assert summary["release"]["compared_with"] == str(before.day)
    names = {row["attribute_name"]: row["attribute_id"] for row in served_demo.rows("FROM serving.dim_attribute")}
    units = {row["unit_name"]: row["unit_id"] for row in served_demo.rows("FROM serving.dim_unit")}
    figures = [(balance, figure) for balance in summary["balances"] for figure in balance["figures"]]
    world = [(balance, figure) for balance, figure in figures if figure["place"] == "World"]
    assert len(world) > 20 and len(figures) > len(world)
    for balance, figure in world:
        what = (balance["commodity_code"], balance["market_year"], names[figure["attribute_name"]])
        for release, name in ((before, "before"), (after, "now")):
            values = [
                fact.value
                for key, fact in release.facts.items()
                if (key[0], key[2], key[3]) == what and key[4] == units[balance["unit_name"]]
            ]
            assert figure[name] == (pytest.approx(float(sum(values))) if values else None)


def test_drivers_are_ranked_and_follow_from_nothing(served_demo: ServedDemo, generated: list[GeneratedRelease]) -> None:
    before, after = read(generated[0]), read(generated[1])
    summary = shown(served_demo.data_dir, str(after.day), "--since-year", "1900")
    drivers = summary["drivers"]
    sizes = [driver["tonnes"] for driver in drivers]
    assert len(drivers) == 10 and sizes == sorted(sizes, reverse=True)
    assert not {driver["attribute_name"] for driver in drivers} & {
        "Total Supply",
        "Ending Stocks",
        "Total Distribution",
    }
    names = {row["attribute_id"]: row["attribute_name"] for row in served_demo.rows("FROM serving.dim_attribute")}
    countries = {row["country_code"]: row["country_name"] for row in served_demo.rows("FROM serving.dim_country")}
    changed = {
        (key[0], countries[key[1]], key[2], names[key[3]]): float(after.facts[key].value - fact.value)
        for key, fact in before.facts.items()
        if key in after.facts and after.facts[key].value != fact.value
    }
    for each in drivers:
        key = (each["commodity_code"], each["country_name"], each["market_year"], each["attribute_name"])
        assert each["change"] == pytest.approx(changed[key])
    counts = changes(before, after)
    assert sum(each["facts_revised"] for each in summary["changes"]) == len(counts["revised"])


def test_a_release_is_shown_as_text_markdown_and_one_line(served_demo: ServedDemo) -> None:
    middle = listed(served_demo.data_dir)[1]
    text = materia(served_demo.data_dir, "releases", "show", middle["month"]).stdout
    assert text.startswith(f"psd_alldata {middle['month']}, released {middle['released_on']}, compared with ")
    assert "Largest drivers" in text and "\nWorld " in text
    markdown = materia(served_demo.data_dir, "releases", "show", middle["month"], "--markdown").stdout
    assert "\n## Largest drivers\n" in markdown and "| ---: |" in markdown
    line = materia(served_demo.data_dir, "releases", "show", middle["month"], "--headline").stdout
    assert line.count("\n") == 1 and line.startswith(f"psd_alldata {middle['month']} is served: ")
    baseline = materia(served_demo.data_dir, "releases", "show", listed(served_demo.data_dir)[2]["month"]).stdout
    assert "the baseline, compared with none" in baseline and "drivers" not in baseline


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("1999-01",), "release 1999-01 is not served"),
        (("--commodity", "unobtainium"), "no served commodity is called 'unobtainium'"),
    ],
)
def test_a_release_that_is_not_served_is_named(served_demo: ServedDemo, arguments: tuple[str, ...], cause: str) -> None:
    done = materia(served_demo.data_dir, "releases", "show", *arguments)
    assert done.returncode == Exit.FAILED and cause in done.stderr


def test_a_commodity_is_found_by_a_part_of_its_name(served_demo: ServedDemo) -> None:
    [first, *_] = served_demo.rows("FROM serving.dim_commodity ORDER BY commodity_name")
    month = listed(served_demo.data_dir)[1]["month"]
    summary = shown(served_demo.data_dir, str(month), "--commodity", str(first["commodity_name"]).upper())
    assert {balance["commodity_code"] for balance in summary["balances"]} == {first["commodity_code"]}
    assert {driver["commodity_code"] for driver in summary["drivers"]} <= {first["commodity_code"]}


def test_after_a_rollback_the_newest_release_is_not_served(served_demo: ServedDemo, tmp_path: Path) -> None:
    data_dir = served_demo.copy(tmp_path / "data")
    ServingStore(data_dir / "serving.duckdb").rollback()
    assert [release["standing"] for release in listed(data_dir)] == ["not served", "served", "baseline"]


def test_without_anything_served_no_database_is_opened(tmp_path: Path) -> None:
    land(tmp_path, SNAPSHOT)
    [release] = listed(tmp_path)
    assert (release["month"], release["standing"], release["facts_new"]) == ("2026-03", "not served", None)
    assert (release["key"], release["size_bytes"]) == ("march", 1_500_000)
    assert "served: nothing" in materia(tmp_path, "releases").stdout
    assert not modules_of(tmp_path, "releases") & {"duckdb", "pyarrow", "hamilton", "sqlmesh", "pandas"}


def test_an_empty_directory_shows_the_next_step(tmp_path: Path) -> None:
    shown = materia(tmp_path / "none", "releases")
    assert (shown.returncode, shown.stdout) == (Exit.DONE, "no releases are landed yet; next: materia run-all\n")
    assert not (tmp_path / "none").exists()


def test_snapshots_of_other_datasets_are_ignored_with_a_notice(tmp_path: Path) -> None:
    land(tmp_path, SNAPSHOT, replace(SNAPSHOT, dataset="psd_coffee", key="coffee"))
    shown = materia(tmp_path, "releases", "--json")
    assert [release["key"] for release in json.loads(shown.stdout)] == ["march"]
    assert shown.stderr.startswith("notice: 1 landed snapshot of psd_coffee ignored")
    assert [release["key"] for release in listed(tmp_path, PSD_DATASET="psd_coffee")] == ["coffee"]


def test_a_second_file_of_one_day_is_superseded(served_demo: ServedDemo, tmp_path: Path) -> None:
    """A generation knows both snapshots of the day; its tables count the later one."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    shutil.copytree(served_demo.data_dir / "landing", data_dir / "landing")
    store = ServingStore(served_demo.serving_path)
    served = store.served()
    assert served is not None
    shutil.copy(store.path(served.number), data_dir / "serving-3.duckdb")
    both = replace(served, snapshots=(*served.snapshots, "again"))
    (data_dir / "serving-3.json").write_text(both.to_json())
    (data_dir / "serving.duckdb").symlink_to("serving-3.duckdb")
    again = replace(SNAPSHOT, key="again", released_on=served.newest_released_on)
    (data_dir / "landing" / "psd" / "again.json").write_text(again.to_json())
    standings = {release["key"]: release["standing"] for release in listed(data_dir)}
    assert standings.pop("again") == "superseded"
    assert sorted(standings.values()) == ["baseline", "served", "served"]


def test_a_broken_serving_file_hides_no_landed_release(tmp_path: Path) -> None:
    land(tmp_path, SNAPSHOT)
    (tmp_path / "serving.duckdb").symlink_to("serving-9.duckdb")
    shown = materia(tmp_path, "releases")
    assert shown.returncode == Exit.DONE and "2026-03" in shown.stdout
    assert "what is served cannot be asked" in shown.stderr and "serving-9.duckdb" in shown.stderr


def test_a_broken_marker_is_named(tmp_path: Path) -> None:
    land(tmp_path, SNAPSHOT)
    (tmp_path / "landing" / "psd" / "march.json").write_text("{")
    shown = materia(tmp_path, "releases")
    assert shown.returncode == Exit.FAILED and "march.json is not a snapshot marker" in shown.stderr
