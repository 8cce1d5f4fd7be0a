"""Orders: several items at once, or none."""

from .units import grams


def fulfil(store, order):
    """Take all of `order` (item -> quantity as text) from the store, or nothing at all: then
    ValueError names the missing items in order, with commas between them."""
    wanted = {item: grams(quantity) for item, quantity in order.items()}
    here = store.items()
    missing = [item for item, amount in wanted.items() if here.get(item, 0) < amount]
    if missing:
        raise ValueError("missing: " + ",".join(missing))
    for item, amount in wanted.items():
        store.take(item, amount)
