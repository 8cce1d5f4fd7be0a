"""What the lines of an order cost, and the tax on it. All amounts are whole cents."""

from decimal import ROUND_HALF_UP, Decimal

RATES = {"DE": Decimal("0.19"), "FR": Decimal("0.20"), "CH": Decimal("0.081"), "US": Decimal(0)}
#: From this quantity on, so many percent are paid.
PERCENT = ((100, 80), (10, 90))


def _whole(value):
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))


def line_cents(line):
    quantity = line.get("quantity", 1)
    percent = next((percent for least, percent in PERCENT if quantity >= least), 100)
    return _whole(Decimal(str(line["price"])) * quantity * percent)


def subtotal_cents(lines):
    return sum(line_cents(line) for line in lines)


def tax_cents(subtotal, country):
    return _whole(subtotal * RATES[country])
