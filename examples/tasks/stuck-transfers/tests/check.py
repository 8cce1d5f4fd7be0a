"""Hangs, lost money, and what must still run at once. Each part is run with a time limit."""

import random
import sys
import threading

sys.path.insert(0, "/app")
sys.setswitchinterval(1e-5)

from bank import Bank  # noqa: E402


def within(seconds, *works):
    """Run all at once; whether all ended, and without an error."""
    errors = []

    def run(work):
        try:
            work()
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=run, args=(w,), daemon=True) for w in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "it hangs"
    assert not errors, errors


def raises(kind, call, *given):
    try:
        call(*given)
    except kind:
        return True
    return False


def to_itself():
    bank = Bank({"a": 10})
    within(2, lambda: bank.transfer("a", "a", 4))
    assert bank.balance("a") == 10
    assert raises(ValueError, bank.transfer, "a", "a", 11)


def refusals():
    bank = Bank({"a": 10, "b": 0})
    assert raises(ValueError, bank.transfer, "a", "b", 11)
    assert raises(KeyError, bank.transfer, "a", "none", 1)
    assert raises(KeyError, bank.transfer, "none", "a", 1)
    assert (bank.balance("a"), bank.balance("b")) == (10, 0)
    bank.transfer("a", "b", 10)
    assert (bank.balance("a"), bank.balance("b")) == (0, 10)


def crossing():
    """a to b and b to a, with the middle of both held until both are there, or time passes."""
    bank = Bank({"a": 10, "b": 10})
    barrier = threading.Barrier(2)

    def audit(*_):
        try:
            barrier.wait(0.3)
        except threading.BrokenBarrierError:
            pass

    bank.audit = audit
    within(3, lambda: bank.transfer("a", "b", 1), lambda: bank.transfer("b", "a", 2))
    assert (bank.balance("a"), bank.balance("b")) == (11, 9)


def ring():
    """a to b, b to c, c to a: each begun before any can end, where that is possible."""
    bank = Bank({"a": 5, "b": 5, "c": 5})
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    bank.audit = lambda *_: threading.Event().wait(0.05)
    within(3, *(lambda p=p: bank.transfer(*p, 1) for p in pairs * 3))
    assert bank.total() == 15


def at_once():
    """Transfers of different pairs meet in their middle."""
    bank = Bank({name: 10 for name in "abcd"})
    barrier = threading.Barrier(2)
    bank.audit = lambda *_: barrier.wait(3)
    within(5, lambda: bank.transfer("a", "b", 1), lambda: bank.transfer("d", "c", 1))


def one_balance():
    """Two transfers from one account: the second must not pay from what the first has read."""
    bank = Bank({"a": 10, "b": 0, "c": 0})
    entered = threading.Event()

    def audit(*_):
        entered.set()
        threading.Event().wait(0.1)

    bank.audit = audit
    told = []

    def second():
        entered.wait(2)
        told.append(raises(ValueError, bank.transfer, "a", "c", 10))

    within(3, lambda: bank.transfer("a", "b", 10), second)
    assert told == [True]
    assert [bank.balance(name) for name in "abc"] == [0, 10, 0]


def no_moment_is_wrong():
    bank = Bank({"a": 100, "b": 100, "c": 100})
    entered, go = threading.Event(), threading.Event()

    def audit(*_):
        entered.set()
        go.wait(0.2)

    bank.audit = audit
    seen = []

    def look():
        entered.wait(2)
        seen.append(bank.total())

    within(3, lambda: bank.transfer("a", "b", 50), look)
    assert seen == [300], seen


def many():
    names = [f"account {n}" for n in range(6)]
    bank = Bank(dict.fromkeys(names, 100))
    stop = threading.Event()

    def move(seed):
        dice = random.Random(seed)
        for _ in range(400):
            source, target = dice.choice(names), dice.choice(names)
            try:
                bank.transfer(source, target, dice.randint(1, 60))
            except ValueError:
                continue

    def watch():
        while not stop.is_set():
            assert bank.total() == 600
            assert all(bank.balance(name) >= 0 for name in names)

    watcher = threading.Thread(target=lambda: within(6, watch), daemon=True)
    watcher.start()
    within(6, *(lambda n=n: move(n) for n in range(8)))
    stop.set()
    watcher.join(3)
    assert bank.total() == 600
    assert all(bank.balance(name) >= 0 for name in names)


for part in (to_itself, refusals, crossing, ring, at_once, one_balance, no_moment_is_wrong, many):
    part()
print("ok")
