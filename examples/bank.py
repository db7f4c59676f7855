#!/usr/bin/env python3
"""Money that several processes move between accounts, and an audit that is right at any instant.

    bank.py open STORE [ACCOUNTS]     open the accounts, 1000 in each
    bank.py move STORE [SECONDS]      move money until the time is over, or until "stop" is set
    bank.py audit STORE [SECONDS]     add all balances up, again and again
    bank.py demo [STORE]              all of it, in four processes, and clean up

Any number of `move` and `audit` may run at once, be killed and be started anew.
"""

import argparse
import random
import subprocess
import sys
import time

import shobj

OPENING_BALANCE = 1000


def open_accounts(store: shobj.Store, count: int) -> None:
    """Stores the accounts, in one go, under the key "bank"."""
    accounts = {f"account {n}": {"owner": f"customer {n}", "balance": OPENING_BALANCE} for n in range(count)}
    store.root["bank"] = {"accounts": accounts, "opened_with": count * OPENING_BALANCE, "stop": False}


def move(store: shobj.Store, seconds: float) -> int:
    """Moves random amounts between random accounts; returns how many transfers were made."""
    bank = store.root["bank"]
    accounts = bank["accounts"]
    names = list(accounts)

    @store.atomic
    def transfer(source: str, target: str, amount: int) -> bool:
        giver, taker = accounts[source], accounts[target]
        if giver["balance"] < amount:
            return False
        giver["balance"] -= amount
        taker["balance"] += amount
        return True

    made = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not bank["stop"]:
        for _ in range(100):
            source, target = random.sample(names, 2)
            made += transfer(source, target, random.randint(1, 100))
    return made


def audit(store: shobj.Store, seconds: float) -> tuple[int, int]:
    """Adds all balances up, in a transaction each time; returns how many sums were right, and how many wrong."""
    bank = store.root["bank"]
    accounts = bank["accounts"]
    expected = bank["opened_with"]

    @store.atomic
    def add_up() -> int:
        return sum(account["balance"] for account in accounts.values())

    right = wrong = 0
    deadline = time.monotonic() + seconds
    while True:
        stop = bank["stop"]
        total = add_up()
        if total == expected:
            right += 1
        else:
            wrong += 1
            print(f"audit: {total} instead of {expected}", file=sys.stderr)
        if stop or time.monotonic() >= deadline:
            return right, wrong


def demo(path: str) -> int:
    """Three processes move money while a fourth audits."""
    with shobj.open_store(path, flag="x") as store:
        open_accounts(store, 100)
    command = [sys.executable, __file__]
    started = [subprocess.Popen([*command, "move", path, "2"]) for _ in range(3)]
    started.append(subprocess.Popen([*command, "audit", path, "2"]))
    failed = sum(process.wait() != 0 for process in started)
    shobj.unlink(path)
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Accounts in a shared store.")
    parser.add_argument("command", choices=["open", "move", "audit", "demo"])
    parser.add_argument("store", nargs="?", default="example-bank")
    parser.add_argument("amount", nargs="?", type=float, help="accounts of `open`, seconds of `move` and `audit`")
    args = parser.parse_args()
    if args.command == "demo":
        return demo(args.store)
    if args.command == "open":
        with shobj.open_store(args.store) as store:
            open_accounts(store, int(args.amount or 100))
        return 0
    with shobj.open_store(args.store, flag="w") as store:
        if args.command == "move":
            print(f"made {move(store, args.amount or 10)} transfers")
            return 0
        right, wrong = audit(store, args.amount or 10)
        print(f"{right} audits were right, {wrong} wrong")
        return 1 if wrong or not right else 0


if __name__ == "__main__":
    sys.exit(main())
