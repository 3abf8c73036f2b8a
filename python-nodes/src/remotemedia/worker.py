"""Runs the nodes of Python modules for a gateway: ``python -m remotemedia.worker pkg.module[:Class …]``."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import signal
import sys
import threading
import types
from collections.abc import Sequence

from . import _native
from ._driver import factory
from ._spec import NodeDefinitionError, Spec, spec_of
from .node import Node

EXIT_USAGE = 2
"""The command line is wrong, or a module has no nodes."""
EXIT_REFUSED = 3
"""The gateway refused this worker."""
EXIT_SETUP = 4
"""A module or the setup of a node raised."""

_GRACE = 1.0
"""Seconds that the call a node is in may keep the process when it is asked to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """A whole worker process. Gives its exit code."""
    options = _parser().parse_args(arguments)
    sys.path.insert(0, os.getcwd())
    try:
        specs = [spec for target in options.target for spec in _load(target)]
        if not specs:
            raise NodeDefinitionError("no node classes found: a node is a subclass of remotemedia.Node")
    except NodeDefinitionError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    _native.log_to_stderr(options.log, options.log_format == "json")
    for spec in specs:
        spec.node.setup()
    worker = _native.Worker(
        runtime_dir=options.runtime_dir or _native.default_runtime_dir(os.environ.get("XDG_RUNTIME_DIR")),
        name=options.name or f"python-{os.getpid()}",
        threads=options.threads,
        nodes=[(spec.to_json(), factory(spec)) for spec in specs],
    )
    return _serve(worker)


def _serve(worker: _native.Worker) -> int:
    """Runs the engine on a thread, so that this one, the interpreter's first, hears signals."""
    ended = threading.Event()
    refused: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except RuntimeError as error:
            refused.append(error)
        finally:
            ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: worker.stop())
    thread = threading.Thread(target=run, name="worker", daemon=True)
    thread.start()
    asked = False
    while not ended.wait(0.2 if not asked else _GRACE):
        asked = asked or worker.is_stopping()
    if refused:
        print(f"error: {refused[0]}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


def _load(target: str) -> list[Spec]:
    """The node classes that ``pkg.module`` defines, or those that it names behind a colon."""
    name, _, classes = target.partition(":")
    module = importlib.import_module(name)
    if classes:
        found = [_class_of(module, wanted) for wanted in classes.split(",")]
    else:
        members = (member for _, member in inspect.getmembers(module, inspect.isclass))
        found = [member for member in members if issubclass(member, Node) and member.__module__ == module.__name__]
    return [spec_of(node) for node in found]


def _class_of(module: types.ModuleType, name: str) -> type[Node]:
    found = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, Node)):
        raise NodeDefinitionError(f"{module.__name__} has no node class '{name}'")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m remotemedia.worker",
        description="Run the nodes of Python modules in this process, for the gateway that serves in the runtime directory.",
    )
    parser.add_argument("target", nargs="+", metavar="MODULE[:CLASS,…]", help="a module, and which of its node classes; all by default")
    parser.add_argument("--runtime-dir", metavar="DIR", help="the gateway's runtime directory (default: as the gateway's)")
    parser.add_argument("--name", help="the worker's name in logs, errors and status (default: python-PID)")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="sessions that are worked on at a time; they share one interpreter lock (default: 4)")
    parser.add_argument("--log", default=os.environ.get("REMOTEMEDIA_LOG", "info"), metavar="FILTER", help="which log lines (default: info)")
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="how log lines look (default: text)")
    return parser


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A node that is in the midst of a call cannot be joined, and shall not keep the process.
    os._exit(code)
