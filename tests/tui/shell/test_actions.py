"""Every action is classified; those that change something are hidden and refused in read-only mode."""

from pathlib import Path

import pytest

from dataflows.errors import SettingsError
from tests.support.consoles import screen_of, until
from tests.support.served import Served
from tests.tui.building import console_on, context_in
from tests.tui.conftest import STATES
from tui.logs.view import LogView
from tui.query.editor import _Text
from tui.query.grid import ResultGrid
from tui.shell.actions import APP_ACTIONS, ActionSpec, Registry, key_text
from tui.shell.app import SWITCHES, ConsoleApp
from tui.shell.bars import ActionBar
from tui.shell.child import READ_ONLY
from tui.shell.pane import PANES, make_pane
from tui.widgets.table import Table

ACT = {
    "overview.doctor",
    "overview.fix",
    "overview.roll_back",
    "overview.verify",
    "query.export",
    "runs.backfill",
    "runs.interrupt",
    "runs.start",
    "workers.create",
    "workers.destroy",
    "workers.reap",
}
"""They write files, start or end processes, or destroy machines."""
LOOK = {
    "app": "help palette quit read_only theme overview runs releases query logs workers",
    "logs": "clear copy end follow hide level line next open_run previous run_only "
    "search source sources start time wrap",
    "overview": "refresh",
    "query": "alike chart copy copy_cell edit filter format history limits live open run saved sort stop tables whole",
    "releases": "back day earlier filter later order pick release sql unfold view",
    "runs": "back failed filter graph log order refresh source",
    "workers": "refresh",
}
"""They change what is on the screen, in the clipboard, or in the console's own settings."""


@pytest.fixture
def specs(tmp_path: Path) -> tuple[ActionSpec, ...]:
    """Every action of the console."""
    context = context_in(tmp_path)
    panes = [spec for pane_id in PANES for spec in make_pane(pane_id, context).actions()]
    return (*SWITCHES.values(), *APP_ACTIONS, *panes)


def test_every_action_is_classified(specs: tuple[ActionSpec, ...]) -> None:
    looking = {f"{owner}.{verb}" for owner, verbs in LOOK.items() for verb in verbs.split()}
    assert not ACT & looking
    assert sorted(spec.id for spec in specs) == sorted(ACT | looking)


def test_just_what_acts_is_marked(specs: tuple[ActionSpec, ...]) -> None:
    assert {spec.id for spec in specs if spec.writes} == ACT


@pytest.mark.parametrize("action_id", sorted(ACT))
@pytest.mark.parametrize("read_only", [True, False])
async def test_acting_actions_are_hidden_and_refused_in_read_only_mode(
    healthy_dir: Path, action_id: str, read_only: bool
) -> None:
    owner, _, verb = action_id.partition(".")
    app = console_on(healthy_dir, first=owner, read_only=read_only)
    done: list[str] = []
    async with app.run_test(size=(140, 40)) as pilot:
        pane = app.shown_pane
        setattr(pane, f"action_{verb}", lambda: done.append(verb))
        assert (action_id in {spec.id for spec in app.available}) is not read_only
        assert app.check_action("perform", (action_id,)) is not read_only
        await app.run_action(f"app.perform('{action_id}')")
        await pilot.pause()
    assert done == ([] if read_only else [verb])


@pytest.mark.parametrize("action_id", sorted(ACT))
async def test_the_palette_of_any_screen_finds_what_acts_only_without_read_only_mode(
    healthy_dir: Path, action_id: str
) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        assert action_id in {spec.id for spec in app.everything}
        app.action_read_only()
        assert action_id not in {spec.id for spec in app.everything}
        app.go_and_perform(action_id)  # chosen before the mode was switched
        await until(pilot, lambda: app._notifications)
        assert [note.message for note in app._notifications] == [READ_ONLY] and len(app.screen_stack) == 1


SPECS = (
    ActionSpec("app.quit", "q,ctrl+q", "quit", "Leave"),
    ActionSpec("runs.start", "s", "start", "Start", writes=True, show=False),
    ActionSpec("runs.log", "l", "log", "Open"),
)


def test_an_action_is_shown_and_read_only_by_default() -> None:
    assert SPECS[0].show is True and SPECS[0].writes is False


def test_an_action_is_named_for_its_owner_and_verb() -> None:
    assert (SPECS[1].owner, SPECS[1].verb) == ("runs", "start")


def test_available_actions_are_grouped_by_owner_without_acting_ones_in_read_only_mode() -> None:
    registry = Registry({})
    registry.add(SPECS)
    assert registry.available(("runs", "app"), read_only=False) == (SPECS[1], SPECS[2], SPECS[0])
    assert registry.available(("runs", "app"), read_only=True) == (SPECS[2], SPECS[0])
    assert registry.available((), read_only=False) == ()


def test_a_key_of_the_user_takes_the_place_of_ours() -> None:
    registry = Registry({"runs.start": "z"})
    assert [spec.key for spec in registry.add(SPECS)] == ["q,ctrl+q", "z", "l"]
    assert registry["runs.start"].key == "z"


def test_a_key_for_an_action_that_may_still_come_is_no_error() -> None:
    registry = Registry({"logs.follow": "f", "runs.start": "z"})
    registry.add(SPECS)
    registry.check_all_known(("app", "runs", "logs"))


@pytest.mark.parametrize("name", ["cellar.fly", "runs.fly"])
def test_a_key_for_what_is_no_action_is_refused_and_the_actions_are_named(name: str) -> None:
    registry = Registry({name: "f"})
    registry.add(SPECS)
    known = {"cellar.fly": "app, runs", "runs.fly": r"runs\.log, runs\.start"}[name]
    with pytest.raises(SettingsError, match=f"unknown action '{name}' in .keys.; actions: {known}$"):
        registry.check_all_known(("app", "runs"))


def test_the_footer_omits_keys_that_the_help_lists() -> None:
    assert [spec.id for spec in APP_ACTIONS if spec.show] == ["app.help", "app.quit"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("question_mark,f1", "?"),
        ("slash", "/"),
        ("full_stop", "."),
        ("comma", ","),
        ("equals_sign", "="),
        ("ampersand", "&"),
        ("colon", ":"),
        ("exclamation_mark", "!"),
        ("escape", "esc"),
        ("enter", "⏎"),
        ("ctrl+r", "^r"),
        ("ctrl+slash", "^/"),
        ("f5,ctrl+j", "F5"),
        ("f12", "F12"),
        ("f", "f"),
        ("fx", "fx"),
        ("g5", "g5"),
        (" Y , y", "Y"),
    ],
)
def test_a_key_is_written_as_a_person_reads_it(key: str, text: str) -> None:
    assert key_text(key) == text


def test_a_key_means_one_thing_on_every_screen(specs: tuple[ActionSpec, ...]) -> None:
    labels: dict[str, set[str]] = {}
    for spec in specs:
        for key in spec.key.split(","):
            labels.setdefault(key, set()).add(spec.label)
    for widget in (Table, ResultGrid, LogView):
        for binding in widget.BINDINGS:
            for key in binding.key.split(","):
                if key in LETTERS:
                    labels.setdefault(key, set()).add(binding.description.lower() or binding.action)
    assert {key: found for key, found in labels.items() if len(found) > 1} == {}


LETTERS = frozenset("abcdefhijklmnopqrstuvwxyzABCDEFHIJKLMNOPQRSTUVWXYZ")
"""Without `g` and `G`, which go to the first and the last line everywhere."""


async def test_footer_and_help_offer_only_what_the_focused_widget_does_not_type(served: Served) -> None:
    app = ConsoleApp(served.context, first="query")
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "F5 run" in screen_of(pilot) and isinstance(app.focused, _Text))
        assert not {"slash", "e", "o", "G", "equals_sign"} & {
            key for spec in app.reachable for key in spec.key.split(",")
        }
        assert "o order" not in screen_of(pilot) and "esc back" in screen_of(pilot)
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.focused, ResultGrid) and "o order" in screen_of(pilot))
        await pilot.press("question_mark")
        await until(pilot, lambda: "Sort by this column" in screen_of(pilot))
        await pilot.press("escape", "e", "f1")
        await until(pilot, lambda: "Choose a saved query" in screen_of(pilot))
        assert "Sort by this column" not in screen_of(pilot)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("pane_id", PANES)
async def test_the_footer_offers_no_action_that_does_nothing(tmp_path: Path, pane_id: str, state: str) -> None:
    """What cannot be done says so in a notification."""
    app = console_on(STATES[state](tmp_path), first=pane_id)
    async with app.run_test(size=(240, 40)) as pilot:
        await until(pilot, lambda: app.shown_pane.drawn.is_set())
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        offered = [spec.id for spec in app.query_one(ActionBar)._specs if spec.owner == pane_id]
        for action_id in offered:
            await app.run_action(f"app.perform('{action_id}')")
            await app.workers.wait_for_complete()
            await pilot.pause()
            assert [note.message for note in app._notifications if note.severity != "information"] == [], action_id
            while len(app.screen_stack) > 1:
                await pilot.press("escape")
            await app.show_pane(pane_id)


async def test_the_footer_follows_the_state_of_the_screen(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="overview")
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "f fix" in screen_of(pilot))
        await pilot.press("2")
        await until(pilot, lambda: "l log" in screen_of(pilot))
        assert "i interrupt" not in screen_of(pilot) and "esc back" not in screen_of(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "esc back" in screen_of(pilot))
        await pilot.press("question_mark")
        await until(pilot, lambda: "Interrupt the shown run" in screen_of(pilot))


async def test_an_empty_data_directory_offers_only_what_it_can_do(tmp_path: Path) -> None:
    app = console_on(tmp_path, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        for key, footer in {
            "2": " s start  ? help  q quit",
            "4": " ? help  q quit",
            "5": " b list  ? help  q quit",
        }.items():
            await pilot.press(key)
            await until(pilot, lambda footer=footer: screen_of(pilot).splitlines()[-1] == footer)
