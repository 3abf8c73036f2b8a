"""Nodes that come with the SDK. Each has its own extra, and is imported only by who runs it."""
