"""What the pages show does what they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).parents[2] / "docs" / "python-nodes.md"


def test_the_code_of_the_page_runs_and_passes_its_own_test() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    module = ModuleType("gain")
    sys.modules[module.__name__] = module
    exec(compile("\n".join(blocks), str(PAGE), "exec"), module.__dict__)
    module.test_gain_doubles()
