"""Receipts for orders."""

import delivery
import pricing


def receipt(order):
    """`order`: {"country": "DE", "express": False, "lines": [{"item": …, "price": 1.99,
    "quantity": 3, "grams": 250}]}. The receipt: items, subtotal, tax, delivery, total, days."""
    lines, country, express = order["lines"], order["country"], bool(order.get("express"))
    subtotal = pricing.subtotal_cents(lines)
    tax = pricing.tax_cents(subtotal, country)
    weight = delivery.weight_grams(lines)
    cost = delivery.delivery_cents(weight, country, express, subtotal) if lines else 0
    return {
        "lines": [{"item": line["item"], "cents": pricing.line_cents(line)} for line in lines],
        "average_grams": weight // len(lines) if lines else 0,
        "subtotal": subtotal,
        "tax": tax,
        "delivery": cost,
        "total": subtotal + tax + cost,
        "days": delivery.delivery_days(country, express),
    }
