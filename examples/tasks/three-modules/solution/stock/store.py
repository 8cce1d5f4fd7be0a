"""What is in stock."""


class Store:
    """Grams of each item. Nothing is ever below zero."""

    def __init__(self, grams=None):
        self._grams = dict(grams or {})

    def put(self, item, grams):
        """Add to an item."""
        self._grams[item] = self._grams.get(item, 0) + grams

    def take(self, item, grams):
        """Take from an item; KeyError if there is none of it, ValueError if there is too little,
        and then nothing is taken. An item of which nothing is left is gone."""
        left = self._grams[item] - grams
        if left < 0:
            raise ValueError(f"too little {item}")
        if left:
            self._grams[item] = left
        else:
            del self._grams[item]

    def items(self):
        """A copy: items and grams in order of the names."""
        return dict(sorted(self._grams.items()))
