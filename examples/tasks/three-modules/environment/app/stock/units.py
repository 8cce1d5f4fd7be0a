"""Quantities with a unit."""

FACTORS = {"g": 1, "kg": 1000, "lb": 454}


def grams(text):
    """`"2 kg"` or `"2kg"` as whole grams, rounded to the nearest; raises ValueError for another
    unit, or without a number."""
    number = text.rstrip("gkl b")
    unit = text[len(number) :].strip()
    return int(float(number) * FACTORS[unit])
