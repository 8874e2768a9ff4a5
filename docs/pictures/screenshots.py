"""Draws the console's pictures, as SVG and PNG, on a demo and real runs: `just pictures`.

Needs sshd and chromium. With the directory of a finished `materia demo` as argument it draws a copy of that.
"""

import asyncio
import base64
import io
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import textual_serve
from PIL import Image
from textual.pilot import Pilot

from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.demo.archive_server import ArchiveServer
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from ops.pipelines.job import Request
from ops.workers.lifecycle import run_on
from tests.support.browser import run_browser
from tests.support.command_line import MATERIA
from tests.support.consoles import screen_of, type_text, until
from tests.support.object_server import BUCKET, WRITER, ObjectServer
from tests.support.worker_world import WorkerWorld
from tui.shell.app import ConsoleApp
from tui.shell.context import create_context
from tui.shell.messages import OpenFact, RunQuery

FOLDER = Path(__file__).parent
DRAWN = Path(tempfile.mkdtemp(prefix="materia-pictures-"))
"""Copied to FOLDER when all is drawn: until then the checkout is as it was committed, which the worker requires."""
SIZE = (120, 34)
QUERY = """SELECT market_year, value, country_name, attribute_name, unit_name
FROM serving.fct_psd
WHERE commodity_name = 'Corn' AND country_code = 'US' AND attribute_name = 'Production' AND valid_to IS NULL
ORDER BY market_year"""
US_CORN = ("0440000", "US", "028")
_NAMED_KEYS = frozenset({"enter", "escape", "tab", "right", "f5"})
_EXTERNAL_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)
_PAGE = """<style>
@font-face {{ font-family: Picture; font-weight: 100 700; src: url("file://{font}") }}
@font-face {{ font-family: Frames; src: local("DejaVu Sans Mono"); unicode-range: U+2500-259F, U+2800-28FF;
  size-adjust: 106% }}
body {{ margin: 0 }}
svg {{ display: block; width: {width}px; height: {height}px }}
</style>{svg}"""
"""Frames are drawn in a font whose lines touch."""
_VIEW_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


@asynccontextmanager
async def console(
    settings: Settings, screen: str = "overview", size: tuple[int, int] = SIZE
) -> AsyncIterator[Pilot[Any]]:
    """Run the console on a data directory."""
    app = ConsoleApp(create_context(settings, read_only=False), first=screen)
    async with app.run_test(size=size) as pilot:
        yield pilot


async def draw(pilot: Pilot[Any], name: str, *keys: str, shows: str) -> None:
    """Press keys, wait until a text is shown and the screen rests, and write the picture."""
    for key in keys:
        await (pilot.press(key) if key in _NAMED_KEYS else type_text(pilot, key))
    await until(pilot, lambda: shows in screen_of(pilot))
    before = ""
    while before != (before := screen_of(pilot)):
        await pilot.pause(0.5)
    svg = _EXTERNAL_FONTS.sub("", pilot.app.export_screenshot(title=f"materia-tui · {name}"))
    (DRAWN / f"console-{name}.svg").write_text(svg)


async def draw_releases(settings: Settings) -> None:
    """The newest release, a fact on an earlier day, a chart, and the log of the demo's last run."""
    commodity, country, attribute = US_CORN
    year = datetime.now(UTC).year
    async with console(settings) as pilot:
        await draw(pilot, "releases", "4", shows="revised")
        pilot.app.post_message(OpenFact(commodity, country, year, attribute))
        await draw(pilot, "fact", ",", ",", shows="Versions published by USDA")
        pilot.app.post_message(RunQuery(QUERY))
        await until(pilot, lambda: " rows in " in screen_of(pilot))
        await draw(pilot, "query", "escape", "right", "v", shows="value over market_year")
        await draw(pilot, "logs", "5", shows="following")


async def draw_failure(settings: Settings, archive: ArchiveServer) -> None:
    """A run that found a web page in the place of the newest release."""
    archive.post(_this_month(), b"<!DOCTYPE html><html><body>Maintenance</body></html>", datetime.now(UTC))
    with _running(settings, archive) as process:
        process.wait()
    async with console(settings) as pilot:
        await draw(pilot, "overview", shows="extract failed")
        await draw(pilot, "runs", "enter", shows="Error")


async def draw_live_dataflow(settings: Settings, archive: ArchiveServer) -> None:
    """A run that transforms a correction, while it works."""
    *_, release = generate(HistorySpec.ending(_this_month(), rows=2_000, releases=2))
    archive.post(_this_month(), release.zip_bytes, datetime.now(UTC))
    with _running(settings, archive):
        while next(iter(Journal(settings.journal_path).runs(1))).status is not RunStatus.RUNNING:
            await asyncio.sleep(0.05)
        async with console(settings, "runs") as pilot:
            await until(pilot, lambda: "◌    transformed" in screen_of(pilot))
            await draw(pilot, "dataflow", "v", shows="transformed")


def _this_month() -> Month:
    return Month.of(datetime.now(UTC).date())


async def draw_worker(folder: Path, archive: ArchiveServer) -> None:
    """A worker at a stand-in for Hetzner; the machine is an SSH server on loopback."""
    with ObjectServer(folder / "store") as store:
        storage = {
            "R2_ENDPOINT": store.endpoint,
            "R2_BUCKET": BUCKET,
            "R2_ACCESS_KEY": WRITER.access_key,
            "R2_SECRET_KEY": WRITER.secret_key,
            "PSD_ARCHIVE_URL": archive.url,
        }
        with WorkerWorld(folder / "world", storage) as world:
            os.environ.update({name: world.environ[name] for name in ("HETZNER_TOKEN", "HETZNER_API_URL")})
            go = folder / "go"
            world.pipeline(f"for _ in $(seq 1200); do [ -e {go} ] && break; sleep 0.05; done")
            run = threading.Thread(target=_run_on_worker, args=(world,))
            run.start()
            try:
                async with console(world.settings, "workers", (SIZE[0], 14)) as pilot:
                    await draw(pilot, "workers", shows="● running")
                async with console(world.settings, "workers") as pilot:
                    await until(pilot, lambda: "● running" in screen_of(pilot))
                    await draw(pilot, "remote-run", "enter", shows="candidates")
            finally:
                go.touch()
                run.join()


def _run_on_worker(world: WorkerWorld) -> None:
    run_on(world.hire(), "run-all", world.settings, Request(), world.environ)


@contextmanager
def _running(settings: Settings, archive: ArchiveServer) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `materia run-all` beside; it has ended when the context is left."""
    archived = {"PSD_ARCHIVE_URL": archive.url, "PSD_LIVE_URL": f"{archive.url}/none.zip"}
    process = subprocess.Popen(
        [MATERIA, "run-all"],
        env={**os.environ, "MATERIA_DATA_DIR": str(settings.data_dir), **archived},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.wait()


async def convert(folder: Path) -> None:
    """Write a PNG beside each SVG of the console."""
    font = Path(textual_serve.__file__).parent / "static/fonts/RobotoMono-VariableFont_wght.ttf"
    page_path = folder / "picture.html"
    async with run_browser(folder / "chromium") as browser, browser.page("about:blank") as page:
        for path in sorted(DRAWN.glob("console-*.svg")):
            svg = path.read_text().replace("Fira Code", "Frames, Picture")
            width, height = (math.ceil(float(size)) for size in _VIEW_BOX.findall(svg)[0])
            page_path.write_text(_PAGE.format(font=font, width=width, height=height, svg=svg))
            await page.open(page_path.as_uri())
            await page.wait_for(lambda: page.evaluate("document.readyState"), lambda state: state == "complete")
            await page.evaluate("document.fonts.ready.then(() => 1)")
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            picture = await page.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            with Image.open(io.BytesIO(base64.b64decode(picture["data"]))) as image:
                few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
                few.save(path.with_suffix(".png"), optimize=True)


async def main(demo: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name, ArchiveServer() as archive:
        folder = Path(name)
        data_dir = folder / "data"
        if demo is None:
            subprocess.run([MATERIA, "demo", "--keep", data_dir], check=True, stdout=subprocess.DEVNULL)
        else:
            shutil.copytree(demo, data_dir, symlinks=True)
        settings = Settings.from_environ({"MATERIA_DATA_DIR": str(data_dir)})
        await draw_releases(settings)
        await draw_failure(settings, archive)
        await draw_live_dataflow(settings, archive)
        await draw_worker(folder, archive)
        await convert(folder)
    shutil.copytree(DRAWN, FOLDER, dirs_exist_ok=True)
    shutil.rmtree(DRAWN)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if sys.argv[1:] else None))
