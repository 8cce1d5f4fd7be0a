"""What is in stock."""


class Store:
    """Grams of each item. Nothing is ever below zero."""

    def __init__(self, grams={}):
        self._grams = grams

    def put(self, item, grams):
        """Add to an item."""
        self._grams[item] = grams

    def take(self, item, grams):
        """Take from an item; KeyError if there is none of it, ValueError if there is too little,
        and then nothing is taken. An item of which nothing is left is gone."""
        self._grams[item] -= grams
        if self._grams[item] < 0:
            raise ValueError(f"too little {item}")

    def items(self):
        """A copy: items and grams in order of the names."""
        return self._grams
