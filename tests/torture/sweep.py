#!/usr/bin/env python3
"""Lets a process die, stop or fail at each fault point that it passes, one after the other.

A process runs a fixed series of steps on a new store, each step an operation or a transaction. Run after run it is made
to meet its end one fault point later:

  kill   it dies there. Whoever comes next finds what the steps done so far made, or one step more, nothing in between,
         can change everything at once, and the store is whole;
  stop   it is stopped there. Others read meanwhile, without waiting (but for the moments between the decision of a
         commit and its end), the same; continued, it goes on to the end;
  twice  it dies there, and who comes next dies, too, a few fault points into the clean-up or what follows;
  fail   the store says there that it is full. The step raises StoreFullError and has changed nothing; done again, it
         works, and so do the steps after it.

The same steps on native dicts and lists tell what must be in the store. Needs a build with the fault points.
"""

import argparse
import copy
import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import shobj

WAIT_SECONDS = 20
PATIENCE_SECONDS = 0.3
KINDS = ("kill", "stop", "twice", "fail")

# -------------------------------------------------------------------------------------------------------------- steps
# Each gets a root (the store's, or a native dict) and changes it the same way.


def many_keys(root: dict) -> None:
    root["large"].update({f"key {n}": n for n in range(60)})


def replace_values(root: dict) -> None:
    for n in range(0, 60, 7):
        root["large"][f"key {n}"] = "a longer value " * (n + 1)


def delete_keys(root: dict) -> None:
    for n in range(0, 60, 3):
        del root["large"][f"key {n}"]


def change_list(root: dict) -> None:
    numbers = root["list"]
    numbers.extend(range(70))
    numbers.insert(3, "inserted, a boxed string")
    del numbers[10]
    numbers[20] = (1, "two", b"three", 2**80)


def move(root: dict) -> None:
    root["small"]["a"] -= 1
    root["large"]["key 1"] += 1
    root["list"].append(root["list"].pop(0))


# Steps of one operation each, and steps that are run as a transaction.
STEPS: list[tuple[bool, Callable[[dict], object]]] = [
    (False, lambda root: root.__setitem__("small", {"a": 1, "b": "two"})),
    (False, lambda root: root.__setitem__("large", {})),
    (False, lambda root: root.__setitem__("list", [1, [2, {"deep": 3}]])),
    (False, lambda root: root["small"].__setitem__("a", 5)),
    (False, lambda root: root["small"].__setitem__("b", "a string that needs a block of its own")),
    (False, lambda root: root["small"].__setitem__("b", "another one, which takes its place")),
    (False, lambda root: root["small"].setdefault("c", 2**100)),
    (True, many_keys),
    (False, lambda root: root["large"].__setitem__("key 7", 7.5)),
    (True, replace_values),
    (False, lambda root: root["list"].append("x" * 300)),
    (True, change_list),
    (False, lambda root: root["list"].pop()),
    (False, lambda root: root["list"][1].append({"new": []})),
    (True, move),
    (True, delete_keys),
    (False, lambda root: root["large"].popitem()),
    (False, lambda root: root.pop("small")),
    (False, lambda root: root["list"].clear()),
    (False, lambda root: root["large"].clear()),
    (False, lambda root: root.__setitem__("end", b"\0" * 5000)),
]


def models() -> list[dict]:
    """What the root holds after 0, 1, 2 ... steps."""
    root: dict = {}
    after = [{}]
    for _, step in STEPS:
        step(root)
        after.append(copy.deepcopy(root))
    return after


def take(store: shobj.Store, index: int) -> None:
    transaction, step = STEPS[index]
    if transaction:
        store.run(step, store.root)
    else:
        step(store.root)


# ---------------------------------------------------------------------------------------------------------------- runs


class Wrong(Exception):
    """Something did not hold."""


class Sweep:
    """The runs on one path. This process itself never opens the store: a plan is read once in a process's life."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.after = models()
        self.done = mmap.mmap(-1, mmap.PAGESIZE)  # byte 0: how many steps have been done

    # What runs in processes of its own

    def create(self) -> None:
        self.done[0] = 0
        shobj.open_store(self.path, flag="n", max_size=64 << 20).close()

    def take_steps(self, full_is_expected: bool) -> None:
        failed = False
        store = None
        while store is None:
            try:
                store = shobj.open_store(self.path, flag="w")
            except shobj.StoreFullError:
                if failed or not full_is_expected:
                    raise
                failed = True
        for index in range(len(STEPS)):
            try:
                take(store, index)
            except shobj.StoreFullError:
                if failed or not full_is_expected:
                    raise
                failed = True
                if shobj.to_native(store.root) != self.after[index]:
                    raise Wrong(f"step {index} failed and has changed something") from None
                take(store, index)
            self.done[0] = index + 1
        if shobj.to_native(store.root) != self.after[-1]:
            raise Wrong("the result is not what native objects give")
        store.close()

    def look(self) -> None:
        """The store holds what the steps done made, or one more."""
        with shobj.open_store(self.path, flag="w") as store:
            steps = self.done[0]
            have = shobj.to_native(store.root)
            if have not in self.after[steps : steps + 2]:
                raise Wrong(f"after {steps} steps the store holds not what they or one more make: {have!r:.500}")

    def look_and_change_everything(self) -> None:
        """And it is whole, and nothing in it is locked: each container can be changed."""
        self.look()
        with shobj.open_store(self.path, flag="w") as store:
            self.check(store)
            for key, value in list(store.root.items()):
                if isinstance(value, shobj.Dict):
                    value["changed"] = key
                elif isinstance(value, shobj.List):
                    value.insert(0, "changed")
            store.root["changed"] = True
            self.check(store)

    def check(self, store: shobj.Store) -> None:
        if problems := store.check():
            raise Wrong(f"the check finds: {problems}")

    # Their parent

    def start(self, fault: str | None, life: Callable[..., None], *args: object) -> int:
        """Starts a process that calls life(*args) and meets the fault; returns its pid."""
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            if fault:
                os.environ["SHOBJ_FAULT"] = fault
            life(*args)
            code = 0
        except BaseException as error:
            print(f"  {life.__name__}: {type(error).__name__}: {error}", flush=True)
            if not isinstance(error, Wrong):
                traceback.print_exc()
        os._exit(code)

    def apart(self, life: Callable[..., None]) -> None:
        """Calls life() in another process, which must end well."""
        status = wait_for(self.start(None, life), 0)
        if status != 0:
            raise Wrong(f"{life.__name__} ended with status {status}")

    def look_beside(self, stopped: int) -> None:
        """Looks, while one is stopped: at once, unless that one has decided a commit and not finished it."""
        looking = self.start(None, self.look)
        if (status := ended(looking, PATIENCE_SECONDS)) is None:
            committing = ended(self.start(None, self.say_if_committing, stopped), WAIT_SECONDS) == 0
            if committing:
                os.kill(looking, signal.SIGKILL)
                os.waitpid(looking, 0)
                return
            status = wait_for(looking, 0)
        if status != 0:
            raise Wrong(f"a reader beside the stopped process ended with status {status}")

    def say_if_committing(self, pid: int) -> None:
        with shobj.open_store(self.path, flag="w") as store:
            states = [session["state"] for session in store.sessions() if session["pid"] == pid]
        if states != ["committing"]:
            raise Wrong(f"a reader waits for a process in state {states}")

    def run(self, kind: str, passage: int) -> bool:
        """One run; True if the fault point was met (for certain)."""
        self.apart(self.create)
        fault = f"{'kill' if kind == 'twice' else kind}:{passage}"
        pid = self.start(fault, self.take_steps, kind == "fail")
        status = wait_for(pid, os.WUNTRACED)
        met = True
        if os.WIFSTOPPED(status):
            try:
                self.look_beside(pid)
            finally:
                os.kill(pid, signal.SIGCONT)
                status = wait_for(pid, 0)
        elif os.WIFSIGNALED(status) and fault.startswith("kill") and os.WTERMSIG(status) == signal.SIGKILL:
            status = 0
        else:
            met = False
        if status != 0:
            raise Wrong(f"the process ended with status {status}")
        if kind == "twice":
            second = wait_for(self.start(f"kill:{1 + passage * 7919 % 40}", self.look_and_change_everything), 0)
            if os.WIFEXITED(second) and os.WEXITSTATUS(second) != 0:
                raise Wrong("the second process found what is told above")
            self.apart(self.check_alone)
        else:
            self.apart(self.look_and_change_everything)
        return met

    def check_alone(self) -> None:
        """After a second death, in the clean-up or later, the store is whole and can be changed."""
        with shobj.open_store(self.path, flag="w") as store:
            self.check(store)
            store.root["changed twice"] = True
            self.check(store)


def ended(pid: int, seconds: float, options: int = 0) -> int | None:
    """The status of a child that ends (or, with WUNTRACED, stops) within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        met, status = os.waitpid(pid, options | os.WNOHANG)
        if met:
            return status
        time.sleep(0.0005)
    return None


def wait_for(pid: int, options: int) -> int:
    """The status of a child that must end (or stop); one that does not is killed."""
    if (status := ended(pid, WAIT_SECONDS, options)) is not None:
        return status
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise Wrong(f"a process hangs: no end of it within {WAIT_SECONDS} s")


def passages(sweep: Sweep) -> int:
    """How many fault points a whole run passes."""

    def dies(passage: int) -> bool:
        sweep.apart(sweep.create)
        return os.WIFSIGNALED(wait_for(sweep.start(f"kill:{passage}", sweep.take_steps, False), 0))

    low, high = 0, 1
    while dies(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if dies(middle) else (low, middle)
    return low


def main() -> int:
    parser = argparse.ArgumentParser(description="Death, stop and failure at each fault point.")
    parser.add_argument("--seconds", type=float, default=None, help="as many, chosen at random, as fit into this time")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", help="one fault alone, as kill:120")
    args = parser.parse_args()
    path = f"{os.environ.get('SHOBJ_DIR', '/dev/shm')}/shobj-sweep-{os.getpid()}"
    sweep = Sweep(path)
    if args.only:
        kind, _, passage = args.only.partition(":")
        plan, count = [(kind, int(passage))], 0
    else:
        seed = random.SystemRandom().getrandbits(32) if args.seed is None else args.seed
        print(f"seed {seed}", flush=True)
        count = passages(sweep)
        if count == 0:
            sys.exit("sweep: no fault point was met; it needs a build with SHOBJ_FAULTS=ON (./dev build test)")
        plan = [(kind, passage) for kind in KINDS for passage in range(1, count + 1)]
        if args.seconds is not None:
            random.Random(seed).shuffle(plan)
    package = os.environ.get("PYTHONPATH", "")
    began = time.monotonic()
    runs = met = failures = 0
    for kind, passage in plan:
        if args.seconds is not None and time.monotonic() - began > args.seconds:
            break
        runs += 1
        try:
            met += sweep.run(kind, passage)
        except (Wrong, shobj.Error) as error:
            failures += 1
            print(f"FAILED: {kind}:{passage}: {type(error).__name__}: {error}")
            print(f"  again: PYTHONPATH={package} tests/torture/{Path(__file__).name} --only {kind}:{passage}")
            if failures == 10:
                break
    if os.path.exists(path):
        shobj.unlink(path)
    print(f"{runs} runs over {count} fault points passed, {met} met their fault, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
