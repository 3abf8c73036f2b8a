#!/usr/bin/env python3
"""Resamples 64-bit floats from standard input to standard output with SoX's resampler: what AudioResample is measured by.

usage: soxr_reference.py CACHE_DIRECTORY FROM_HZ TO_HZ

The packages are installed into the directory when they are not there, once: nothing else of the machine's Python is touched.
"""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("numpy==2.3.5", "soxr==1.0.0")


def main() -> None:
    cache, rates = Path(sys.argv[1]), [int(argument) for argument in sys.argv[2:4]]
    sys.path.insert(0, str(provide(cache)))
    import numpy
    import soxr

    signal = numpy.frombuffer(sys.stdin.buffer.read(), dtype="<f8")
    sys.stdout.buffer.write(soxr.resample(signal, *rates, quality="VHQ").astype("<f8").tobytes())


def provide(cache: Path) -> Path:
    """Installs beside, and then renames: a directory that has its name is complete. One process at a time."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = cache / "-".join([*PACKAGES, "python", version]).replace("==", "-")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not packages.is_dir():
            draft = packages.with_name("draft")
            shutil.rmtree(draft, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target", draft, *PACKAGES]
            subprocess.run(pip, check=True, timeout=300, stdout=sys.stderr)
            draft.rename(packages)
    return packages


if __name__ == "__main__":
    main()
