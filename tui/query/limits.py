"""The dialog that sets the limits of queries."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.validation import Number
from textual.widgets import Input, Label

from tui.query.run import MIB, QueryLimits


class LimitsDialog(ModalScreen[QueryLimits | None]):
    """Edits the limits for time, memory and disk; Enter applies them, Escape cancels."""

    DEFAULT_CSS = """
    LimitsDialog { align: center middle; }
    LimitsDialog > Vertical {
        width: 60; max-width: 95%; height: auto; padding: 0 1; border: round $border; background: $panel;
    }
    LimitsDialog Input, LimitsDialog Input:focus {
        height: 1; border: none; background: $boost; padding: 0 1; margin-bottom: 1;
    }
    LimitsDialog Input.-invalid { color: $error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", show=False)]

    def __init__(self, limits: QueryLimits) -> None:
        super().__init__()
        self._limits = limits

    def compose(self) -> ComposeResult:
        limits = self._limits
        with Vertical() as box:
            box.border_title = "Query limits"
            box.border_subtitle = "enter apply   esc cancel"
            yield Label("Time, seconds (1 to 3600)")
            yield Input(f"{limits.timeout_s:g}", id="time", validators=[Number(1, 3600)])
            yield Label("Memory, MiB (64 to 65536)")
            yield Input(str(limits.memory_bytes // MIB), id="memory", type="integer", validators=[Number(64, 65536)])
            yield Label("Disk for the rows of a result, MiB (16 to 1048576)")
            yield Input(str(limits.spill_bytes // MIB), id="disk", type="integer", validators=[Number(16, 1048576)])

    @on(Input.Submitted)
    def take(self, event: Input.Submitted) -> None:
        event.stop()
        fields = {field.id: field for field in self.query(Input)}
        wrong = [
            field
            for field in fields.values()
            if not (field.validate(field.value) or event.validation_result) or not field.is_valid
        ]
        if wrong:
            wrong[0].focus()
            return
        self.dismiss(
            QueryLimits(
                timeout_s=float(fields["time"].value),
                memory_bytes=int(fields["memory"].value) * MIB,
                spill_bytes=int(fields["disk"].value) * MIB,
            )
        )
