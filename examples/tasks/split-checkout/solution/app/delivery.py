"""What an order weighs, what its delivery costs, and how long it takes."""

ZONES = {"DE": 1, "FR": 2, "CH": 2, "US": 3}
#: Cents up to 500 g, up to 2 kg, and for each further kilogram begun.
CENTS = {1: (390, 590, 100), 2: (650, 950, 200), 3: (1200, 1900, 550)}
DAYS = {1: (1, 3), 2: (3, 6), 3: (6, 14)}
FREE_FROM = 5000


def weight_grams(lines):
    return sum(line.get("grams", 0) * line.get("quantity", 1) for line in lines)


def delivery_cents(weight, country, express=False, subtotal=0):
    zone = ZONES[country]
    light, heavy, more = CENTS[zone]
    cost = light if weight <= 500 else heavy + max(0, -(-(weight - 2000) // 1000)) * more
    if express:
        return cost * 2
    return 0 if zone == 1 and subtotal >= FREE_FROM else cost


def delivery_days(country, express=False):
    least, most = DAYS[ZONES[country]]
    return (1, max(1, most // 2)) if express else (least, most)
