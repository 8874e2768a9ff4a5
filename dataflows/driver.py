"""Runs a dataflow: a module of functions, its inputs, and the node that is wanted."""

import logging
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

_TELLS_INPUTS = ("hamilton.driver", "hamilton.execution.graph_functions")


def execute(
    dataflow: ModuleType,
    wanted: str,
    inputs: Mapping[str, Any],
    *,
    given: Mapping[str, Any] | None = None,
    adapters: Sequence[Any] = (),
) -> Any:
    """Compute one node of a dataflow and return its value; nodes named in `given` are taken, not computed.

    Adapters are Hamilton lifecycle hooks; `ops` records steps with one. Errors of a node come out as they are.
    """
    built = build(dataflow, adapters)
    return built.execute([wanted], inputs=dict(inputs), overrides=dict(given or {}))[wanted]


def build(dataflow: ModuleType, adapters: Sequence[Any] = ()) -> Any:
    """The Hamilton driver of a dataflow."""
    # Hamilton's plugins import pandas, polars and others at start-up; no dataflow here needs one.
    os.environ.setdefault("HAMILTON_AUTOLOAD_EXTENSIONS", "0")
    # Its own accounts of a failed node print every input; the error itself comes out of here and is told once.
    for name in _TELLS_INPUTS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from hamilton import base, driver

    return driver.Builder().with_modules(dataflow).with_adapters(base.DefaultAdapter(), *adapters).build()
