"""Quantities with a unit."""

import re

FACTORS = {"g": 1, "kg": 1000, "lb": 454}


def grams(text):
    """`"2 kg"` or `"2kg"` as whole grams, rounded to the nearest; raises ValueError for another
    unit, or without a number."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(\w+)\s*", text)
    if not found or found[2] not in FACTORS:
        raise ValueError(f"{text!r} is no quantity")
    return round(float(found[1]) * FACTORS[found[2]])
