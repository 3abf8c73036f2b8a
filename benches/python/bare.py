"""A worker that forwards without the SDK: what the native module receives is what it is given to send."""

import argparse
import json
import signal
import threading
from typing import Any

from remotemedia import _native

INFO = {
    "name": "BarePass",
    "aliases": [],
    "summary": "",
    "accepts": [],
    "ports": [],
    "produces": [],
    "parameters": [],
    "repeatable": True,
}


class BarePass:
    """As little as the native module can call."""

    def process(self, inputs: dict[str, Any], sequence: int, timestamp_us: int | None, metadata: dict[str, str]) -> Any:
        return inputs[""]

    def flush(self) -> None:
        return None

    def close(self) -> None:
        return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime-dir", required=True)
    parser.add_argument("--name", required=True)
    options = parser.parse_args()
    worker = _native.Worker(
        runtime_dir=options.runtime_dir,
        name=options.name,
        threads=4,
        drain=0.0,
        step="starting",
    )
    worker.ready([(json.dumps(INFO), lambda _params, _session, _node, _context: BarePass())])
    signal.signal(signal.SIGTERM, lambda _number, _frame: worker.stop())
    engine = threading.Thread(target=worker.run, name="worker")
    engine.start()
    while engine.is_alive():
        engine.join(0.2)


if __name__ == "__main__":
    main()
