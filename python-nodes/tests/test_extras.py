"""What nodes want is told, wanted late, and written on their pages."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from remotemedia import Node
from remotemedia._spec import spec_of
from remotemedia.nodes.extras import MissingExtraError
from remotemedia.nodes.face_detector import FaceDetector
from remotemedia.nodes.silero_vad import SileroVAD
from remotemedia.nodes.speech_to_text import SpeechToText
from remotemedia.nodes.text_embedding import TextEmbedding
from remotemedia.nodes.text_to_speech import TextToSpeech

ROOT = Path(__file__).parents[2]
NODES: tuple[type[Node], ...] = (FaceDetector, SileroVAD, SpeechToText, TextEmbedding, TextToSpeech)
EXTRAS: list[tuple[type[Node], str, str]] = [
    (FaceDetector, "cv2", "face-detector"),
    (SileroVAD, "onnxruntime", "silero-vad"),
    (SpeechToText, "pocketsphinx", "speech-to-text"),
    (TextEmbedding, "tokenizers", "text-embedding"),
]


@pytest.mark.parametrize(("node", "module", "extra"), EXTRAS)
def test_a_missing_extra_is_told_with_the_line_that_installs_it(
    node: type[Node], module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So Python itself says that it is not there.
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as raised:
        node.setup()
    assert raised.value.name == module
    assert str(raised.value).endswith(f"pip install './python-nodes[{extra}]'")
    assert f"\n{extra} = [" in (ROOT / "python-nodes" / "pyproject.toml").read_text()


def test_nodes_import_nothing_of_their_extras() -> None:
    modules = [node.__module__ for node in NODES]
    heavy = {module for _, module, _ in EXTRAS} | {"safetensors", "torch", "silero_vad"}
    loads = f"import sys, {', '.join(modules)}; print(*sorted({heavy!r} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == ""


@pytest.mark.parametrize("node", NODES)
def test_the_page_of_a_node_says_what_the_node_says(node: type[Node]) -> None:
    spec = spec_of(node)
    name = importlib.import_module(node.__module__).__name__.rpartition(".")[2]
    page = (ROOT / "docs" / "nodes" / f"{name.replace('_', '-')}.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*?) \| (.*?) \|", page, re.MULTILINE)
    told = {names: default for names, _, default in rows}
    names = [", ".join(f"`{name}`" for name in (parameter["name"], *parameter["aliases"])) for parameter in spec.parameters]
    absent = dict(zip(names, (parameter["absent"] for parameter in spec.parameters), strict=True))
    for parameter, value in absent.items():
        expected = f"`{value['Default']}`" if isinstance(value, dict) else "none"
        assert told.get(parameter) == expected, parameter
    assert set(told) <= {*absent}
    assert all(f"`{alias}`" in page for alias in node.aliases)
