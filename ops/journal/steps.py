"""Hamilton's nodes as steps of a run; only calling `step_recorder` imports Hamilton."""

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ops.host.logs import step_log
from ops.journal.recorder import Recorder
from ops.journal.run import Step

if TYPE_CHECKING:
    from hamilton.lifecycle import NodeExecutionHook


def step_recorder(recorder: Recorder) -> "NodeExecutionHook":
    """A Hamilton adapter that writes every executed node as a step, whether it succeeds or not.

    A step's detail is the kind of result (its type, and its length where it has one) or the error; never a
    value that a node was given or returned.
    """
    from hamilton.lifecycle import NodeExecutionHook

    class StepRecorder(NodeExecutionHook):
        def __init__(self) -> None:
            self._begun: dict[tuple[str | None, str], tuple[Step, AbstractContextManager[None]]] = {}

        def run_before_node_execution(self, *, node_name: str, task_id: str | None, **_: Any) -> None:
            stamp = step_log(node_name)
            step = recorder.journal.begin_step(recorder.run.id, node_name)
            self._begun[task_id, node_name] = step, stamp
            stamp.__enter__()

        def run_after_node_execution(
            self,
            *,
            node_name: str,
            task_id: str | None,
            result: Any,
            error: Exception | None,
            **_: Any,
        ) -> None:
            step, stamp = self._begun.pop((task_id, node_name))
            stamp.__exit__(None, None, None)
            # Hamilton knows only of an Exception; an interruption it takes for a success without a result.
            in_flight = sys.exc_info()[1]
            cause = error or (in_flight if isinstance(in_flight, KeyboardInterrupt) else None)
            recorder.end_step(step, "" if cause else _kind(result), cause)

    return StepRecorder()


def _kind(result: Any) -> str:
    name = type(result).__name__
    return f"{name} of {len(result)}" if hasattr(result, "__len__") else name
