from collections.abc import Callable, Sequence
from typing import Any, final

from typing_extensions import Buffer

from .data import Data

@final
class Block(Buffer):
    def __len__(self) -> int: ...

@final
class Lent(Buffer):
    def __len__(self) -> int: ...

@final
class Context:
    def loan(self, bytes: int) -> Lent: ...

class VersionError(RuntimeError):
    """Gateway and worker are of versions that do not understand each other."""

@final
class Worker:
    def __init__(
        self,
        *,
        runtime_dir: str,
        name: str,
        threads: int,
        drain: float,
        step: str,
    ) -> None: ...
    def step(self, step: str) -> None: ...
    def offer(self, infos: Sequence[str]) -> None: ...
    def ready(self, nodes: Sequence[tuple[str, Callable[..., Any]]]) -> None: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...
    def is_stopping(self) -> bool: ...

def log_to_stderr(filter: str, json: bool) -> None: ...
def end_with(parent: int) -> None: ...
def default_runtime_dir(of_user: str | None) -> str: ...

@final
class Trial:
    def __init__(self, info: str, factory: Callable[..., Any], params: str) -> None: ...
    def process(
        self,
        inputs: Sequence[tuple[str, Data | str]],
        sequence: int,
        timestamp_us: int | None,
        metadata: dict[str, str],
    ) -> list[tuple[Data, dict[str, str], int | None]]: ...
    def flush(self) -> list[tuple[Data, dict[str, str], int | None]]: ...
