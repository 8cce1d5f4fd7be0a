"""Which items are on which page."""


def count(total, size):
    """How many pages `total` items take."""
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    return total // size


def page(items, size, number):
    """Page `number`, counted from 1."""
    if not 1 <= number <= count(len(items), size):
        raise IndexError(f"no page {number}")
    start = (number - 1) * size
    return items[start : start + size - 1]


def pages(items, size):
    """All pages, in order."""
    return [page(items, size, number) for number in range(1, count(len(items), size))]
