#!/usr/bin/env python3
"""Fills a store of 16 MiB to the brim, in several ways, and looks at what happens there.

The operation that does not fit raises StoreFullError and leaves no trace; all that was stored can be read; deleting
some makes room for more; the store is whole. In a transaction the whole of it is undone. Where not a byte is left each
way of deleting works, for a process that has just come, too.
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
EMPTIED_SIZE = 6 << 20  # of those that are made anew for each way of deleting


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


def pad(store: shobj.Store) -> None:
    """Takes what is left, to the last byte."""
    try:
        store.root["pad"] = []
    except shobj.StoreFullError:
        return
    padding = store.root["pad"]
    for size in (100_000, 5000, 600, 100, 40, 20, 10, 7):
        fill_until_full(lambda _, size=size: padding.append("p" * size))
    fill_until_full(lambda _: padding.append(1))


def take_one(shared: shobj.Dict | shobj.List) -> int:
    del shared[len(shared) // 2]
    return 1


def take_a_third(shared: shobj.Dict | shobj.List) -> int:
    third = len(shared) // 3
    if isinstance(shared, shobj.List):
        del shared[third : 2 * third]
    else:
        for key in range(third, 2 * third):
            del shared[key]
    return third


def take_some(shared: shobj.Dict | shobj.List) -> int:
    indices = range(len(shared) - 1, 0, -(len(shared) // 25) or -1)
    for index in indices:
        del shared[index]
    return len(indices)


def take_all(shared: shobj.Dict | shobj.List) -> int:
    count = len(shared)
    while shared:
        shared.popitem() if isinstance(shared, shobj.Dict) else shared.pop()
    return count


def take_half_in_steps(shared: shobj.Dict | shobj.List) -> int:
    count = len(shared)
    if isinstance(shared, shobj.List):
        while len(shared) > count // 2:
            del shared[:1000]
    else:
        for key in range(count // 2):
            del shared[key]
    return count // 2


def clear(shared: shobj.Dict | shobj.List) -> int:
    count = len(shared)
    shared.clear()
    return count


def shrink(shared: shobj.Dict | shobj.List) -> int:
    """No element goes, but each becomes one that takes no block."""
    for key in range(0, len(shared), 3):
        shared[key] = key
    return 0


# What is done, and whether one transaction may do all of it: the log of many small steps has no bound.
DELETERS = {
    "one": (take_one, True),
    "some": (take_some, True),
    "a third": (take_a_third, False),
    "half, in steps": (take_half_in_steps, False),
    "all, one after another": (take_all, False),
    "all at once": (clear, True),
    "smaller values": (shrink, False),
}

SHAPES: dict[str, Callable[[int], object]] = {
    "integers": lambda number: number,
    "strings": lambda number: f"value number {number}",
    "objects": lambda number: [number, {}],
    "long strings": lambda number: "v" * 150_000,
}


def delete_elsewhere(path: str, delete: str, in_transaction: bool) -> None:
    """In a process of its own, whose session begins in the full store."""
    take, _ = DELETERS[delete]
    with shobj.open_store(path) as store:
        before = len(store.root["filled"])
        if in_transaction:
            with store.transaction():
                taken = take(store.root["filled"])
        else:
            taken = take(store.root["filled"])
        left = len(store.root["filled"])
        ensure(left <= before - taken, f"{left} of {before} are left when {taken} were taken")


def check_room(store: shobj.Store, path: str, made: int, shape: str, delete: str) -> None:
    shared = store.root["filled"]
    value = SHAPES[shape]
    taken = made - len(shared)

    def add(number: int) -> None:
        if isinstance(shared, shobj.Dict):
            shared[made + number] = value(made + number)
        else:
            shared.append(value(made + number))

    if taken > made // 10:
        # A small dict needs nodes of a size that a large one does not have, and a slab of nodes keeps its size.
        store.root.pop("pad", None)
        again = fill_until_full(add)
        ensure(again >= taken * 3 // 5, f"{delete}: {taken} of {made} were taken, and {again} fit in their place")
    if delete == "one":
        ensure(len(shared) == made - 1, "one was to go")


def empty_full_stores(path: str) -> int:
    """Each way of deleting in each kind of full store works, and there is room afterwards."""
    failed = 0
    for kind in (dict, list):
        for shape, value in SHAPES.items():
            for delete, (_, may_be_one) in DELETERS.items():
                for in_transaction in (False, True) if may_be_one else (False,):
                    with shobj.open_store(path, flag="n", max_size=EMPTIED_SIZE) as store:
                        store.root["filled"] = kind()
                        shared = store.root["filled"]
                        made = fill_until_full(
                            lambda number, shared=shared, value=value: shared.__setitem__(number, value(number))
                            if isinstance(shared, shobj.Dict)
                            else shared.append(value(number))
                        )
                        pad(store)
                    what = f"{kind.__name__} of {shape}, {delete}" + (", in a transaction" if in_transaction else "")
                    pid = os.fork()
                    if pid == 0:
                        code = 1
                        try:
                            delete_elsewhere(path, delete, in_transaction)
                            code = 0
                        except BaseException as error:
                            print(f"FAILED: {what}: {type(error).__name__}: {error}", flush=True)
                        os._exit(code)
                    try:
                        ensure(os.waitpid(pid, 0)[1] == 0, "deleting failed")
                        with shobj.open_store(path) as store:
                            check_room(store, path, made, shape, delete)
                            store.gc()
                        check = subprocess.run(["shobj", "check", path], capture_output=True, text=True)
                        ensure(check.returncode == 0, f"shobj check: {check.stdout}{check.stderr}")
                    except Failure as failure:
                        failed += 1
                        print(f"FAILED: {what}: {failure}")
            print(f"{kind.__name__} of {shape}: full, and emptied in all ways")
    return failed


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
    failed += empty_full_stores(path)
    if os.path.exists(path):
        shobj.unlink(path)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
