"""Values and errors of expressions, most of them at the edges of the language."""

import math
import sys
import threading
import time

sys.path.insert(0, "/app")

from expr import ExprError, evaluate

NAMES = {"x": 3, "y_1": -2, "half": 0.5, "ifx": 9, "zero": 0, "elsewhere": 4}
VALUES = {
    "1 + 2 * 3": 7,
    "(1 + 2) * 3": 9,
    "7 - 3 - 2": 2,
    "2 ** 3 ** 2": 512,
    "-2 ** 2": -4,
    "(-2) ** 2": 4,
    "2 ** -1": 0.5,
    "2 ** - - 2": 4,
    "2 ** -x ** 0": 0.5,
    "--3": 3,
    "-+-3": 3,
    "- 2 * 3": -6,
    "2 * -3": -6,
    "2--3": 5,
    "7 // 2": 3,
    "-7 // 2": -4,
    "-7 % 3": 2,
    "7 % -3": -2,
    "7.5 // 2": 3.0,
    "6 / 3": 2.0,
    "2 * 6 / 3 // 2 % 5": 2.0,
    "1_000 + 0x1F + 0b101 + 0xfF": 1291,
    ".5 + 2. + 1e3 + 1.5E-3": 1002.5015,
    "9" * 30 + " + 1": 10**30,
    "x + y_1 * half": 2.0,
    "1 < 2": 1,
    "1 < 2 < 3": 1,
    "1 < 3 < 2": 0,
    "3 > 2 >= 2 == 2 != 1": 1,
    "2 < 1 < 1 / 0": 0,
    "1 + 1 == 2": 1,
    "1 if x else 2": 1,
    "1 if zero else 2": 2,
    "1 / 0 if 0 else 5": 5,
    "5 if 1 else 1 / 0": 5,
    "1 if 0 else 2 if 0 else 3": 3,
    "1 if 1 else 2 if 1 else 3": 1,
    "(1 if 1 else 0) + 1": 2,
    "1 if 1 < 2 else 0": 1,
    "ifx + elsewhere": 13,
    "min(3)": 3,
    "max(1, 2, x)": 3,
    "min(1, -2 ** 2, 3) * 2": -8,
    "abs(-3) + abs(half)": 3.5,
    "round(2.567, 2)": 2.57,
    "round(2.5)": 2,
    "round(1234, -2)": 1200,
    "max(min(1, 2), min ( 3 , 4 ))": 3,
    "\t1\n+\n1 ": 2,
    "0 ** 0": 1,
    "2 ** 9_999 // 2 ** 9_998": 2,
    "0x10 ** 2": 256,
    "1 ** 10 ** 9": 1,
    "(-1) ** (10 ** 12 + 1)": -1,
    "0 ** 10 ** 12": 0,
}
ERRORS = {
    "": 0,
    "  ": 2,
    "1 +": 3,
    "(1": 2,
    "1)": 1,
    "1 2": 2,
    "* 2": 0,
    "1 + * 2": 4,
    "()": 1,
    "1 < > 2": 4,
    "1 = 2": 2,
    "1 ! 2": 2,
    "2 $ 3": 2,
    "1__0": 0,
    "1 + 1_": 4,
    "0x": 0,
    "0b12": 0,
    "1e": 0,
    "1 + 1e+": 4,
    "1.5.2": 0,
    "12abc": 0,
    ".": 0,
    "1_.5": 0,
    "unknown + 1": 0,
    "1 + X": 4,
    "x(1)": 0,
    "half (2)": 0,
    "3(4)": 1,
    "min": 0,
    "min + 1": 0,
    "min()": 0,
    "1 + abs(1, 2)": 4,
    "round(1, 2, 3)": 0,
    "max(1,)": 6,
    "max(1,,2)": 6,
    "max(1 2)": 6,
    "max(1": 5,
    "1 if 2": 6,
    "1 if": 4,
    "if": 0,
    "1 else 2": 2,
    "else + 1": 0,
    "1 / 0": 2,
    "1 + 2 // zero": 6,
    "5 % 0.0": 2,
    "0 ** -1": 2,
    "(-8) ** half": 5,
    "10.0 ** 400": 5,
    "1e308 * 10": 6,
    "1e308 + 1e308": 6,
    "2 ** 10_000": 2,
    "10 ** 10 ** 10": 3,
    "7 ** -(10 ** 10) + 9 ** 9 ** 9": 21,
    "10 ** 400 * 1.0": 10,
    "10 ** 400 / 3": 10,
    "1 +\u00a02": 3,
    "__import__('os')": (0, 11),
    "x.real": 1,
    "x[0]": 1,
    "'a'": 0,
    "1 and 2": 2,
    "lambda: 1": (0, 6),
    "1 # two": 2,
    "\u0663 + 1": 0,
}


def same(got, want):
    if isinstance(want, float) and not isinstance(got, bool):
        return isinstance(got, float) and math.isclose(got, want)
    return type(got) is type(want) and got == want


for text, want in VALUES.items():
    got = evaluate(text, NAMES)
    assert same(got, want), (text, got, want)

for text, position in ERRORS.items():
    began = time.monotonic()
    try:
        got = evaluate(text, NAMES)
    except ExprError as error:
        allowed = position if isinstance(position, tuple) else (position,)
        assert error.position in allowed, (text, error.position, position)
    else:
        raise AssertionError((text, got))
    assert time.monotonic() - began < 1, text
assert issubclass(ExprError, ValueError)
assert evaluate("1 + 1") == 2
assert evaluate("min(2, 1)", {"min": 5}) == 1

DEEP = 5000
deep = [
    ("(" * DEEP + "7" + ")" * DEEP, 7),
    ("-" * DEEP + "7", 7),
    ("1 ** " * DEEP + "2", 1),
    ("abs(" * DEEP + "-7" + ")" * DEEP, 7),
    ("1 if 0 else " * DEEP + "3", 3),
    ("(1 + " * DEEP + "0" + ")" * DEEP, DEEP),
]
told = []


def work():
    for text, want in deep:
        told.append(evaluate(text) == want)
    try:
        evaluate("(" * DEEP)
    except ExprError as error:
        told.append(error.position == DEEP)


threading.stack_size(512 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join(20)
assert told == [True] * (len(deep) + 1), told
print("ok")
