"""What nodes want beside the SDK: packages that only who runs them installs."""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtraError(ImportError):
    """A node's extra is not installed."""

    def __init__(self, *, node: str, module: str, remedy: str) -> None:
        super().__init__(f"{node} wants the module '{module}', which is not installed: {remedy}", name=module)


def load(module: str, *, node: str, extra: str) -> Any:
    """A module of a node's extra, of which nobody tells types; raises `MissingExtraError` with how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A package of the extra may itself miss one.
        raise MissingExtraError(
            node=node, module=error.name or module, remedy=f"pip install './python-nodes[{extra}]'"
        ) from error
