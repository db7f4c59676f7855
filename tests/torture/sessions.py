#!/usr/bin/env python3
"""Kills sessions one after the other in the middle of a transaction, and looks at what is left of them: nothing.

Each of many processes opens the store, changes dicts and lists of all sizes in a transaction, says so, and is killed
before it can commit. Nobody has the store open meanwhile: the next one that comes has to clean up. Then the store must
open, hold what was committed and nothing else, have room for more sessions than were ever alive, and be whole.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import shobj


def build(path: str) -> None:
    with shobj.open_store(path, flag="n", max_size=256 << 20) as store:
        store.root["small"] = {"a": 1}
        store.root["large"] = {f"key {n}": n for n in range(5000)}
        store.root["list"] = list(range(5000))


def expected(store: shobj.Store) -> list[str]:
    """What differs from what build() stored."""
    native = shobj.to_native(store.root)
    want = {"small": {"a": 1}, "large": {f"key {n}": n for n in range(5000)}, "list": list(range(5000))}
    return [f"{key} is not what it was" for key in want if native.get(key) != want[key]] + [
        f"{key} should not be there" for key in native if key not in want
    ]


def change_and_wait(path: str, seed: int, ready: int) -> None:
    """Opens a transaction, changes a lot, writes a byte to `ready`, and waits in it for its end."""
    rng = random.Random(seed)
    store = shobj.open_store(path, flag="w")
    with store.transaction():
        store.root["small"]["a"] = seed
        store.root[f"new {seed}"] = {"deep": [{"n": n} for n in range(rng.randint(1, 50))]}
        large, many = store.root["large"], store.root["list"]
        for _ in range(rng.randint(1, 200)):
            key = f"key {rng.randrange(6000)}"
            if rng.random() < 0.3:
                large.pop(key, None)
            else:
                large[key] = "x" * rng.randint(0, 200)
            many.insert(rng.randrange(len(many)), rng.random())
        del many[rng.randrange(len(many))]
        os.write(ready, b"!")
        signal.pause()


def kill_one(path: str, seed: int) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            change_and_wait(path, seed, writer)
        finally:
            os._exit(2)
    os.close(writer)
    said = os.read(reader, 1)
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if said != b"!":
        raise RuntimeError("a process ended before it was in its transaction")


def attach_many(path: str, count: int) -> list[str]:
    """Has `count` processes at work at the same time, so that each needs a session slot of its own."""
    code = (
        "import shobj, sys\n"
        f"store = shobj.open_store({path!r}, flag='w')\n"
        "store.root['small'].setdefault(int(sys.argv[1]), 1)\n"
        "print('there', flush=True)\n"
        "sys.stdin.read()\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(count)
    ]
    there = sum(process.stdout.readline() == "there\n" for process in started)
    for process in started:
        process.communicate("")
    codes = [process.returncode for process in started]
    return [] if there == count and not any(codes) else [f"{there} of {count} could attach, exit codes {codes}"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Sessions that die in the middle of a transaction.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = random.SystemRandom().getrandbits(31) if args.seed is None else args.seed
    print(f"seed {seed}; again: tests/torture/{Path(__file__).name} --seed {seed} --count {args.count}", flush=True)

    path = f"{os.environ.get('SHOBJ_DIR', '/dev/shm')}/shobj-torture-{os.getpid()}"
    build(path)
    for number in range(args.count):
        kill_one(path, seed + number)
    failures = []
    with shobj.open_store(path, flag="w") as store:
        failures += expected(store)
    failures += attach_many(path, 16)
    with shobj.open_store(path, flag="w") as store:
        for number in range(16):
            if store.root["small"].pop(number, None) != 1:
                failures.append(f"what attached process {number} stored is not there")
        failures += expected(store)
    reap = subprocess.run(["shobj", "ps", "--reap", path], capture_output=True, text=True)
    if reap.returncode != 0:
        failures.append(f"shobj ps --reap: exit code {reap.returncode}: {reap.stderr.strip()}")
    with shobj.open_store(path, flag="w") as store:
        if (left := store.stat()["sessions"]) > 1:
            failures.append(f"{left} sessions are attached, not this one alone")
    check = subprocess.run(["shobj", "check", path], capture_output=True, text=True)
    if check.returncode != 0:
        failures.append(f"shobj check: exit code {check.returncode}: {check.stdout}{check.stderr}".strip())
    print(f"{args.count} sessions killed in mid-transaction")
    for failure in failures:
        print("FAILED:", failure)
    if failures:
        print(f"the store is kept: {path}")
        return 1
    shobj.unlink(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
