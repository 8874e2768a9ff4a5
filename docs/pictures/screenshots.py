"""Draws the console's six screens on the data of `materia demo`: `python docs/pictures/screenshots.py DATA_DIR`."""

import asyncio
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from ops.config.settings import Settings
from tui.shell.app import ConsoleApp
from tui.shell.config import config_path, read_config
from tui.shell.context import create_context

SIZE = (120, 36)
QUERY = """SELECT commodity_name, market_year, attribute_name, value, unit_name
FROM serving.agg_world_balance
WHERE attribute_name IN ('Production', 'Ending Stocks') AND market_year >= 2024
ORDER BY commodity_name, market_year DESC, attribute_name"""
SINCE_PUBLISHED = timedelta(minutes=2)


async def draw(data_dir: Path, folder: Path) -> None:
    settings = Settings.from_environ({"MATERIA_DATA_DIR": str(data_dir)})
    context = create_context(settings, read_only=False)
    # However long ago the demo was: what is relative looks as it did right after it.
    now = context.reader().generation().created_at + SINCE_PUBLISHED
    app = ConsoleApp(replace(context, clock=lambda: now), read_config(config_path()), first="overview", locked=False)
    async with app.run_test(size=SIZE) as pilot:
        for key, name in enumerate(("overview", "runs", "query", "releases", "logs", "workers"), start=1):
            if name == "query":
                from tui.shell.messages import RunQuery

                app.post_message(RunQuery(QUERY))
            else:
                await pilot.press(str(key))
            for _ in range(40):
                await pilot.pause(0.1)
            (folder / f"console-{name}.svg").write_text(app.export_screenshot(title=f"materia-tui · {name}"))
            await pilot.press("escape")


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1]), Path(__file__).parent))
