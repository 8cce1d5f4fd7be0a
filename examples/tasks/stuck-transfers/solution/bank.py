"""Accounts, and transfers between them from many threads.

Locks are taken in order of the accounts' names, always; `total` takes them all.
"""

import contextlib
import threading


class Account:
    def __init__(self, balance):
        self.balance = balance
        self.lock = threading.Lock()


class Bank:
    """`audit`: called in the middle of each transfer, or None."""

    def __init__(self, balances):
        self._accounts = {name: Account(balance) for name, balance in balances.items()}
        self.audit = None

    @contextlib.contextmanager
    def _held(self, *names):
        accounts = [self._accounts[name] for name in sorted(set(names))]
        with contextlib.ExitStack() as stack:
            for account in accounts:
                stack.enter_context(account.lock)
            yield

    def transfer(self, source, target, amount):
        """Move `amount`, a positive whole number; ValueError if there is too little."""
        with self._held(source, target):
            giver, taker = self._accounts[source], self._accounts[target]
            if giver.balance < amount:
                raise ValueError(f"{source} has only {giver.balance}")
            giver.balance -= amount
            try:
                if self.audit:
                    self.audit(source, target, amount)
            except BaseException:
                giver.balance += amount
                raise
            taker.balance += amount

    def balance(self, name):
        with self._held(name):
            return self._accounts[name].balance

    def total(self):
        """The sum over all accounts."""
        with self._held(*self._accounts):
            return sum(account.balance for account in self._accounts.values())
