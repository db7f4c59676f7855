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

import lmdb
import shobj

REPETITIONS = 7
SHM = Path(os.environ.get("SHOBJ_DIR", "/dev/shm"))
fork = multiprocessing.get_context("fork")

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


def medians(*sides: Callable[[], float]) -> list[float]:
    """Runs the sides in turns, the first time for warming up, and returns the median of each."""
    results: list[list[float]] = [[] for _ in sides]
    for repetition in range(REPETITIONS + 1):
        for side, result in zip(sides, results, strict=True):
            value = side()
            if repetition:
                result.append(value)
    return [statistics.median(result) for result in results]


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


def in_processes(count: int, seconds: float, prepare: Callable[[int], Batch]) -> float:
    """Operations a second that `count` new processes do together.

    Each calls prepare(number) for a function that does some operations and returns how many, and after all have come so
    far, that function until the time is over.
    """
    ready = fork.Barrier(count)
    results = fork.SimpleQueue()

    def body(number: int) -> None:
        batch = prepare(number)
        batch()
        ready.wait(60)
        began = time.perf_counter()
        done = 0
        while (elapsed := time.perf_counter() - began) < seconds:
            done += batch()
        results.put(done / elapsed)

    processes = [fork.Process(target=body, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        if process.exitcode != 0:
            sys.exit(f"bench: a process ended with exit code {process.exitcode}")
    return sum(results.get() for _ in processes)


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
    yield Row("2 processes, different keys", per_second(two), f"1 process {per_second(one)}", two / one, 1.8, False)
    percent = 100 * lost / commits
    yield Row("... of its commits, retried", f"{lost:,}", f"commits {commits:,}", percent, 1, True, "{:.3f} %")


ACCOUNTS = 200
PACKED = struct.Struct("<q")


def pairs_of_accounts(seed: int) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    return [tuple(rng.sample(range(ACCOUNTS), 2)) for _ in range(1000)]


def shobj_transfers(path: str) -> Callable[[int], Batch]:
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


def lmdb_environment(folder: Path) -> lmdb.Environment:
    return lmdb.open(str(folder), map_size=1 << 28, writemap=True, sync=False, metasync=False)


def lmdb_transfers(folder: Path) -> Callable[[int], Batch]:
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


def manager_transfers(accounts: DictProxy, lock: AcquirerProxy) -> Callable[[int], Batch]:
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


def transfers() -> Iterator[Row]:
    """Transfers between two accounts: dicts in a dict under @store.atomic, against Manager and py-lmdb."""
    folder = SHM / f"shobj-bench-lmdb-{os.getpid()}"
    try:
        with lmdb_environment(folder) as environment, environment.begin(write=True) as transaction:
            for number in range(ACCOUNTS):
                transaction.put(PACKED.pack(number), PACKED.pack(1000))
        with new_store() as store, multiprocessing.Manager() as manager:
            store.root["accounts"] = {number: {"balance": 1000} for number in range(ACCOUNTS)}
            ours = shobj_transfers(store.path)
            packed = lmdb_transfers(folder)
            managed = manager_transfers(manager.dict(dict.fromkeys(range(ACCOUNTS), 1000)), manager.Lock())
            rows = []
            for processes, against_lmdb in ((1, 0.6), (2, 1.0)):
                mine, theirs, slow = medians(
                    lambda: in_processes(processes, 0.4, ours),  # noqa: B023
                    lambda: in_processes(processes, 0.4, packed),  # noqa: B023
                    lambda: in_processes(processes, 0.4, managed),  # noqa: B023
                )
                name = f"transfers, {processes} process{'es' if processes > 1 else ''}"
                rate = per_second(mine)
                rows.append(Row(name, rate, f"py-lmdb {per_second(theirs)}", mine / theirs, against_lmdb, False))
                rows.append(Row(name, rate, f"Manager {per_second(slow)}", mine / slow, 100, False, "{:.0f} x"))
            total = sum(account["balance"] for account in store.root["accounts"].values())
            if total != ACCOUNTS * 1000:
                sys.exit(f"bench: the balances add up to {total}, not to {ACCOUNTS * 1000}")
            yield from rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    "keys": updates_of_different_keys,
    "transfers": transfers,
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
    print(f"{'':28} {'shobj':>16} {'':24} {'ratio':>10} {'goal':>10}")
    for run in chosen.values():
        for row in run():
            goal = ("<= " if row.at_most else ">= ") + f"{row.goal:g}"
            verdict = "" if row.met else "  MISSED"
            ratio = row.shown.format(row.ratio)
            print(f"{row.name:28} {row.ours:>16} {row.theirs:>24} {ratio:>10} {goal:>10}{verdict}", flush=True)
            count += 1
            missed += not row.met
    print(f"{count - missed} of {count} goals reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
