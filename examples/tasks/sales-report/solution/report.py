import csv
import sys
from decimal import Decimal, InvalidOperation

units, revenue, skipped = {}, {}, 0
with open(sys.argv[1], newline="") as file:
    for row in csv.DictReader(file):
        region = (row["region"] or "").strip().lower()
        try:
            sold, price = int(row["units"].strip()), Decimal(row["price"].strip())
        except (ValueError, InvalidOperation, AttributeError):
            region = ""
        if not region:
            skipped += 1
            continue
        units[region] = units.get(region, 0) + sold
        revenue[region] = revenue.get(region, Decimal(0)) + sold * price
for region in sorted(units, key=lambda name: (-revenue[name], name)):
    print(f"{region} {units[region]} {revenue[region]:.2f}")
print(f"skipped {skipped}")
