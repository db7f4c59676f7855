#!/usr/bin/env python3
"""Fills a store of 16 MiB to the brim, in several ways, and looks at what happens there.

The operation that does not fit raises StoreFullError and leaves no trace; all that was stored can be read; deleting
some makes room for more; the store is whole. In a transaction the whole of it is undone.
"""

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import shobj

MAX_SIZE = 16 << 20


class Failure(Exception):
    """Something did not hold."""


def ensure(condition: bool, what: str) -> None:
    if not condition:
        raise Failure(what)


def values(rng: random.Random, sizes: tuple[int, int] | None) -> Iterator[int | str]:
    while True:
        yield rng.getrandbits(40) if sizes is None else "v" * rng.randint(*sizes)


def fill_until_full(add: Callable[[int], None]) -> int:
    """Calls add(0), add(1) and so on; the number of calls that were done before the store was full."""
    for number in range(MAX_SIZE):
        try:
            add(number)
        except shobj.StoreFullError:
            return number
    raise Failure(f"{MAX_SIZE} entries went into {MAX_SIZE} bytes")


def fill_dict(store: shobj.Store, rng: random.Random, sizes: tuple[int, int] | None) -> None:
    model: dict[str, int | str] = {}
    source = values(rng, sizes)
    store.root["filled"] = {}
    shared = store.root["filled"]

    def add(number: int) -> None:
        key, value = f"key {len(model)} of {number}", next(source)
        shared[key] = value
        model[key] = value

    count = fill_until_full(add)
    ensure(f"key {len(model)} of {count}" not in shared, "the key that did not fit is there")
    ensure(shared == model, "the dict is not what was stored before it was full")
    first = rng.randrange(len(model) // 2)
    for key in list(model)[first : first + len(model) // 4]:
        del shared[key]
        del model[key]
    again = fill_until_full(add)
    ensure(again > 0, "after deleting a quarter of the keys not one could be added")
    ensure(shared == model, "the dict is not what was stored before it was full again")


def fill_list(store: shobj.Store, rng: random.Random, sizes: tuple[int, int] | None) -> None:
    model: list[int | str] = []
    source = values(rng, sizes)
    store.root["filled"] = []
    shared = store.root["filled"]

    def add(_: int) -> None:
        value = next(source)
        shared.append(value)
        model.append(value)

    fill_until_full(add)
    ensure(len(shared) == len(model) and shared == model, "the list is not what was stored before it was full")
    first = rng.randrange(len(model) // 2)
    for _ in range(len(model) // 4):
        del shared[first]
    del model[first : first + len(model) // 4]
    again = fill_until_full(add)
    ensure(again > 0, "after deleting a quarter of the list not one could be appended")
    ensure(shared == model, "the list is not what was stored before it was full again")


def fill_in_transactions(store: shobj.Store, rng: random.Random, sizes: tuple[int, int] | None) -> None:
    model: dict[int, list[int | str]] = {}
    source = values(rng, sizes)
    store.root["filled"] = {}
    shared = store.root["filled"]

    def add(number: int) -> None:
        batch = [next(source) for _ in range(50)]

        def add_row() -> None:
            shared[number] = []
            row = shared[number]
            for value in batch:
                row.append(value)

        store.run(add_row)
        model[number] = batch

    count = fill_until_full(add)
    ensure(count not in shared, "the transaction that did not fit has left a key")
    ensure(shared == model, "the dict is not what was committed before the store was full")
    try:
        with store.transaction():
            for number in range(count):
                shared[number][0] = "changed"
            while True:
                shared[0].append("x" * 1000)
    except shobj.StoreFullError:
        pass
    ensure(shared == model, "a transaction that found the store full was not undone")


FILLERS = {
    "dict of integers": (fill_dict, None),
    "dict of short strings": (fill_dict, (6, 60)),
    "dict of long strings": (fill_dict, (1000, 200_000)),
    "list of integers": (fill_list, None),
    "list of strings": (fill_list, (6, 5000)),
    "transactions of integers": (fill_in_transactions, None),
    "transactions of strings": (fill_in_transactions, (6, 500)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="A store filled to the brim.")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if args.seed is None else args.seed
    print(f"seed {seed}; again: tests/torture/{Path(__file__).name} --seed {seed}", flush=True)

    path = f"{os.environ.get('SHOBJ_DIR', '/dev/shm')}/shobj-torture-{os.getpid()}"
    failed = 0
    for name, (fill, sizes) in FILLERS.items():
        try:
            with shobj.open_store(path, flag="n", max_size=MAX_SIZE) as store:
                fill(store, random.Random(seed), sizes)
                ensure(store.stat()["file_bytes"] <= MAX_SIZE, "the file is larger than max_size")
            check = subprocess.run(["shobj", "check", path], capture_output=True, text=True)
            ensure(check.returncode == 0, f"shobj check: exit code {check.returncode}: {check.stdout}{check.stderr}")
            print(f"{name}: full, undone, read, freed, filled again, whole")
        except Failure as failure:
            failed += 1
            kept = f"{path}-{failed}"
            os.rename(path, kept)
            print(f"FAILED: {name}: {failure}\nthe store is kept: {kept}")
    if os.path.exists(path):
        shobj.unlink(path)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
