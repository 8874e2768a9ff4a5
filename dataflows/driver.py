"""Runs a dataflow: a module of functions, its inputs, and the node that is wanted."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

_TELLS_INPUTS = ("hamilton.driver", "hamilton.execution.graph_functions")


def execute(
    dataflow: ModuleType,
    wanted: str,
    inputs: Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    adapters: Sequence[Any] = (),
) -> Any:
    """Compute one node of a dataflow and return its value; values in `overrides` replace nodes.

    Adapters are Hamilton lifecycle hooks; `ops` records steps with one. Errors of a node are raised unchanged.
    """
    built = build(dataflow, adapters)
    return built.execute([wanted], inputs=dict(inputs), overrides=dict(overrides or {}))[wanted]


def on_result(node: str, call: Callable[[Any], None]) -> Any:
    """An adapter that calls `call` with a node's result as soon as it is known, while other nodes are still to run."""
    from hamilton.lifecycle import NodeExecutionHook

    class OnResult(NodeExecutionHook):
        def run_before_node_execution(self, **_: Any) -> None:
            """Hamilton requires it."""

        def run_after_node_execution(self, *, node_name: str, success: bool, result: Any, **_: Any) -> None:
            if success and node_name == node:
                call(result)

    return OnResult()


def build(dataflow: ModuleType, adapters: Sequence[Any] = ()) -> Any:
    """The Hamilton driver of a dataflow."""
    # Hamilton's plugins import pandas, polars and others at start-up; no dataflow here needs one.
    os.environ.setdefault("HAMILTON_AUTOLOAD_EXTENSIONS", "0")
    # Hamilton logs every input of a failed node; the raised error is enough.
    for name in _TELLS_INPUTS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from hamilton import base, driver

    return driver.Builder().with_modules(dataflow).with_adapters(base.DefaultAdapter(), *adapters).build()
