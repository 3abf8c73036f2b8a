"""Nodes for RemoteMedia pipelines, written in Python.

A node is a class with typed constructor parameters and a ``process`` method. ``python -m remotemedia.worker module``
runs the nodes of a module in a process of their own.
"""

from .data import (
    Audio,
    Binary,
    Control,
    Data,
    EncodedVideo,
    File,
    Json,
    Numpy,
    Tensor,
    Text,
    Video,
)
from .node import Alias, Context, Node, Output, Range

__all__ = [
    "Alias",
    "Audio",
    "Binary",
    "Context",
    "Control",
    "Data",
    "EncodedVideo",
    "File",
    "Json",
    "Node",
    "Numpy",
    "Output",
    "Range",
    "Tensor",
    "Text",
    "Video",
]
