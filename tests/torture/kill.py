#!/usr/bin/env python3
"""Kills processes at random while they work in one store, and watches that nothing else suffers.

Workers move money between accounts, keep a journal each, and fill and empty a dict that all share, in transactions;
an auditor looks at all of it in transactions. Every few milliseconds one worker is killed with SIGKILL, wherever it is,
and another takes its place. What must hold:

  - every audit is right: the money is all there, each journal is as long as its worker says;
  - what a worker saw committed is there after its death, and at most the one transaction more that it was in;
  - nobody hangs: each worker commits again within a second (beyond the time for which the machine did not run us);
  - in the end the store is whole, and no session of a dead process is left.
"""

import argparse
import dataclasses
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import shobj

ACCOUNTS = 64
OPENING_BALANCE = 1000
JOURNAL_LENGTH = 100
HANG_SECONDS = 1.0


class Progress:
    """What each worker tells the killer, in memory that is outside the store."""

    def __init__(self, count: int) -> None:
        memory = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        # Each is stored in one piece: who is killed in the middle has told the old or the new one.
        self._sequences = memory.cast("q")
        self._times = memory.cast("d")
        self.count = count

    def note(self, number: int, sequence: int) -> None:
        """So many transactions were seen committed, the last one just now."""
        self._sequences[2 * number] = sequence
        self._times[2 * number + 1] = time.monotonic()

    def read(self, number: int) -> tuple[int, float]:
        return self._sequences[2 * number], self._times[2 * number + 1]


# ------------------------------------------------------------------------------------------------------------ workers


def build(path: str, workers: int) -> None:
    with shobj.open_store(path, flag="n", max_size=1 << 30) as store:
        store.root["accounts"] = {f"account {n}": {"balance": OPENING_BALANCE} for n in range(ACCOUNTS)}
        store.root["workers"] = [{"sequence": 0, "journal": [], "dropped": 0} for _ in range(workers)]
        store.root["slips"] = {}


def work(path: str, number: int, seed: int, progress: Progress) -> None:
    """Runs until killed."""
    rng = random.Random(seed)
    store = shobj.open_store(path, flag="w")
    accounts, slips, own = store.root["accounts"], store.root["slips"], store.root["workers"][number]
    names = list(accounts)

    @store.atomic
    def step(source: str, target: str, amount: int, note: str, pause: float) -> int:
        sequence = own["sequence"] + 1
        giver, taker = accounts[source], accounts[target]
        giver["balance"] -= amount
        if pause:
            time.sleep(pause)  # to be killed or overtaken here
        taker["balance"] += amount
        own["sequence"] = sequence
        journal = own["journal"]
        journal.append((sequence, source, target, amount, note))
        if len(journal) > JOURNAL_LENGTH:
            del journal[0]
            own["dropped"] += 1
        slips[(number, sequence)] = note
        slips.pop((number, sequence - JOURNAL_LENGTH), None)
        return sequence

    while True:
        source, target = rng.sample(names, 2)
        pause = rng.choice((0, 0, 0, 0.0005, 0.002))
        progress.note(number, step(source, target, rng.randint(1, 50), "x" * rng.randint(0, 300), pause))


def problems(store: shobj.Store) -> list[str]:
    """What is wrong in the store, looked at in one transaction."""

    def look() -> list[str]:
        found = []
        total = sum(account["balance"] for account in store.root["accounts"].values())
        if total != ACCOUNTS * OPENING_BALANCE:
            found.append(f"the balances add up to {total}, not to {ACCOUNTS * OPENING_BALANCE}")
        kept = 0
        for number, worker in enumerate(store.root["workers"]):
            sequence, journal = worker["sequence"], worker["journal"]
            if len(journal) + worker["dropped"] != sequence:
                found.append(f"worker {number}: {len(journal)} + {worker['dropped']} entries, sequence {sequence}")
            if journal and journal[-1][0] != sequence:
                found.append(f"worker {number}: the last entry is {journal[-1][0]}, the sequence {sequence}")
            kept += min(sequence, JOURNAL_LENGTH)
        if len(store.root["slips"]) != kept:
            found.append(f"{len(store.root['slips'])} slips, not {kept}")
        return found

    return store.run(look)


def audit(path: str, number: int, progress: Progress) -> None:
    """Runs until killed; an audit that is wrong ends the process with exit code 1."""
    store = shobj.open_store(path, flag="w")
    audits = 0
    while True:
        found = problems(store)
        if found:
            print("audit:", *found, sep="\n  ", file=sys.stderr, flush=True)
            os._exit(1)
        audits += 1
        progress.note(number, audits)
        time.sleep(0.005)


# ------------------------------------------------------------------------------------------------------------- killer


@dataclasses.dataclass
class Killer:
    path: str
    workers: int
    rng: random.Random
    progress: Progress
    pids: list[int] = dataclasses.field(default_factory=list)
    started: list[float] = dataclasses.field(default_factory=list)
    seen: list[int] = dataclasses.field(default_factory=list)  # the last transaction noted at a worker's last death
    unseen: list[int] = dataclasses.field(default_factory=list)  # deaths since: each may have committed one more
    kills: int = 0
    longest: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    def fork(self, number: int) -> int:
        """Starts worker `number`, or for the number after the last worker the auditor."""
        seed = self.rng.getrandbits(32)
        pid = os.fork()
        if pid:
            return pid
        try:
            if number < self.workers:
                work(self.path, number, seed, self.progress)
            else:
                audit(self.path, number, self.progress)
        except BaseException as error:
            print(f"process {number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(2)

    def start_all(self) -> None:
        self.seen, self.unseen = [0] * self.workers, [0] * self.workers
        for number in range(self.workers + 1):
            self.pids.append(self.fork(number))
            self.started.append(time.monotonic())

    def kill(self, number: int) -> None:
        """Kills a process; that it had ended by itself would be a failure."""
        os.kill(self.pids[number], signal.SIGKILL)
        _, status = os.waitpid(self.pids[number], 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            self.failures.append(f"process {number} had ended with status {status}")
        self.kills += 1
        if number < self.workers:
            seen = self.progress.read(number)[0]
            self.unseen[number] = 1 + (self.unseen[number] if seen == self.seen[number] else 0)
            self.seen[number] = seen

    def replace(self, number: int) -> None:
        self.kill(number)
        self.pids[number] = self.fork(number)
        self.started[number] = time.monotonic()

    def watch(self, excuse: float) -> None:
        """Looks for processes that ended by themselves, or that have done nothing for too long."""
        now = time.monotonic()
        for number, pid in enumerate(self.pids):
            silent = now - max(self.progress.read(number)[1], self.started[number])
            self.longest = max(self.longest, silent - excuse)
            if silent - excuse > HANG_SECONDS:
                self.failures.append(f"process {number} (pid {pid}) has committed nothing for {silent:.2f} s")
            if os.waitpid(pid, os.WNOHANG)[0]:
                self.failures.append(f"process {number} has ended by itself")
                self.pids[number] = 0

    def run(self, seconds: float, every: float) -> None:
        self.start_all()
        began = last = time.monotonic()
        excuse = 0.0
        while time.monotonic() - began < seconds and not self.failures:
            time.sleep(every)
            now = time.monotonic()
            # What the machine took from us it took from the others, too; it is forgiven for a while.
            excuse = max(now - last - every, excuse - every / 4, 0.0)
            last = now
            self.watch(excuse)
            if not self.failures:
                self.replace(self.rng.randrange(self.workers))
        for number, pid in enumerate(self.pids):
            if pid:
                self.kill(number)

    def look_afterwards(self) -> None:
        """The store after all are dead."""
        reap = subprocess.run(["shobj", "ps", "--reap", self.path], capture_output=True, text=True)
        if reap.returncode != 0:
            self.failures.append(f"shobj ps --reap: exit code {reap.returncode}: {reap.stderr.strip()}")
        with shobj.open_store(self.path, flag="w") as store:
            self.failures += problems(store)
            for number, worker in enumerate(store.root["workers"]):
                seen, have = self.progress.read(number)[0], worker["sequence"]
                if not seen <= have <= seen + self.unseen[number]:
                    self.failures.append(f"worker {number} saw {seen} committed, the store has {have}")
            left = store.stat()["sessions"]
            if left > 1:
                self.failures.append(f"{left} sessions are attached, not this one alone")
        check = subprocess.run(["shobj", "check", self.path], capture_output=True, text=True)
        if check.returncode != 0:
            self.failures.append(f"shobj check: exit code {check.returncode}: {check.stdout}{check.stderr}".strip())


def main() -> int:
    parser = argparse.ArgumentParser(description="SIGKILLs workers at random while the others go on.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every-ms", type=float, default=50)
    args = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if args.seed is None else args.seed
    again = f"{Path(__file__).name} --seed {seed} --seconds {args.seconds:g} --workers {args.workers}"
    print(f"seed {seed}; again: tests/torture/{again} --every-ms {args.every_ms:g}", flush=True)

    path = f"{os.environ.get('SHOBJ_DIR', '/dev/shm')}/shobj-torture-{os.getpid()}"
    build(path, args.workers)
    killer = Killer(path, args.workers, random.Random(seed), Progress(args.workers + 1))
    killer.run(args.seconds, args.every_ms / 1000)
    killer.look_afterwards()
    committed = sum(killer.progress.read(number)[0] for number in range(args.workers))
    audits = killer.progress.read(args.workers)[0]
    print(f"{killer.kills} kills, {committed} transactions, {audits} audits, longest silence {killer.longest:.2f} s")
    if not audits:
        killer.failures.append("not one audit was finished")
    for failure in killer.failures:
        print("FAILED:", failure)
    if killer.failures:
        print(f"the store is kept: {path}")
        return 1
    shobj.unlink(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
