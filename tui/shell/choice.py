"""The commands that a dialog offers, and their options. Imports no widget."""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """An option that the operator may set: `--as-of`. An argument without a flag has an empty name."""

    name: str
    hint: str
    is_required: bool = False

    @property
    def label(self) -> str:
        return self.name or self.hint.partition(" ")[0]


AS_OF = Option("--as-of", "YYYY-MM, the month to start probing from; default: this month")
ON = Option("--on", "a provider, for a worker that exists only for this run; default: local")
FORCE = Option("--force", "why to publish even if the gate refuses; the reason is recorded")


@dataclass(frozen=True)
class Choice:
    """A label, and the arguments of `materia` or, with `program`, of another command."""

    label: str
    arguments: tuple[str, ...]
    options: tuple[Option, ...] = ()
    program: str = ""

    @property
    def text(self) -> str:
        from ops.host.launch import command_text

        return shlex.join([self.program, *self.arguments]) if self.program else command_text(self.arguments)
