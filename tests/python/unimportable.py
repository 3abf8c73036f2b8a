"""A module that is not written for this machine."""

import a_library_that_is_not_installed  # noqa: F401  # pyright: ignore
