#!/usr/bin/env python3
"""Ratios against native objects, multiprocessing.Manager and py-lmdb, each pair measured side by side in one run.

    bench.py [NAME...]    runs all, or those whose name contains one of the words

Times move with the machine, ratios hardly: each side of a pair is repeated several times, in turns, and the table shows
the medians, their ratio, and the goal. The exit code is 1 if a goal was missed, 2 for a wrong call.
"""

import contextlib
import dataclasses
import itertools
import multiprocessing
import operator
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.managers import AcquirerProxy, DictProxy
from pathlib import Path
from typing import TypeVar

import lmdb
import shobj

REPETITIONS = 7
SHM = Path(os.environ.get("SHOBJ_DIR", "/dev/shm"))
fork = multiprocessing.get_context("fork")
T = TypeVar("T")

# ---------------------------------------------------------------------------------------------------------- measuring


@dataclasses.dataclass
class Row:
    """One line of the table. `ratio` is ours over theirs, in the unit of the goal."""

    name: str
    ours: str
    theirs: str
    ratio: float
    goal: float
    at_most: bool
    shown: str = "{:.2f} x"

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


def in_turns(*sides: Callable[[], T]) -> list[list[T]]:
    """Runs the sides in turns, the first time for warming up, and returns what each gave."""
    results: list[list[T]] = [[] for _ in sides]
    for repetition in range(REPETITIONS + 1):
        for side, result in zip(sides, results, strict=True):
            value = side()
            if repetition:
                result.append(value)
    return results


def medians(*sides: Callable[[], float]) -> list[float]:
    """Runs the sides in turns and returns the median of each."""
    return [statistics.median(result) for result in in_turns(*sides)]


def ns(seconds: float) -> str:
    return f"{seconds * 1e9:.0f} ns"


def per_second(number: float) -> str:
    return f"{number:,.0f} /s"


@contextlib.contextmanager
def new_store(max_size: int = 4 << 30) -> Iterator[shobj.Store]:
    """A store that is gone afterwards."""
    path = SHM / f"shobj-bench-{os.getpid()}"
    with shobj.open_store(str(path), flag="n", max_size=max_size) as store:
        try:
            yield store
        finally:
            shobj.unlink(str(path))


Batch = Callable[[], int]
Prepare = Callable[[int], Batch]


def side_by_side(seconds: float, prepares: Sequence[Prepare]) -> list[float]:
    """Operations a second that each of several new processes does beside the others.

    Each calls its prepare(number) for a function that does some operations and returns how many, and after all have
    come so far, that function until the time is over.
    """
    ready = fork.Barrier(len(prepares))
    results = fork.SimpleQueue()

    def body(number: int) -> None:
        batch = prepares[number](number)
        batch()
        ready.wait(60)
        began = time.perf_counter()
        done = 0
        while (elapsed := time.perf_counter() - began) < seconds:
            done += batch()
        results.put((number, done / elapsed))

    processes = [fork.Process(target=body, args=(number,)) for number in range(len(prepares))]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        if process.exitcode != 0:
            sys.exit(f"bench: a process ended with exit code {process.exitcode}")
    return [rate for _, rate in sorted(results.get() for _ in processes)]


def in_processes(count: int, seconds: float, prepare: Prepare) -> float:
    """Operations a second that `count` new processes do together."""
    return sum(side_by_side(seconds, [prepare] * count))


def batches(arguments: Sequence, size: int) -> Iterator[Sequence]:
    """Endlessly, one part of `size` arguments after the other."""
    parts = [arguments[first : first + size] for first in range(0, len(arguments), size)]
    return itertools.cycle(parts)


# -------------------------------------------------------------------------------------------------------- one process


# In processor time: what others use of the machine meanwhile does not count.


def read_each(container, keys: Sequence) -> float:
    """Seconds for one container[key]."""
    began = time.thread_time()
    for key in keys:
        container[key]
    return (time.thread_time() - began) / len(keys)


def write_each(container, keys: Sequence) -> float:
    """Seconds for one container[key] = int."""
    began = time.thread_time()
    for key in keys:
        container[key] = 7
    return (time.thread_time() - began) / len(keys)


def single_operations() -> Iterator[Row]:
    """Dict get, dict set of an existing key, list index, beside the native ones."""
    native_dict = {f"key number {n}": n for n in range(1000)}
    native_list = list(range(1000))
    keys = list(native_dict) * 50
    indices = list(range(1000)) * 50
    random.Random(1).shuffle(keys)
    random.Random(2).shuffle(indices)
    with new_store() as store:
        store.root["dict"], store.root["list"] = native_dict, native_list
        shared_dict, shared_list = store.root["dict"], store.root["list"]
        for name, goal, operation, ours, theirs, arguments in (
            ("Dict get, str key", 4, read_each, shared_dict, native_dict, keys),
            ("Dict set, existing key", 7, write_each, shared_dict, native_dict, keys),
            ("List index", 5, read_each, shared_list, native_list, indices),
        ):
            mine, native = medians(lambda: operation(ours, arguments), lambda: operation(theirs, arguments))  # noqa: B023
            yield Row(name, ns(mine), f"native {ns(native)}", mine / native, goal, True)


def call_each(function: Callable[[], None], calls: int) -> float:
    """Seconds for one function()."""
    began = time.thread_time()
    for _ in itertools.repeat(None, calls):
        function()
    return (time.thread_time() - began) / calls


def empty_transactions() -> Iterator[Row]:
    """A call of a function that does nothing, under @store.atomic and without."""

    def nothing() -> None:
        pass

    with new_store() as store:
        atomic_nothing = store.atomic(nothing)
        mine, native = medians(lambda: call_each(atomic_nothing, 100_000), lambda: call_each(nothing, 100_000))
    yield Row("empty @store.atomic call", ns(mine), f"plain call {ns(native)}", mine / native, 5, True)


# -------------------------------------------------------------------------------------------------- several processes


def updates_of_different_keys() -> Iterator[Row]:
    """Two processes on different keys of one dict of 100,000, against one process; and how many commits lost."""
    size = 100_000
    with new_store() as store:
        store.root["dict"] = {f"key {n}": n for n in range(size)}
        path = store.path

        def prepare(number: int) -> Batch:
            shared = shobj.open_store(path, flag="w").root["dict"]
            keys = [f"key {n}" for n in range(number, size, 2)]
            random.Random(number).shuffle(keys)
            parts = batches(keys, 500)

            def batch() -> int:
                for key in next(parts):
                    shared[key] = number
                return 500

            return batch

        before = store.stat()
        one, two = medians(lambda: in_processes(1, 0.5, prepare), lambda: in_processes(2, 0.5, prepare))
        after = store.stat()
    commits = after["commits"] - before["commits"]
    lost = sum(after[name] - before[name] for name in ("conflicts", "retries"))
    yield Row("2 processes, different keys", per_second(two), f"1 process {per_second(one)}", two / one, 1.9, False)
    percent = 100 * lost / commits
    yield Row("... of its commits, retried", f"{lost:,}", f"commits {commits:,}", percent, 1, True, "{:.3f} %")


def readers_of_one_key() -> Iterator[Row]:
    """Two processes that read the same key, against one."""
    with new_store() as store:
        store.root["dict"] = {f"key {n}": n for n in range(1000)}
        path = store.path

        def prepare(_number: int) -> Batch:
            shared = shobj.open_store(path, flag="w").root["dict"]

            def batch() -> int:
                for _ in itertools.repeat(None, 1000):
                    shared["key 7"]
                return 1000

            return batch

        one, two = medians(lambda: in_processes(1, 0.4, prepare), lambda: in_processes(2, 0.4, prepare))
    yield Row("2 readers of one key", per_second(two), f"1 reader {per_second(one)}", two / one, 1.9, False)


PACKED = struct.Struct("<q")
INCREMENTS = 100


def lmdb_environment(folder: Path) -> lmdb.Environment:
    return lmdb.open(str(folder), map_size=1 << 28, writemap=True, sync=False, metasync=False)


@contextlib.contextmanager
def new_lmdb(values: dict[int, int]) -> Iterator[Path]:
    """The folder of an lmdb environment of packed integers that is gone afterwards."""
    folder = SHM / f"shobj-bench-lmdb-{os.getpid()}"
    try:
        with lmdb_environment(folder) as environment, environment.begin(write=True) as transaction:
            for key, value in values.items():
                transaction.put(PACKED.pack(key), PACKED.pack(value))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def shobj_increments(path: str) -> Prepare:
    """Atomic increments of one counter by the single operation there is for it."""

    def prepare(_number: int) -> Batch:
        counters = shobj.open_store(path, flag="w").root["counters"]

        def increased(value: int) -> int:
            return value + 1

        def batch() -> int:
            for _ in itertools.repeat(None, INCREMENTS):
                counters.update_with(0, increased)
            return INCREMENTS

        return batch

    return prepare


def lmdb_increments(folder: Path) -> Prepare:
    """Increments of one packed counter, one write transaction each."""

    def prepare(_number: int) -> Batch:
        environment = lmdb_environment(folder)
        key = PACKED.pack(0)

        def batch() -> int:
            for _ in itertools.repeat(None, INCREMENTS):
                with environment.begin(write=True) as transaction:
                    (value,) = PACKED.unpack(transaction.get(key))
                    transaction.put(key, PACKED.pack(value + 1))
            return INCREMENTS

        return batch

    return prepare


def increments_of_one_counter() -> Iterator[Row]:
    """Two processes that increment the same counter, against py-lmdb."""
    with new_store() as store, new_lmdb({0: 0}) as folder:
        store.root["counters"] = {0: 0}
        ours, theirs = shobj_increments(store.path), lmdb_increments(folder)
        mine, packed = medians(lambda: in_processes(2, 0.4, ours), lambda: in_processes(2, 0.4, theirs))
        # Whole batches only: what is left over was lost.
        if (counter := store.root["counters"][0]) % INCREMENTS:
            sys.exit(f"bench: the counter is {counter}, no multiple of {INCREMENTS}: increments were lost")
    name = "2 processes, one counter"
    yield Row(name, per_second(mine), f"py-lmdb {per_second(packed)}", mine / packed, 1.5, False)


ACCOUNTS = 200
BALANCE = 1000


def pairs_of_accounts(seed: int) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    return [tuple(rng.sample(range(ACCOUNTS), 2)) for _ in range(1000)]


def shobj_transfers(path: str) -> Prepare:
    """Transfers between accounts that are dicts in a dict."""

    def prepare(number: int) -> Batch:
        store = shobj.open_store(path, flag="w")
        accounts = store.root["accounts"]
        parts = batches(pairs_of_accounts(number), 100)

        @store.atomic
        def transfer(source: int, target: int) -> None:
            giver, taker = accounts[source], accounts[target]
            giver["balance"] -= 1
            taker["balance"] += 1

        def batch() -> int:
            for source, target in next(parts):
                transfer(source, target)
            return 100

        return batch

    return prepare


def lmdb_transfers(folder: Path) -> Prepare:
    """Transfers between packed integers, one write transaction each."""

    def prepare(number: int) -> Batch:
        environment = lmdb_environment(folder)
        parts = batches([(PACKED.pack(one), PACKED.pack(two)) for one, two in pairs_of_accounts(number)], 100)

        def batch() -> int:
            for source, target in next(parts):
                with environment.begin(write=True) as transaction:
                    (giver,) = PACKED.unpack(transaction.get(source))
                    (taker,) = PACKED.unpack(transaction.get(target))
                    transaction.put(source, PACKED.pack(giver - 1))
                    transaction.put(target, PACKED.pack(taker + 1))
            return 100

        return batch

    return prepare


def manager_transfers(accounts: DictProxy, lock: AcquirerProxy) -> Prepare:
    """Transfers in a Manager's dict under the Manager's lock."""

    def prepare(number: int) -> Batch:
        parts = batches(pairs_of_accounts(number), 10)

        def batch() -> int:
            for source, target in next(parts):
                with lock:
                    accounts[source] -= 1
                    accounts[target] += 1
            return 10

        return batch

    return prepare


def check_sum(total: int) -> None:
    if total != ACCOUNTS * BALANCE:
        sys.exit(f"bench: the balances add up to {total}, not to {ACCOUNTS * BALANCE}")


def shobj_audits(path: str, by_key: bool) -> Prepare:
    """Sums of all accounts, one read-only transaction each: each account looked up, or all walked over."""

    def prepare(_number: int) -> Batch:
        store = shobj.open_store(path, flag="w")
        accounts = store.root["accounts"]

        def looked_up() -> int:
            return sum(accounts[number]["balance"] for number in range(ACCOUNTS))

        def walked_over() -> int:
            return sum(map(operator.itemgetter("balance"), accounts.values()))

        total = store.atomic(readonly=True)(looked_up if by_key else walked_over)

        def batch() -> int:
            check_sum(total())
            return 1

        return batch

    return prepare


def lmdb_audits(folder: Path, by_key: bool) -> Prepare:
    """Sums of all packed integers, one read transaction each: each one looked up, or all walked over."""

    def prepare(_number: int) -> Batch:
        environment = lmdb_environment(folder)
        keys = [PACKED.pack(number) for number in range(ACCOUNTS)]

        def looked_up() -> int:
            with environment.begin() as transaction:
                return sum(PACKED.unpack(transaction.get(key))[0] for key in keys)

        def walked_over() -> int:
            with environment.begin() as transaction, transaction.cursor() as cursor:
                return sum(balance for (balance,) in map(PACKED.unpack, cursor.iternext(keys=False)))

        total = looked_up if by_key else walked_over

        def batch() -> int:
            check_sum(total())
            return 1

        return batch

    return prepare


@contextlib.contextmanager
def new_accounts() -> Iterator[tuple[str, Path]]:
    """The path of a store and the folder of an lmdb environment, each with the accounts."""
    with new_store() as store, new_lmdb(dict.fromkeys(range(ACCOUNTS), BALANCE)) as folder:
        store.root["accounts"] = {number: {"balance": BALANCE} for number in range(ACCOUNTS)}
        yield store.path, folder
        check_sum(sum(account["balance"] for account in store.root["accounts"].values()))


def of_processes(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"


def transfers() -> Iterator[Row]:
    """Transfers between two accounts: dicts in a dict under @store.atomic, against py-lmdb and Manager."""
    with new_accounts() as (path, folder), multiprocessing.Manager() as manager:
        ours, packed = shobj_transfers(path), lmdb_transfers(folder)
        managed = manager_transfers(manager.dict(dict.fromkeys(range(ACCOUNTS), BALANCE)), manager.Lock())
        for processes, against_lmdb, against_manager in ((1, 1.0, 100), (2, 2.5, 100), (4, 2.0, None)):
            prepares = (ours, packed) if against_manager is None else (ours, packed, managed)
            mine, theirs, *slow = medians(
                *(
                    lambda prepare=prepare: in_processes(processes, 0.4, prepare)  # noqa: B023
                    for prepare in prepares
                )
            )
            name = f"transfers, {of_processes(processes)}"
            rate = per_second(mine)
            yield Row(name, rate, f"py-lmdb {per_second(theirs)}", mine / theirs, against_lmdb, False)
            for rate_of_manager in slow:
                against = f"Manager {per_second(rate_of_manager)}"
                yield Row(name, rate, against, mine / rate_of_manager, against_manager, False, "{:.0f} x")


def audits() -> Iterator[Row]:
    """Transfers while one more process sums all accounts again and again, against py-lmdb; and how often it does."""
    with new_accounts() as (path, folder):
        for processes, by_key in ((1, True), (2, True), (1, False), (2, False)):
            ours = shobj_transfers(path), shobj_audits(path, by_key)
            packed = lmdb_transfers(folder), lmdb_audits(folder, by_key)

            def rates(transfer: Prepare, audit: Prepare) -> tuple[float, float]:
                *moved, sums = side_by_side(0.4, [transfer] * processes + [audit])  # noqa: B023
                return sum(moved), sums

            both = in_turns(lambda: rates(*ours), lambda: rates(*packed))  # noqa: B023
            (mine, my_sums), (theirs, their_sums) = (
                [statistics.median(values) for values in zip(*side, strict=True)] for side in both
            )
            name = f"{processes} + auditor {'by key' if by_key else 'by walk'}:"
            against = f"py-lmdb {per_second(theirs)}"
            yield Row(f"{name} transfers", per_second(mine), against, mine / theirs, 3, False)
            against = f"py-lmdb {per_second(their_sums)}"
            yield Row(f"{name} sums", per_second(my_sums), against, my_sums / their_sums, 1.43, False)


# ----------------------------------------------------------------------------------------------------------- starting


def in_new_interpreter(code: str) -> float:
    """Runs code that prints seconds."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


ATTACH = """
import time, shobj
began = time.perf_counter()
store = shobj.open_store({path!r}, flag="w")
value = store.root["dict"]["key 765432"]
print(time.perf_counter() - began)
assert value == 765432
"""

IMPORT = """
import time
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""


def attaching() -> Iterator[Row]:
    """Attach to a million entries and read one, with shobj imported; and the import itself."""
    with new_store() as store:
        store.root["dict"] = {f"key {n}": n for n in range(1_000_000)}
        (seconds,) = medians(lambda: in_new_interpreter(ATTACH.format(path=store.path)))
    yield Row("attach, 10^6 entries, read", f"{seconds * 1e3:.2f} ms", "", seconds * 1e3, 1, True, "{:.2f} ms")
    ours, theirs = (IMPORT.format(module=module) for module in ("shobj", "json"))
    mine, json = medians(lambda: in_new_interpreter(ours), lambda: in_new_interpreter(theirs))
    row = Row("import shobj", f"{mine * 1e3:.2f} ms", f"import json {json * 1e3:.2f} ms", mine * 1e3, 5, True)
    yield dataclasses.replace(row, shown="{:.2f} ms")


BENCHMARKS = {
    "operations": single_operations,
    "atomic": empty_transactions,
    "keys": updates_of_different_keys,
    "readers": readers_of_one_key,
    "counter": increments_of_one_counter,
    "transfers": transfers,
    "audits": audits,
    "attach": attaching,
}


def main() -> int:
    chosen = {
        name: run for name, run in BENCHMARKS.items() if not sys.argv[1:] or any(word in name for word in sys.argv[1:])
    }
    if not chosen:
        print(f"bench: no benchmark is called so; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    missed = count = 0
    print(f"{'':32} {'shobj':>16} {'':24} {'ratio':>10} {'goal':>10}")
    for run in chosen.values():
        for row in run():
            goal = ("<= " if row.at_most else ">= ") + f"{row.goal:g}"
            verdict = "" if row.met else "  MISSED"
            ratio = row.shown.format(row.ratio)
            print(f"{row.name:32} {row.ours:>16} {row.theirs:>24} {ratio:>10} {goal:>10}{verdict}", flush=True)
            count += 1
            missed += not row.met
    print(f"{count - missed} of {count} goals reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
