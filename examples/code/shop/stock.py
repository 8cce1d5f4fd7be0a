"""How many of each article are there."""


class Stock:
    def __init__(self, counts=None):
        self.counts = dict(counts or {})

    def take(self, article, count=1):
        """Take some out. Raises ValueError, and takes none, if there are too few."""
        self.counts[article] = self.counts.get(article, 0) - count
        if self.counts[article] < 0:
            raise ValueError(f"only {self.counts[article] + count} of {article}, not {count}")

    def missing(self, at_least):
        """Articles of which there are too few, in order of their names."""
        return [name for name, count in self.counts.items() if count <= at_least]
