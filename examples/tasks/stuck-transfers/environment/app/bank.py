"""Accounts, and transfers between them from many threads."""

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

    def transfer(self, source, target, amount):
        """Move `amount`, a positive whole number; ValueError if there is too little."""
        balance = self._accounts[source].balance
        if balance < amount:
            raise ValueError(f"{source} has only {balance}")
        with self._accounts[source].lock:
            self._accounts[source].balance = balance - amount
            if self.audit:
                self.audit(source, target, amount)
            with self._accounts[target].lock:
                self._accounts[target].balance += amount

    def balance(self, name):
        return self._accounts[name].balance

    def total(self):
        """The sum over all accounts."""
        return sum(account.balance for account in self._accounts.values())
