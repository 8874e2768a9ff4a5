"""Records Hamilton's nodes as steps of a run; only a call of `step_recorder` imports Hamilton."""

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ops.journal.recorder import Recorder, StepNote

if TYPE_CHECKING:
    from hamilton.lifecycle import NodeExecutionHook


def step_recorder(recorder: Recorder) -> "NodeExecutionHook":
    """Create a Hamilton adapter that records every executed node as a step, whether it succeeds or not.

    A step's detail is the error or what the result says in its `step_detail`, else the result's type and length;
    never another value that a node was given or returned.
    """
    from hamilton.lifecycle import NodeExecutionHook

    class StepRecorder(NodeExecutionHook):
        def __init__(self) -> None:
            self._open: dict[tuple[str | None, str], tuple[AbstractContextManager[StepNote], StepNote]] = {}

        def run_before_node_execution(self, *, node_name: str, task_id: str | None, **_: Any) -> None:
            step = recorder.step(node_name)
            self._open[task_id, node_name] = step, step.__enter__()

        def run_after_node_execution(
            self,
            *,
            node_name: str,
            task_id: str | None,
            result: Any,
            error: Exception | None,
            **_: Any,
        ) -> None:
            step, note = self._open.pop((task_id, node_name))
            # Hamilton passes only an Exception; it reports an interruption as a success without a result.
            in_flight = sys.exc_info()[1]
            cause = error or (in_flight if isinstance(in_flight, KeyboardInterrupt) else None)
            if cause is None:
                note.detail = _detail(result)
                step.__exit__(None, None, None)
            else:
                step.__exit__(type(cause), cause, cause.__traceback__)

    return StepRecorder()


def _detail(result: Any) -> str:
    if detail := getattr(result, "step_detail", None):
        return str(detail)
    name = type(result).__name__
    return f"{name} of {len(result)}" if hasattr(result, "__len__") else name
