"""Orders: several items at once, or none."""

from .units import grams


def fulfil(store, order):
    """Take all of `order` (item -> quantity as text) from the store, or nothing at all: then
    ValueError names the missing items in order, with commas between them."""
    missing = []
    for item, quantity in order.items():
        try:
            store.take(item, grams(quantity))
        except ValueError:
            missing.append(item)
    if missing:
        raise ValueError("missing: " + ",".join(missing))
