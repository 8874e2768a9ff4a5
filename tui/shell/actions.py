"""The registry of actions, from which keys, footer, help and command palette are derived.

An action's id is `<owner>.<verb>`, where the owner is a pane's id or `app`. The action calls the owner's method
`action_<verb>`: `runs.start` calls `RunsPane.action_start`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from textual.keys import key_to_character
from textual.widget import Widget

from dataflows.errors import SettingsError


@dataclass(frozen=True)
class ActionSpec:
    """Something an operator can do."""

    id: str
    key: str
    """Textual key names, separated by commas: `s`, `ctrl+r`, `question_mark`."""
    label: str
    """One or two words, shown in the footer."""
    help: str
    """One sentence, shown on the help screen and in the palette."""
    writes: bool = False
    """Whether the action changes anything outside the console; such actions are hidden in read-only mode."""
    show: bool = True
    """Whether the footer shows the action; help and palette always do."""

    def without_keys_of(self, focused: Widget | None) -> "ActionSpec":
        """Return the action without the keys that the focused widget uses itself, to type or to move.

        Escape stays: a widget that handles it goes where the action does.
        """
        widgets = [*focused.ancestors_with_self] if focused else []
        bound = {key for widget in widgets if isinstance(widget, Widget) for key in widget._bindings.key_to_bindings}
        kept = [
            key
            for key in self.key.split(",")
            if key == "escape" or not (focused and (key in bound or focused.check_consume_key(key, _character_of(key))))
        ]
        return replace(self, key=",".join(kept))

    @property
    def owner(self) -> str:
        return self.id.partition(".")[0]

    @property
    def verb(self) -> str:
        return self.id.partition(".")[2]


def _character_of(key: str) -> str | None:
    return "/" if key == "slash" else key_to_character(key)  # the library does not know the slash


APP = "app"

APP_ACTIONS = (
    ActionSpec("app.help", "question_mark,f1", "help", "Show every key of this screen"),
    ActionSpec("app.palette", "ctrl+p", "palette", "Search all actions", show=False),
    ActionSpec("app.read_only", "ctrl+o", "read-only", "Switch read-only mode on or off", show=False),
    ActionSpec("app.theme", "ctrl+t", "theme", "Choose a theme", show=False),
    ActionSpec("app.quit", "q,ctrl+q", "quit", "Quit the console; commands it started keep running"),
)


class Registry:
    """The registered actions in order of registration, with the keys that the user configured."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = dict(keys)
        self._specs: dict[str, ActionSpec] = {}

    def add(self, specs: Iterable[ActionSpec]) -> tuple[ActionSpec, ...]:
        """Register actions and return them with the configured keys."""
        remapped = tuple(replace(spec, key=self._keys.get(spec.id, spec.key)) for spec in specs)
        self._specs.update((spec.id, spec) for spec in remapped)
        return remapped

    def __getitem__(self, action_id: str) -> ActionSpec:
        return self._specs[action_id]

    def available(self, owners: Iterable[str], *, read_only: bool) -> tuple[ActionSpec, ...]:
        """Return the actions available to these owners, in the order of `owners`."""
        return tuple(
            spec
            for owner in owners
            for spec in self._specs.values()
            if spec.owner == owner and not (read_only and spec.writes)
        )

    def check_all_known(self, owners: Collection[str]) -> None:
        """Raise SettingsError when a key is configured for an action that does not exist.

        `owners` lists every possible owner. The actions of an owner that has not registered any yet are not checked.
        """
        came = {spec.owner for spec in self._specs.values()}
        for name in self._keys:
            owner = name.partition(".")[0]
            if owner not in owners or (owner in came and name not in self._specs):
                known = ", ".join(sorted(spec.id for spec in self._specs.values() if spec.owner == owner) or owners)
                raise SettingsError(f"unknown action {name!r} in [keys]; actions: {known}")


def key_text(key: str) -> str:
    """Return the first key as it is displayed: `?`, `^r`, `F5`, `⏎`."""
    first = key.split(",")[0].strip()
    names = {
        "question_mark": "?",
        "slash": "/",
        "full_stop": ".",
        "comma": ",",
        "ampersand": "&",
        "colon": ":",
        "exclamation_mark": "!",
        "equals_sign": "=",
        "escape": "esc",
        "enter": "⏎",
    }
    if first.startswith("ctrl+"):
        return f"^{names.get(first[5:], first[5:])}"
    return names.get(first, first.upper() if first[0] == "f" and first[1:].isdigit() else first)
