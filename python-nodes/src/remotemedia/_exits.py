"""How a worker process ends that was not asked to."""

EXIT_SYSTEM = 1
"""The system does not let this worker join."""
EXIT_USAGE = 2
"""The command line is wrong, or a module has no nodes."""
EXIT_REFUSED = 3
"""The gateway refused this worker."""
EXIT_SETUP = 4
"""A module or the setup of a node raised."""
EXIT_VERSION = 5
"""The gateway is of another version."""
