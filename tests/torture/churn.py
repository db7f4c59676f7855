#!/usr/bin/env python3
"""Churn: processes replace nested structures at random, one of them is killed each second, and the store stays as large
as it is.

What the store holds alive is about constant. Whatever is replaced becomes garbage, some of it in cycles, and is
collected by itself: after a while the file must not be larger than half as much again as what is alive (--limit; more
where the processes that collect do not get their share of the processor). In the end all is removed; after one
collection nothing may be left but the root, and the store must be sound.

    churn.py [--seconds S] [--live MIB] [--workers N] [--large SHARE] [--limit RATIO] [--seed SEED]
"""

import argparse
import os
import random
import subprocess
import sys
import time

import shobj

SETTLING = 0.1  # of the time, a minute at most: when that is looked at first


def make(rng: random.Random, large: float):
    """A nested value: dicts, lists, tuples, text; 0.2 to 4 KiB, or with bytes of 20 to 300 KiB in it."""
    if rng.random() < large:
        return {"large": b"l" * rng.randrange(20 << 10, 300 << 10), "beside": make(rng, 0)}
    kind = rng.randrange(4)
    if kind == 0:
        return {
            "id": rng.randrange(1 << 40),
            "name": "x" * rng.randrange(10, 60),
            "tags": [rng.randrange(1000) for _ in range(rng.randrange(1, 20))],
        }
    if kind == 1:
        length = rng.randrange(1, 8)
        return [{"a": "y" * rng.randrange(6, 40), "b": (1, 2.5, "in a tuple", None)} for _ in range(length)]
    if kind == 2:
        return {f"k{i}": [i, "v" * rng.randrange(6, 100)] for i in range(rng.randrange(1, 30))}
    return {"outer": [{"deep": {"deeper": ["w" * rng.randrange(100, 300)]}}], "blob": b"b" * rng.randrange(200)}


def work(path: str, entries: int, large: float, seed: int) -> None:
    """Replaces, deletes, creates, and ties knots, for ever."""
    rng = random.Random(seed)
    store = shobj.open_store(path, "w")
    data = store.root["data"]
    while True:
        key = rng.randrange(entries)
        choice = rng.random()
        if choice < 0.85:
            data[key] = make(rng, large)
        elif choice < 0.9:
            data.pop(key, None)
            data[key] = make(rng, large)
        else:
            value = data.get(key)
            if isinstance(value, shobj.Dict):
                value["me"] = value  # a cycle
            elif value is not None and len(value) < 20:
                value.append(value)


class Worker:
    def __init__(self, path: str, entries: int, large: float, seed: int) -> None:
        arguments = [path, str(entries), str(large), str(seed)]
        self.process = subprocess.Popen([sys.executable, __file__, "--worker", *arguments])

    def kill(self) -> None:
        assert self.process.poll() is None, f"a worker ended by itself with {self.process.returncode}"
        self.process.kill()
        self.process.wait()


def fill(store, rng: random.Random, live_bytes: int, large: float) -> int:
    data = store.root["data"]
    count = 0
    while store.stat()["used_bytes"] < live_bytes:
        for _ in range(1000):
            data[count] = make(rng, large)
            count += 1
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--live", type=int, default=200, help="MiB")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--large", type=float, default=0.0, help="share of values of 20 to 300 KiB, which need room")
    parser.add_argument("--limit", type=float, default=1.5, help="file bytes to live bytes")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    path = f"/dev/shm/shobj-churn-{os.getpid()}"
    print(f"seed {options.seed}", flush=True)
    workers: list[Worker] = []
    worst = 0.0
    kills = 0
    try:
        with shobj.open_store(path, "x", max_size=8 * (options.live << 20) + (64 << 20)) as store:
            store.root["data"] = {}
            entries = fill(store, rng, options.live << 20, options.large)
            live = store.stat()["used_bytes"]
            workers = [Worker(path, entries, options.large, rng.randrange(1 << 30)) for _ in range(options.workers)]
            began = told = time.monotonic()
            settled = began + min(60.0, options.seconds * SETTLING)
            while (now := time.monotonic()) < began + options.seconds:
                time.sleep(min(1.0, options.seconds / 10))  # the pace of the kills
                victim = rng.randrange(len(workers))
                workers[victim].kill()
                kills += 1
                workers[victim] = Worker(path, entries, options.large, rng.randrange(1 << 30))
                stat = store.stat()
                ratio = stat["file_bytes"] / live
                if now > settled:
                    worst = max(worst, ratio)
                if now - told > options.seconds / 10:
                    told = now
                    print(
                        f"{now - began:6.0f} s: file {ratio:.2f} x live, {stat['commits']} commits, "
                        f"{stat['collections']} collections, {stat['recoveries']} recoveries",
                        flush=True,
                    )
            for worker in workers:
                worker.kill()
            workers.clear()
            commits = store.stat()["commits"]
            collections = store.stat()["collections"]
            store.root.clear()
            store.gc()
            problems = store.check()
            left = store.stat()["objects"]
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
        shobj.unlink(path, force=True)
    print(
        f"{kills} kills, {commits} commits, {collections} collections, "
        f"file at most {worst:.2f} x live (limit {options.limit}), {left} objects left, check: {problems or 'sound'}"
    )
    failed = worst > options.limit or left != 1 or problems or collections == 0
    if failed:
        print(
            f"failed; again: {sys.argv[0]} --seed {options.seed} --seconds {options.seconds} "
            f"--live {options.live} --large {options.large} --limit {options.limit}"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1] == "--worker":
        work(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    sys.exit(main())
