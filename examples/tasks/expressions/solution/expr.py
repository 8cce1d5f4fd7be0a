"""Arithmetic expressions. Parsing and evaluation are generators that a loop drives, so that no
depth of an expression reaches Python's stack."""

import math
import operator
import re

NUMBER = re.compile(r"0x[0-9a-fA-F]+|0b[01]+|(?:[0-9]+(?:_[0-9]+)*)?\.?[0-9]*(?:[eE][+-]?[0-9]+)?")
#: All that could have been meant as part of a number.
DIGITS = re.compile(r"[0-9A-Za-z_.]*")
DECIMAL = re.compile(r"[0-9A-Za-z_.]*(?:(?<=[eE])[+-][0-9A-Za-z_.]*)?")
TOKEN = re.compile(r"\*\*|//|<=|>=|==|!=|[-+*/%<>(),]")
COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
FUNCTIONS = {"min": (1, None), "max": (1, None), "abs": (1, 1), "round": (1, 2)}
CALLS = {"min": lambda *n: min(n), "max": lambda *n: max(n), "abs": abs, "round": round}
BITS = 10_000


class ExprError(ValueError):
    def __init__(self, message, position):
        super().__init__(f"{message} at {position}")
        self.position = position


def tokens(text):
    """(kind, value, position)"""
    at = 0
    while at < len(text):
        char = text[at]
        if char in " \t\n":
            at += 1
        elif char in "0123456789" or (char == "." and text[at + 1 : at + 2] in tuple("0123456789")):
            form = DIGITS if text[at : at + 2].lower() in ("0x", "0b") else DECIMAL
            end = form.match(text, at).end()
            yield "number", number(text[at:end], at), at
            at = end
        elif char.isascii() and (char.isalpha() or char == "_"):
            end = re.compile(r"[A-Za-z0-9_]*").match(text, at).end()
            word = text[at:end]
            yield ("op" if word in ("if", "else") else "name"), word, at
            at = end
        elif found := TOKEN.match(text, at):
            yield "op", found[0], at
            at = found.end()
        else:
            raise ExprError(f"unexpected {char!r}", at)
    yield "end", "", len(text)


def number(text, at):
    if not NUMBER.fullmatch(text) or text == ".":
        raise ExprError(f"{text!r} is no number", at)
    if text[:2] in ("0x", "0b"):
        return int(text, 0)
    plain = text.replace("_", "")
    return int(plain) if plain.isdigit() else float(plain)


def drive(work):
    """Run a generator that yields generators, each standing for its result."""
    stack, value = [work], None
    while stack:
        try:
            stack.append(stack[-1].send(value))
            value = None
        except StopIteration as done:
            stack.pop()
            value = done.value
    return value


class Parser:
    def __init__(self, text, names):
        self.tokens = list(tokens(text))
        self.names = names
        self.at = 0

    def is_op(self, *values):
        kind, value, _ = self.tokens[self.at]
        return kind == "op" and value in values

    def take(self):
        token = self.tokens[self.at]
        self.at += 1
        return token

    def expect(self, value):
        if not self.is_op(value):
            raise ExprError(f"expected {value!r}", self.tokens[self.at][2])
        return self.take()

    def whole(self):
        found = yield self.choice()
        if self.tokens[self.at][0] != "end":
            raise ExprError("unexpected text", self.tokens[self.at][2])
        return found

    def choice(self):
        value = yield self.comparison()
        if not self.is_op("if"):
            return value
        self.take()
        condition = yield self.comparison()
        self.expect("else")
        other = yield self.choice()
        return ("if", condition, value, other)

    def comparison(self):
        links = [(yield self.binary(0))]
        while self.is_op(*COMPARE):
            links.append(self.take()[1])
            links.append((yield self.binary(0)))
        return links[0] if len(links) == 1 else ("compare", links)

    def binary(self, level):
        operators = (("+", "-"), ("*", "/", "//", "%"))[level]
        left = yield (self.binary(1) if level == 0 else self.signed())
        while self.is_op(*operators):
            _, op, position = self.take()
            right = yield (self.binary(1) if level == 0 else self.signed())
            left = ("binary", op, position, left, right)
        return left

    def signed(self):
        signs = []
        while self.is_op("-", "+"):
            signs.append(self.take()[1])
        value = yield self.power()
        return ("negate", value) if signs.count("-") % 2 else value

    def power(self):
        left = yield self.operand()
        if not self.is_op("**"):
            return left
        _, op, position = self.take()
        right = yield self.signed()
        return ("binary", op, position, left, right)

    def operand(self):
        kind, value, position = self.tokens[self.at]
        if kind == "number":
            self.take()
            return ("number", value)
        if kind == "name":
            self.take()
            return (yield self.named(value, position))
        if self.is_op("("):
            self.take()
            found = yield self.choice()
            self.expect(")")
            return found
        raise ExprError("expected an operand", position)

    def named(self, name, position):
        if not self.is_op("("):
            if name in FUNCTIONS or name not in self.names:
                raise ExprError(f"unknown name {name}", position)
            return ("number", self.names[name])
        if name not in FUNCTIONS:
            raise ExprError(f"{name} is no function", position)
        self.take()
        given = []
        if not self.is_op(")"):
            given.append((yield self.choice()))
            while self.is_op(","):
                self.take()
                given.append((yield self.choice()))
        self.expect(")")
        least, most = FUNCTIONS[name]
        if len(given) < least or (most and len(given) > most):
            raise ExprError(f"{name} takes other arguments", position)
        return ("call", name, position, given)


def compute(tree):
    match tree:
        case ("number", value):
            return value
        case ("negate", inner):
            return -(yield compute(inner))
        case ("binary", op, position, left, right):
            first = yield compute(left)
            return apply(BINARY[op], op, position, first, (yield compute(right)))
        case ("compare", links):
            left = yield compute(links[0])
            for op, right in zip(links[1::2], links[2::2]):
                value = yield compute(right)
                if not COMPARE[op](left, value):
                    return 0
                left = value
            return 1
        case ("if", condition, value, other):
            return (yield compute(value if (yield compute(condition)) else other))
        case ("call", name, position, given):
            values = []
            for each in given:
                values.append((yield compute(each)))
            return apply(CALLS[name], name, position, *values)


def apply(function, op, position, *values):
    if op == "**" and all(isinstance(value, int) for value in values):
        base, exponent = values
        if abs(base) > 1 and exponent > 0:
            least = (abs(base).bit_length() - 1) * exponent + 1
            if least > BITS or (base**exponent).bit_length() > BITS:
                raise ExprError("too large", position)
    try:
        result = function(*values)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ExprError(str(error), position) from None
    if isinstance(result, complex) or (isinstance(result, float) and not math.isfinite(result)):
        raise ExprError("no real number", position)
    return result


def evaluate(text, names=None):
    return drive(compute(drive(Parser(text, names or {}).whole())))
