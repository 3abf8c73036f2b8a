"""Runs the nodes of Python modules for a gateway: ``python -m remotemedia.worker pkg.module[:Class …]``."""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.util
import inspect
import os
import re
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

from . import _native
from ._driver import factory
from ._exits import EXIT_REFUSED, EXIT_SETUP, EXIT_SYSTEM, EXIT_USAGE, EXIT_VERSION
from ._spec import NodeDefinitionError, Spec, spec_of
from ._supervisor import Supervisor
from ._watch import Watch
from .node import Node

_GRACE = 1.0
"""Seconds that the call a node is in may keep the process when it is to end."""
_TICK = 0.2
"""Seconds between two looks at whether the engine has ended."""
_RELOAD_DRAIN = 2.0
"""Seconds that sessions may go on after a change of the source."""


class Options(Protocol):
    """The command line."""

    target: list[str]
    runtime_dir: str | None
    name: str | None
    replicas: int
    reload: bool
    threads: int
    drain_s: float
    log: str
    log_format: str
    parent: int | None


class _Stopped(BaseException):
    """The worker was asked to stop while it was loading."""


def main(arguments: Sequence[str] | None = None) -> int:
    """A whole worker process, or the supervisor of several. Gives its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = cast(Options, _parser().parse_args(words))
    # What a crash in a C library leaves as last words: the Python lines that it was called from.
    faulthandler.enable(all_threads=False)
    sys.path.insert(0, os.getcwd())
    if options.replicas > 1 or options.reload:
        return _supervise(options, words)
    if options.parent is not None:
        _native.end_with(options.parent)
    _native.log_to_stderr(options.log, options.log_format == "json")
    return _Process(options).run()


class _Process:
    """A worker: the engine on a thread of its own, and the interpreter's first thread, which loads and hears signals."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loading = True
        self._stops = 0
        self._ended = threading.Event()
        self._refused: RuntimeError | OSError | None = None
        self._worker = _native.Worker(
            runtime_dir=options.runtime_dir or _native.default_runtime_dir(os.environ.get("XDG_RUNTIME_DIR")),
            name=options.name or f"python-{os.getpid()}",
            threads=options.threads,
            drain=options.drain_s,
            step=f"importing {options.target[0]}",
        )

    def run(self) -> int:
        """Until it is asked to stop, refused, or cannot load."""
        engine = threading.Thread(target=self._serve, name="worker", daemon=True)
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            engine.start()
            self._load()
            self._loading = False
        except _Stopped:
            if engine.ident is None:
                return 0
        except NodeDefinitionError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USAGE
        except Exception:
            traceback.print_exc()
            return EXIT_SETUP
        self._until_ended()
        if self._refused:
            print(f"error: {self._refused}", file=sys.stderr)
            match self._refused:
                case OSError():
                    return EXIT_SYSTEM
                case _native.VersionError():
                    return EXIT_VERSION
                case _:
                    return EXIT_REFUSED
        return 0

    def _load(self) -> None:
        specs: list[Spec] = []
        for target in self._options.target:
            self._worker.step(f"importing {target}")
            specs.extend(_import(target))
        if not specs:
            raise NodeDefinitionError("no node classes found: a node is a subclass of remotemedia.Node")
        self._worker.offer([spec.to_json() for spec in specs])
        for spec in specs:
            self._worker.step(f"setting up {spec.node.__name__}")
            spec.node.setup()
        self._worker.ready([(spec.to_json(), factory(spec)) for spec in specs])

    def _serve(self) -> None:
        try:
            self._worker.run()
        except (RuntimeError, OSError) as error:
            self._refused = error
        finally:
            self._ended.set()
            if self._loading and self._refused:
                # What loads has nobody to load for.
                os.kill(os.getpid(), signal.SIGTERM)

    def _on_signal(self, number: int, _frame: types.FrameType | None) -> None:
        self._stops += 1
        self._worker.stop()
        if self._loading:
            self._loading = False
            raise _Stopped

    def _until_ended(self) -> None:
        """A node that is in the midst of a call keeps the process no longer than it may."""
        deadlines: list[float] = []
        while not self._ended.wait(_TICK):
            if len(deadlines) < min(self._stops, 2):
                patience = _GRACE if self._stops > 1 else self._options.drain_s + _GRACE
                deadlines.append(time.monotonic() + patience)
            if deadlines and time.monotonic() > min(deadlines):
                return


def _supervise(options: Options, words: Sequence[str]) -> int:
    """Has processes of their own do the work: one for each replica."""
    name = options.name or f"python-{os.getpid()}"
    names = [f"{name}-{number}" for number in range(1, options.replicas + 1)] if options.replicas > 1 else [name]
    shared = [sys.executable, "-m", "remotemedia.worker", *words, "--replicas=1", "--no-reload", f"--parent={os.getpid()}"]
    if options.reload:
        shared.append(f"--drain-s={min(options.drain_s, _RELOAD_DRAIN)}")
    watch = Watch([os.getcwd(), *_homes(options.target)]) if options.reload else None
    return Supervisor([[*shared, f"--name={name}"] for name in names], drain=options.drain_s, watch=watch).run()


def _homes(targets: Sequence[str]) -> Iterator[str]:
    """The packages of these modules, or their files, as far as that can be told without running any of them."""
    for target in targets:
        package = target.partition(":")[0].partition(".")[0]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            yield from spec.submodule_search_locations
        elif spec is not None and spec.origin:
            yield spec.origin


def _import(target: str) -> list[Spec]:
    """The node classes that ``pkg.module`` defines, or those that it names behind a colon."""
    name, _, classes = target.partition(":")
    with _blamed_if_missing(name):
        module = importlib.import_module(name)
    if classes:
        found = [_class_of(module, wanted) for wanted in classes.split(",")]
    else:
        members = (member for _, member in inspect.getmembers(module, inspect.isclass))
        found = [member for member in members if issubclass(member, Node) and member.__module__ == module.__name__]
    return [spec_of(node) for node in found]


@contextmanager
def _blamed_if_missing(name: str) -> Generator[None, None, None]:
    """A module that is not there is a mistake of the command line; one that it imports is not."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise NodeDefinitionError(
            f"there is no module '{error.name}': it is looked for in {os.getcwd()} and where Python finds its packages"
        ) from None


def _class_of(module: types.ModuleType, name: str) -> type[Node]:
    found = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, Node)):
        raise NodeDefinitionError(f"{module.__name__} has no node class '{name}'")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m remotemedia.worker",
        description="Run the nodes of Python modules in this process, for the gateway that serves in the runtime directory.",
        epilog="Exit codes: 0 asked to stop by SIGTERM or SIGINT, 1 the system did not let it join, 2 the command line is wrong or a module "
        "has no nodes, 3 the gateway refused this worker, 4 a module or the setup of a node raised. Standard error says why.",
    )
    parser.add_argument("target", nargs="+", metavar="MODULE[:CLASS,…]", help="a module, and which of its node classes; all by default")
    parser.add_argument("--runtime-dir", metavar="DIR", help="the gateway's runtime directory (default: as the gateway's)")
    parser.add_argument("--name", type=_name, help="the worker's name in logs, errors and status (default: python-PID); replicas are NAME-1, NAME-2 …")
    parser.add_argument("--replicas", type=_count(256), default=1, metavar="N", help="processes that run these nodes, each with its own interpreter; one that dies is started again (default: 1, which nobody starts again)")
    parser.add_argument("--reload", action=argparse.BooleanOptionalAction, default=False, help="start anew when a source file changes: for development")
    parser.add_argument("--threads", type=_count(1024), default=4, metavar="N", help="sessions that are worked on at a time; they share one interpreter lock (default: 4)")
    parser.add_argument("--drain-s", type=_seconds, default=10.0, metavar="S", help="how long sessions may go on after SIGTERM or SIGINT; there are no new ones then, and a second signal ends it at once (default: 10)")
    parser.add_argument("--log", default=os.environ.get("REMOTEMEDIA_LOG", "info"), metavar="FILTER", help="which log lines (default: info)")
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="how log lines look (default: text)")
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    return parser


def _count(most: int) -> Callable[[str], int]:
    """Reads a whole number from 1."""

    def read(word: str) -> int:
        if not (word.isdecimal() and 1 <= int(word) <= most):
            raise argparse.ArgumentTypeError(f"'{word}' is no number from 1 to {most}")
        return int(word)

    return read


def _seconds(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"'{word}' is no number of seconds from 0 to 3600")
    return seconds


def _name(word: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,60}", word):
        raise argparse.ArgumentTypeError(f"'{word}' is no name: use 1 to 60 letters, digits, '-', '_' or '.'")
    return word


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A node that is in the midst of a call cannot be joined, and shall not keep the process.
    os._exit(code)
