import unittest

from prices import split, total
from stock import Stock


class Prices(unittest.TestCase):
    def test_a_discount_is_rounded_to_the_nearest_cent(self):
        self.assertEqual(total([999], 15), 849)
        self.assertEqual(total([101], 50), 51)

    def test_parts_add_up(self):
        self.assertEqual(split(100, 3), [34, 33, 33])


class StockTest(unittest.TestCase):
    def test_taking_too_many_takes_none(self):
        stock = Stock({"cup": 2})
        with self.assertRaises(ValueError):
            stock.take("cup", 3)
        self.assertEqual(stock.counts, {"cup": 2})

    def test_missing(self):
        stock = Stock({"pot": 1, "cup": 2, "bowl": 0})
        self.assertEqual(stock.missing(2), ["bowl", "pot"])


if __name__ == "__main__":
    unittest.main()
