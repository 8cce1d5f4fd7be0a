"""Receipts for orders."""


def receipt(order):
    """`order`: {"country": "DE", "express": False, "lines": [{"item": …, "price": 1.99,
    "quantity": 3, "grams": 250}]}. The receipt: items, subtotal, tax, delivery, total, days."""
    out = {"lines": []}
    total = 0.0
    grams = 0
    for line in order["lines"]:
        line["quantity"] = line.get("quantity", 1)
        price = float(line["price"])
        amount = price * line["quantity"]
        if line["quantity"] >= 100:
            amount = amount * 0.80
        elif line["quantity"] >= 10:
            amount = amount * 0.90
        amount = round(amount, 2)
        out["lines"].append({"item": line["item"], "cents": int(round(amount * 100))})
        total += amount
        grams += line.get("grams", 0) * line["quantity"]
    average = grams / len(order["lines"])
    country = order["country"]
    if country == "DE":
        rate = 0.19
    elif country == "FR":
        rate = 0.20
    elif country == "CH":
        rate = 0.081
    elif country == "US":
        rate = 0
    else:
        raise KeyError(country)
    tax = round(total * rate, 2)
    if country == "DE":
        zone = 1
    elif country in ("FR", "CH"):
        zone = 2
    else:
        zone = 3
    if grams <= 500:
        delivery = {1: 3.90, 2: 6.50, 3: 12.00}[zone]
    elif grams <= 2000:
        delivery = {1: 5.90, 2: 9.50, 3: 19.00}[zone]
    else:
        extra = (grams - 2000 + 999) // 1000
        delivery = {1: 5.90, 2: 9.50, 3: 19.00}[zone] + extra * {1: 1.00, 2: 2.00, 3: 5.50}[zone]
    if order.get("express"):
        delivery = delivery * 2
    elif total >= 50 and zone == 1:
        delivery = 0
    days = {1: (1, 3), 2: (3, 6), 3: (6, 14)}[zone]
    if order.get("express"):
        days = (1, max(1, days[1] // 2))
    out["average_grams"] = int(average)
    out["subtotal"] = int(round(total * 100))
    out["tax"] = int(round(tax * 100))
    out["delivery"] = int(round(delivery * 100))
    out["total"] = out["subtotal"] + out["tax"] + out["delivery"]
    out["days"] = days
    return out
