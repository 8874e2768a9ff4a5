"""The one registry of actions: keys, footer, help and command palette are all made from it.

An action's id is `<owner>.<verb>`, the owner a pane's id or `app`. Doing it calls `action_<verb>` of the owner,
so `runs.start` is `RunsPane.action_start`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from dataflows.errors import SettingsError


@dataclass(frozen=True)
class ActionSpec:
    """Something an operator can do."""

    id: str
    key: str
    """As Textual names keys: `s`, `ctrl+r`, `question_mark`; several separated by commas."""
    label: str
    """A word or two for the footer."""
    help: str
    """A sentence for the help screen and the palette."""
    writes: bool = False
    """Whether it changes anything outside the console; hidden in read-only mode."""
    show: bool = True
    """Whether the footer has it; help and palette always do."""

    @property
    def owner(self) -> str:
        return self.id.partition(".")[0]

    @property
    def verb(self) -> str:
        return self.id.partition(".")[2]


APP = "app"

APP_ACTIONS = (
    ActionSpec("app.help", "question_mark,f1", "help", "Show every key of this screen"),
    ActionSpec("app.palette", "ctrl+p", "palette", "Search everything that can be done", show=False),
    ActionSpec("app.read_only", "ctrl+o", "read-only", "Hide, or bring back, everything that acts", show=False),
    ActionSpec("app.theme", "ctrl+t", "theme", "Choose another theme", show=False),
    ActionSpec("app.quit", "q,ctrl+q", "quit", "Leave the console; what it started goes on"),
)


class Registry:
    """The actions known so far, in the order they came, under the keys that the user wants."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = dict(keys)
        self._specs: dict[str, ActionSpec] = {}

    def add(self, specs: Iterable[ActionSpec]) -> tuple[ActionSpec, ...]:
        """Take up actions; returns them with the keys that the user gave them."""
        remapped = tuple(replace(spec, key=self._keys.get(spec.id, spec.key)) for spec in specs)
        self._specs.update((spec.id, spec) for spec in remapped)
        return remapped

    def __getitem__(self, action_id: str) -> ActionSpec:
        return self._specs[action_id]

    def available(self, owners: Iterable[str], *, read_only: bool) -> tuple[ActionSpec, ...]:
        """What these owners can do now, owner by owner."""
        return tuple(
            spec
            for owner in owners
            for spec in self._specs.values()
            if spec.owner == owner and not (read_only and spec.writes)
        )

    def check_all_known(self, owners: Collection[str]) -> None:
        """Raise SettingsError when a key is set for what is no action, as far as the actions are known by now.

        `owners` are all there will ever be; whose actions came already is told by those that did.
        """
        came = {spec.owner for spec in self._specs.values()}
        for name in self._keys:
            owner = name.partition(".")[0]
            if owner not in owners or (owner in came and name not in self._specs):
                known = ", ".join(sorted(spec.id for spec in self._specs.values() if spec.owner == owner) or owners)
                raise SettingsError(f"there is no action {name!r} to give a key to; there are {known}")


def key_text(key: str) -> str:
    """A key as a person reads it, the first of several: `?`, `^r`, `F5`, `enter`."""
    first = key.split(",")[0].strip()
    names = {
        "question_mark": "?",
        "slash": "/",
        "full_stop": ".",
        "comma": ",",
        "equals_sign": "=",
        "escape": "esc",
        "enter": "⏎",
    }
    if first.startswith("ctrl+"):
        return f"^{names.get(first[5:], first[5:])}"
    return names.get(first, first.upper() if first[0] == "f" and first[1:].isdigit() else first)
