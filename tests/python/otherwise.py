"""Offers a type that another module offers too, and means something else by it."""

from remotemedia import Node, Text


class Gain(Node):
    """Makes a text louder."""

    def __init__(self, *, exclamations: int = 1) -> None:
        self.exclamations = exclamations

    def process(self, text: Text) -> str:
        return text.text.upper() + "!" * self.exclamations
