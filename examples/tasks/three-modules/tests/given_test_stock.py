import unittest

from stock.orders import fulfil
from stock.store import Store
from stock.units import grams


class Units(unittest.TestCase):
    def test_units(self):
        self.assertEqual(grams("2 kg"), 2000)
        self.assertEqual(grams("1.5kg"), 1500)
        self.assertEqual(grams("1 lb"), 454)

    def test_unknown(self):
        with self.assertRaises(ValueError):
            grams("3 stone")


class Stores(unittest.TestCase):
    def test_put_adds(self):
        store = Store()
        store.put("rice", 100)
        store.put("rice", 50)
        self.assertEqual(store.items(), {"rice": 150})

    def test_stores_are_apart(self):
        Store().put("rice", 1)
        self.assertEqual(Store().items(), {})

    def test_too_little(self):
        store = Store()
        store.put("rice", 100)
        with self.assertRaises(ValueError):
            store.take("rice", 101)
        self.assertEqual(store.items(), {"rice": 100})


class Orders(unittest.TestCase):
    def test_all_or_nothing(self):
        store = Store()
        store.put("rice", 1000)
        with self.assertRaisesRegex(ValueError, "salt"):
            fulfil(store, {"rice": "500 g", "salt": "1 g"})
        self.assertEqual(store.items(), {"rice": 1000})


if __name__ == "__main__":
    unittest.main()
