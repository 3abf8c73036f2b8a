from collections.abc import Buffer, Callable, Sequence
from typing import Any, final

@final
class Block(Buffer):
    def __len__(self) -> int: ...

@final
class Lent(Buffer):
    def __len__(self) -> int: ...

@final
class Context:
    def loan(self, bytes: int) -> Lent: ...

@final
class Worker:
    def __init__(
        self,
        *,
        runtime_dir: str,
        name: str,
        threads: int,
        nodes: Sequence[tuple[str, Callable[..., Any]]],
    ) -> None: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...
    def is_stopping(self) -> bool: ...

def log_to_stderr(filter: str, json: bool) -> None: ...
def default_runtime_dir(of_user: str | None) -> str: ...
