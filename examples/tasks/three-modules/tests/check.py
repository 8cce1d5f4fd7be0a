"""The tests that were there, as they were, and what the docstrings promise beyond them."""

import subprocess
import sys
from pathlib import Path

given = Path("/tests/given_test_stock.py").read_text()
assert Path("/app/tests/test_stock.py").read_text() == given, "the tests were changed"
done = subprocess.run(
    ["python3", "-m", "unittest", "discover", "-s", "tests", "-t", "."],
    cwd="/app",
    capture_output=True,
    text=True,
    timeout=30,
)
assert done.returncode == 0, done.stderr
assert "Ran 6 tests" in done.stderr, done.stderr

sys.path.insert(0, "/app")
from stock.orders import fulfil  # noqa: E402
from stock.store import Store  # noqa: E402
from stock.units import grams  # noqa: E402


def raises(kind, call, *given):
    try:
        call(*given)
    except Exception as error:
        return type(error) is kind
    return False


assert grams("0.29 kg") == 290, grams("0.29 kg")
assert grams("12 g") == 12
assert grams(" 2.5 lb ") == 1135
for bad in ("kg", "", "2", "2 k", "x g"):
    assert raises(ValueError, grams, bad), bad

store = Store()
store.put("salt", 5)
store.put("rice", 10)
assert list(store.items()) == ["rice", "salt"]
store.items()["rice"] = 0
assert store.items() == {"rice": 10, "salt": 5}
store.take("salt", 5)
assert store.items() == {"rice": 10}
assert raises(KeyError, store.take, "salt", 1)
mine = {"oil": 3}
other = Store(mine)
other.put("oil", 1)
assert mine == {"oil": 3}

store.put("tea", 7)
for order in ({"zinc": "1 g", "rice": "1 kg", "tea": "2 g"}, {"tea": "7 g", "zinc": "1 g"}):
    try:
        fulfil(store, order)
    except ValueError as error:
        names = str(error).replace("missing:", "").replace(" ", "").split(",")
        assert names == [name for name in order if name != "tea"], error
    else:
        raise AssertionError(order)
    assert store.items() == {"rice": 10, "tea": 7}
assert raises(ValueError, fulfil, store, {"tea": "1 g", "rice": "1 stone"})
assert store.items() == {"rice": 10, "tea": 7}
fulfil(store, {"tea": "7 g", "rice": "0.004 kg"})
assert store.items() == {"rice": 6}
print("ok")
