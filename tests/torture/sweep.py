#!/usr/bin/env python3
"""Lets a process die, stop or fail at each fault point that it passes, one after the other.

A process, the victim, does a fixed series of things to a new store (there are several such series, the scenarios
below). Run after run it is made to meet its end at another fault point:

  kill   it dies there. Whoever comes next finds what the steps done so far made, or one step more, nothing in between,
         can change everything at once, and the store is whole;
  stop   it is stopped there. Others read meanwhile, without waiting (but for the moments between the decision of a
         commit and its end), the same; continued, it goes on to the end;
  twice  it dies there, and who comes next dies, too, a few fault points into the clean-up or what follows;
  fail   the store says there that it is full. The step raises StoreFullError and has changed nothing; done again, it
         works, and so do the steps after it.

The same steps on native dicts and lists tell what must be in the store. Without --seconds each passage of each scenario
has its run; with it each named point is tried once in a scenario that passes it, and the rest of the time goes to
passages at random. Needs a build with the fault points, and says at the end which of them were met.
"""

import argparse
import copy
import mmap
import os
import random
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import shobj

WAIT_SECONDS = 20
PATIENCE_SECONDS = 0.3
LOSSES = 8  # after so many failures in a row a transaction gets the right of way
KINDS = ("kill", "stop", "twice", "fail")
ROOT = Path(__file__).resolve().parents[2]


class Wrong(Exception):
    """Something did not hold."""


# ----------------------------------------------------------------------------------------------------------- processes


def start(fault: str | None, life: Callable[..., object], *args: object) -> int:
    """Starts a process that calls life(*args) and meets the fault; returns its pid."""
    sys.stdout.flush()
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


def ended(pid: int, seconds: float, options: int = 0) -> int | None:
    """The status of a child that ends (or, with WUNTRACED, stops) within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        met, status = os.waitpid(pid, options | os.WNOHANG)
        if met:
            return status
        time.sleep(0.0005)
    return None


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def wait_for(pid: int, options: int = 0) -> int:
    """The status of a child that must end (or stop); one that does not is killed."""
    if (status := ended(pid, WAIT_SECONDS, options)) is not None:
        return status
    end(pid)
    raise Wrong(f"a process hangs: no end of it within {WAIT_SECONDS} s")


def apart(life: Callable[..., object], *args: object) -> None:
    """Calls life() in another process, which must end well."""
    status = wait_for(start(None, life, *args))
    if status != 0:
        raise Wrong(f"{life.__name__} ended with status {status}")


# ----------------------------------------------------------------------------------------------------------- scenarios


class Scenario:
    """What a victim does, and what may be in the store meanwhile. Only processes of their own open the store: a plan is
    read once in a process's life."""

    name = ""
    kinds: tuple[str, ...] = ("kill", "stop", "twice")
    points: tuple[str, ...] = ()  # beginnings of the names of fault points that this one is made for

    def __init__(self, path: str) -> None:
        self.path = path
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)  # byte 0: how many steps have been done; 1: what a witness saw

    def open(self) -> shobj.Store:
        return shobj.open_store(self.path, flag="w")

    def create(self) -> None:
        """In a process of its own: the new store."""
        with shobj.open_store(self.path, flag="n", max_size=64 << 20) as store:
            store.root.update(self.beginning())

    def beginning(self) -> dict:
        return {}

    def prepare(self) -> None:
        """In the parent, before each victim."""

    def live(self, full_is_expected: bool) -> None:
        """The victim."""
        raise NotImplementedError

    def settle(self) -> None:
        """In the parent, when the victim has ended and before the store is judged."""

    def finish(self) -> None:
        """In the parent, when the store has been judged."""

    def drop(self) -> None:
        """In the parent, however the run ended: ends what is left of others."""

    def is_possible(self, have: dict, done: int) -> bool:
        """May the root hold this when so many steps have been done?"""
        raise NotImplementedError


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


def make_five(root: dict) -> None:
    root["five"] = [{"n": n, "list": list(range(30))} for n in range(5)]


def change_five(root: dict) -> None:
    for each in root["five"]:
        each["n"] += 1
        each["list"].append(each["n"])


def change_unseen(root: dict) -> None:
    """Changes of objects that nobody looks at: they are made at the commit."""
    for each in root["five"]:
        each["list"].append("a string that is long enough for a block")
        each["new key"] = ("with", "a", "tuple")
    root["list"].insert(0, "at the front")


def edges_of_chunks(root: dict) -> None:
    numbers = root["list"]
    for n in range(24, 40):
        numbers.insert(n, n)
    for n in range(70, 55, -1):
        del numbers[n]


def clear_in_a_thread(root: dict) -> None:
    """Frees what another session has allocated; the thread's session begins and ends."""
    errors: list[BaseException] = []

    def clear() -> None:
        try:
            root["many"].clear()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=clear)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


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
    (True, edges_of_chunks),
    (False, lambda root: root["list"].insert(31, "an edge")),
    (False, lambda root: root["list"].pop(30)),
    (False, lambda root: root["list"].pop()),
    (False, lambda root: root["list"][1].append({"new": []})),
    (True, move),
    (True, delete_keys),
    (True, make_five),
    (True, change_five),
    (True, change_unseen),
    (False, lambda root: root["large"].popitem()),
    (False, lambda root: root.pop("small")),
    (False, lambda root: root["list"].clear()),
    (False, lambda root: root["large"].clear()),
    (False, lambda root: root.__setitem__("end", b"\0" * 5000)),
    (False, lambda root: root.__setitem__("wide", tuple(bytes([n]) * 160_000 for n in range(3)))),
    (False, lambda root: root.__setitem__("wide", bytes(30_000))),
    (False, lambda root: root.__setitem__("growth", b"\1" * (3 << 20))),
    (False, lambda root: root.pop("growth")),
    (False, lambda root: root.__setitem__("many", ["a block of some size" * 150] * 60)),
    (False, clear_in_a_thread),
]


class Series(Scenario):
    """Steps, one after the other; the store holds what so many of them make, or one more."""

    kinds = KINDS
    name = "steps"
    steps = STEPS

    def __init__(self, path: str) -> None:
        super().__init__(path)
        root = self.model()
        self.after = [copy.deepcopy(root)]
        for _, step in self.steps:
            if step is not None:
                step(root)
            self.after.append(copy.deepcopy(root))

    def model(self) -> dict:
        """What the root holds, or will be taken to hold, when the victim begins."""
        return self.beginning()

    def is_possible(self, have: dict, done: int) -> bool:
        return have in self.after[done : done + 2]

    def take(self, store: shobj.Store, index: int) -> None:
        transaction, step = self.steps[index]
        if transaction:
            store.run(step, store.root)
        else:
            step(store.root)

    def live(self, full_is_expected: bool) -> None:
        failed = False
        store = None
        while store is None:
            try:
                store = self.open()
            except shobj.StoreFullError:
                if failed or not full_is_expected:
                    raise
                failed = True
        for index in range(len(self.steps)):
            try:
                self.take(store, index)
            except shobj.StoreFullError:
                if failed or not full_is_expected:
                    raise
                failed = True
                if not self.is_possible(shobj.to_native(store.root), index):
                    raise Wrong(f"step {index} failed and has changed something") from None
                self.take(store, index)
            self.shared[0] = index + 1
        if not self.is_possible(shobj.to_native(store.root), len(self.steps)):
            raise Wrong("the result is not what native objects give")
        store.close()


# Where processes died in a change of root[NAME]: (the point, is the change made?). What begins with "single" is one
# operation, the rest are transactions.
DEATHS = [
    ("log.append", False),
    ("node.named", False),
    ("commit.locked_one", False),
    ("commit.locked_all", False),
    ("commit.before_decide", False),
    ("commit.decided", True),
    ("commit.unlocked", True),
    ("commit.freed", True),
    ("single.before_lock", False),
    ("single.locked", False),
    ("single.versioned", True),
    ("single.unlocked", True),
]


def add_to_all(root: dict) -> None:
    for each in root.values():
        each["n"] += 100
        each["list"].append("added")


class Recovery(Series):
    """The victim comes upon what many have left who died before it, recovers them all, and goes on. Its own death thus
    is one in the middle of a recovery."""

    name = "recovery"
    kinds = ("kill", "stop", "twice")
    points = ("recover.", "slab.adopt", "wait.", "commit.before_release")
    steps = [(True, add_to_all), (False, lambda root: root["marked"].__setitem__("n", -1)), (True, add_to_all)]

    def beginning(self) -> dict:
        return {name: {"n": 0, "list": []} for name in [*(point for point, _ in DEATHS), "marked"]}

    def is_possible(self, have: dict, done: int) -> bool:
        # A single write that stands still, its lock taken and nothing more, is made when somebody has read through
        # it (W3 in store/txn/wait.c): who waits in vain for a recoverer that stands still does so.
        made = copy.deepcopy(have)
        made["single.locked"]["n"] -= 1
        return super().is_possible(have, done) or super().is_possible(made, done)

    def model(self) -> dict:
        root = self.beginning()
        for point, is_made in [*DEATHS, ("single marked", True)]:
            if is_made:
                self.change(root, point)
        return root

    def change(self, root: dict, point: str) -> None:
        if point.startswith("single"):
            root["marked" if point == "single marked" else point]["n"] = 1
            return
        root[point]["n"] += 1
        root[point]["list"].append({"a": "new object"})

    def die(self, point: str) -> None:
        store = self.open()
        if point.startswith("single"):
            self.change(store.root, point)
        else:
            store.run(self.change, store.root, point)
        raise Wrong(f"{point} was not met")

    def read_marked(self) -> None:
        """What is read of a single write that stands still is what stands from then on."""
        with self.open() as store:
            if (n := store.root["marked"]["n"]) != 1:
                raise Wrong(f"the write that stands still, its lock taken, is read as {n}")

    def prepare(self) -> None:
        # Side by side, for who comes later recovers who died earlier.
        dying = [start(f"stop:1@{point}", self.die, point) for point, _ in DEATHS]
        dying.append(start("stop:1@single.locked", self.die, "single marked"))
        try:
            for pid in dying:
                if not os.WIFSTOPPED(wait_for(pid, os.WUNTRACED)):
                    raise Wrong("one who was to die first has not met its fault point")
            apart(self.read_marked)
        finally:
            for pid in dying:
                end(pid)


def add_ten(root: dict) -> None:
    root["pair"]["a"] += 10
    root["pair"]["b"] += 10


class Beside(Series):
    """The victim works beside one who is stopped with all locks taken of what the victim wants, and beside one stopped
    in a single write that the victim reads. Both go on afterwards."""

    name = "beside"
    kinds = ("kill", "stop", "twice")
    points = ("wait.",)
    steps = [
        (False, lambda root: root["single"]["n"]),
        (True, add_ten),
        (False, lambda root: root["pair"].__setitem__("c", "of the victim")),
        (True, add_ten),
    ]

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.others: list[int] = []

    def beginning(self) -> dict:
        return {"pair": {"a": 0, "b": 0, "others": 0}, "single": {"n": 0}}

    def model(self) -> dict:
        return {**self.beginning(), "single": {"n": 1}}

    def is_possible(self, have: dict, done: int) -> bool:
        have = copy.deepcopy(have)
        others = have["pair"]["others"]
        for key in ("a", "b", "others"):
            have["pair"][key] -= others
        return others in (0, 1) and super().is_possible(have, done)

    def add_one(self, root: dict) -> None:
        for key in ("a", "b", "others"):
            root["pair"][key] += 1

    def commit(self) -> None:
        with self.open() as store:
            store.run(self.add_one, store.root)

    def write(self) -> None:
        with self.open() as store:
            store.root["single"]["n"] = 1

    def prepare(self) -> None:
        self.others = [start("stop:1@commit.locked_all", self.commit), start("stop:1@single.locked", self.write)]
        for pid in self.others:
            if not os.WIFSTOPPED(wait_for(pid, os.WUNTRACED)):
                self.others.remove(pid)
                raise Wrong("one who was to stop has not met its fault point")

    def settle(self) -> None:
        for pid in self.others:
            os.kill(pid, signal.SIGCONT)
        while self.others:
            if (status := wait_for(self.others.pop())) != 0:
                raise Wrong(f"one who was stopped ended with status {status} when it was continued")

    def drop(self) -> None:
        while self.others:
            end(self.others.pop())


class Losing(Series):
    """Another process changes what a commit of the victim is about to change, and is stopped in doing so, its lock
    taken: the victim gives its own locks back, waits in vain, and has changed nothing. Then it goes on elsewhere."""

    name = "losing"
    kinds = ("kill", "stop", "twice")
    points = ("commit.release", "commit.before_release")
    steps = [
        (False, lambda root: None),
        (False, lambda root: root["first"].__setitem__("n", 5)),
        (False, lambda root: root["second"]["n"]),
    ]

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.other = 0

    def beginning(self) -> dict:
        return {"first": {"n": 0}, "second": {"n": 0}}

    def is_possible(self, have: dict, done: int) -> bool:
        second = have["second"]["n"]
        return second in (0, 1) and super().is_possible({**have, "second": {"n": 0}}, done)

    def take(self, store: shobj.Store, index: int) -> None:
        if index != 0:
            super().take(store, index)
            return
        first, second = store.root["first"], store.root["second"]

        def change_both() -> None:
            first["n"] += 100
            second["n"] += 100
            self.shared[3] = 1
            deadline = time.monotonic() + WAIT_SECONDS
            while not any(each["pid"] == self.other and each["held_count"] for each in store.sessions()):
                if time.monotonic() > deadline:
                    raise Wrong("the other one does not lock what it was to change")
                time.sleep(0.0002)

        try:
            store.run(change_both, timeout=PATIENCE_SECONDS / 10)
        except shobj.TransactionTimeout:
            return
        raise Wrong("a commit has changed what another one has locked")

    def write(self) -> None:
        with self.open() as store:
            second = store.root["second"]
            deadline = time.monotonic() + WAIT_SECONDS
            while not self.shared[3] and time.monotonic() < deadline:
                time.sleep(0.0002)
            second["n"] = 1

    def prepare(self) -> None:
        self.shared[3] = 0
        self.other = start("stop:1@single.locked", self.write)

    def settle(self) -> None:
        self.shared[3] = 1  # if the victim has not come so far
        status = wait_for(self.other, os.WUNTRACED)
        other, self.other = self.other, 0
        if os.WIFSTOPPED(status):
            os.kill(other, signal.SIGCONT)
            status = wait_for(other)
        if status != 0:
            raise Wrong(f"one who was stopped ended with status {status} when it was continued")

    def drop(self) -> None:
        if self.other:
            end(self.other)
            self.other = 0


class Waiting(Scenario):
    """A thread of the victim answers what its main thread asks, both asleep in between; another process, the witness,
    sleeps until what the main thread commits changes, too. Whatever happens to the victim, the witness sees each
    commit whole, and wakes for the last one when somebody has recovered."""

    name = "waiting"
    points = ("sleep.", "wake.", "commit.woken", "single.woken")
    ROUNDS = 6
    END = -1

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.witness = 0

    def beginning(self) -> dict:
        return {"ask": {"a": 0, "b": 0}, "answer": {"n": 0}}

    def is_possible(self, have: dict, done: int) -> bool:
        """`done` rounds are over: each is a question and its answer."""
        ask, answer = have["ask"], have["answer"]["n"]
        return ask["a"] == ask["b"] and (ask["a"], answer) in ((done, done), (done + 1, done), (done + 1, done + 1))

    def answer(self, store: shobj.Store) -> None:
        ask, answer = store.root["ask"], store.root["answer"]

        def body() -> int:
            if ask["a"] == answer["n"]:
                shobj.retry()
            answer["n"] += 1
            return answer["n"]

        while store.run(body) < self.ROUNDS:
            pass

    def live(self, full_is_expected: bool) -> None:
        with self.open() as store:
            ask, answer = store.root["ask"], store.root["answer"]
            thread = threading.Thread(target=self.answer, args=(store,), daemon=True)
            thread.start()

            def put() -> None:
                ask["a"] += 1
                ask["b"] += 1

            def get(n: int) -> None:
                if answer["n"] < n:
                    shobj.retry()

            for n in range(1, self.ROUNDS + 1):
                store.run(put)
                store.run(get, n, timeout=WAIT_SECONDS)
                self.shared[0] = n
            thread.join()

    def watch(self) -> None:
        with self.open() as store:
            ask = store.root["ask"]
            seen = None

            def body() -> int:
                a, b = ask["a"], ask["b"]
                if a != b:
                    raise Wrong(f"the witness sees half a commit: {a} and {b}")
                if a == seen:
                    shobj.retry()
                return a

            while seen != self.END:
                seen = store.run(body)
                self.shared[1] = seen & 0xFF

    def prepare(self) -> None:
        self.shared[1] = 0xFE
        self.witness = start(None, self.watch)
        self.wait_for_witness(0)

    def wait_for_witness(self, value: int) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while self.shared[1] != value & 0xFF:
            if os.waitpid(self.witness, os.WNOHANG)[0]:
                self.witness = 0
                raise Wrong("the witness has ended before its time")
            if time.monotonic() > deadline:
                raise Wrong(f"the witness does not wake: it saw {self.shared[1]}, the store has {value}")
            time.sleep(0.0005)

    def reap(self) -> None:
        """Recovers the dead, as whoever comes upon them, and tells what is there."""
        with self.open() as store:
            store.root["ask"]["c"] = "touched"
            del store.root["ask"]["c"]
            self.shared[2] = store.root["ask"]["a"]

    def settle(self) -> None:
        apart(self.reap)
        self.wait_for_witness(self.shared[2])

    def say_end(self) -> None:
        with self.open() as store:
            store.root["ask"].update(a=self.END, b=self.END)

    def finish(self) -> None:
        apart(self.say_end)
        witness, self.witness = self.witness, 0
        if (status := wait_for(witness)) != 0:
            raise Wrong(f"the witness ended with status {status}")

    def drop(self) -> None:
        if self.witness:
            end(self.witness)
            self.witness = 0


class Elder(Scenario):
    """A transaction of the victim loses against another thread of it until it gets the right of way. The other thread
    then must wait; once it does so until the right of way has been taken away from the transaction."""

    name = "elder"
    points = ("elder.", "wait.abort")
    ROUNDS = 3

    def beginning(self) -> dict:
        return {"pair": {"a": 0, "b": 0}, "rival": {"n": 0}}

    def is_possible(self, have: dict, done: int) -> bool:
        pair, n = have["pair"], have["rival"]["n"]
        return pair["a"] == pair["b"] and pair["a"] in (done, done + 1) and n >= LOSSES * pair["a"]

    def live(self, full_is_expected: bool) -> None:
        with self.open() as store:
            pair, rival = store.root["pair"], store.root["rival"]
            go, gone = threading.Semaphore(0), threading.Semaphore(0)
            over = False

            def run_against() -> None:
                while True:
                    go.acquire()
                    if over:
                        return
                    rival["n"] += 1
                    gone.release()

            thread = threading.Thread(target=run_against, daemon=True)
            thread.start()
            for number in range(self.ROUNDS):
                executions = 0

                def body(outlasts: bool) -> None:
                    nonlocal executions
                    executions += 1
                    n = rival["n"]
                    pair["a"] += 1
                    if executions <= LOSSES + outlasts:
                        go.release()
                        gone.acquire()
                    elif executions == LOSSES + 1 + outlasts:
                        go.release()
                    pair["b"] += 1
                    rival["seen"] = n

                store.run(body, number == 1)
                gone.acquire()
                self.shared[0] = number + 1
                if store.stat()["elders"] <= number:
                    raise Wrong(f"a transaction that lost {executions} times did not get the right of way")
            over = True
            go.release()
            thread.join()


def make_rings(root: dict) -> None:
    """Objects that refer to each other in rings, reachable by one of them."""
    rings = []
    for length in (1, 2, 7, 40):
        first: dict = {"n": length, "tuple": (length, "a string that needs a block", [length])}
        rings.append([first, [{"n": n, "list": list(range(n % 50))} for n in range(length)]])
    root["rings"] = rings


def close_rings(root: dict) -> None:
    for first, others in root["rings"]:
        first["others"] = len(others)
        others.append("closed")


def keep_half(root: dict) -> None:
    kept = root["rings"].pop(0)
    root["kept"] = kept
    root["rings"].pop()


def many_of_kinds(root: dict) -> None:
    root["kinds"] = {n: [n, {n: [n]}] if n % 3 else ("tuple", n, [n]) for n in range(70)}


def take_and_put(root: dict) -> None:
    """An object that for a while nothing but this process refers to."""
    one = root.pop("kept")
    root["again"] = one


def large(root: dict) -> None:
    root["large"] = [b"x" * 40000, ("y" * 90000, [1, 2, 3]), b"z" * 70000, b"a run" * 24000]


COLLECT = None  # in place of a step: a collection

COLLECTING: list[tuple[bool, Callable[[dict], object] | None]] = [
    (True, make_rings),
    (False, COLLECT),
    (True, close_rings),
    (True, keep_half),
    (False, COLLECT),
    (False, lambda root: root.pop("kept")),
    (False, lambda root: root.__setitem__("kept", {"new": ["in", ("its", "place")]})),
    (False, COLLECT),
    (False, take_and_put),
    (False, large),
    (False, COLLECT),
    (False, lambda root: root["large"].pop()),
    (True, many_of_kinds),
    (False, COLLECT),
    (False, lambda root: root["kinds"].clear()),
    (False, lambda root: root.pop("large")),
    (False, COLLECT),
]


class Collecting(Series):
    """The victim drops much and collects it, while a thread of it goes on making and dropping objects, in rings too,
    which it holds by its proxies alone in between."""

    name = "collecting"
    kinds = ("kill", "stop", "twice")
    points = ("gc.", "sweep.", "pin.", "block.", "run.", "slab.")
    steps = COLLECTING  # type: ignore[assignment]

    def beginning(self) -> dict:
        return {"beside": []}

    def model(self) -> dict:
        return {}

    def is_possible(self, have: dict, done: int) -> bool:
        have = {key: value for key, value in have.items() if key != "beside"}
        return have in self.after[done : done + 2]

    def take(self, store: shobj.Store, index: int) -> None:
        transaction, step = self.steps[index]
        if step is COLLECT:
            store.gc()
        else:
            super().take(store, index)

    def make_beside(self, store: shobj.Store, over: threading.Event) -> None:
        beside = store.root["beside"]
        n = 0
        while not over.is_set():
            n += 1
            beside.append([n, {"n": n}])
            ring = beside[-1]
            ring.append(ring)
            ring[1]["back"] = ring
            if len(beside) > 3:
                beside.pop(0)
            del beside[-1]
            if ring[0] != n or ring[1]["n"] != n or ring[2] != ring:
                raise Wrong("an object that a proxy holds is not what it was")

    def live(self, full_is_expected: bool) -> None:
        store = self.open()
        over = threading.Event()
        errors: list[BaseException] = []

        def beside() -> None:
            try:
                self.make_beside(store, over)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=beside, daemon=True)
        thread.start()
        for index in range(len(self.steps)):
            self.take(store, index)
            self.shared[0] = index + 1
        over.set()
        thread.join()
        if errors:
            raise errors[0]
        if not self.is_possible(shobj.to_native(store.root), len(self.steps)):
            raise Wrong("the result is not what native objects give")
        store.close()


SCENARIOS: tuple[type[Scenario], ...] = (Series, Recovery, Beside, Losing, Waiting, Elder, Collecting)


# ---------------------------------------------------------------------------------------------------------------- runs


class Run:
    """One life of a victim of a scenario, and what others find."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        apart(self.count_nothing)
        self.nothing = self.blocks_of_nothing()

    # What runs in processes of its own

    def look(self) -> None:
        """The store holds what the steps done made, or one more."""
        with self.scenario.open() as store:
            steps = self.scenario.shared[0]
            have = shobj.to_native(store.root)
            if not self.scenario.is_possible(have, steps):
                raise Wrong(f"after {steps} steps the store holds not what they or one more make: {have!r:.500}")

    def look_and_change_everything(self) -> None:
        """And it is whole, and nothing in it is locked: each container can be changed."""
        self.look()
        with self.scenario.open() as store:
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

    def check_alone(self) -> None:
        """After a second death, in the clean-up or later, the store is whole and can be changed."""
        with self.scenario.open() as store:
            self.check(store)
            store.root["changed twice"] = True
            self.check(store)

    def leaves_nothing(self) -> None:
        """When all is dropped and collected, no block is left that an empty store would not have."""
        with self.scenario.open() as store:
            store.root.clear()
            store.gc()
            self.check(store)
            self.scenario.shared[16:24] = store.stat()["blocks"].to_bytes(8, "little")

    def count_nothing(self) -> None:
        with shobj.open_store(self.scenario.path, flag="n", max_size=64 << 20) as store:
            store.root["one"] = [1]

    def blocks_of_nothing(self) -> int:
        apart(self.leaves_nothing)
        return int.from_bytes(self.scenario.shared[16:24], "little")

    def say_if_committing(self, pid: int) -> None:
        with self.scenario.open() as store:
            states = [session["state"] for session in store.sessions() if session["pid"] == pid]
        if "committing" not in states:
            raise Wrong(f"a reader waits for a process in state {states}")

    # Their parent

    def look_beside(self, stopped: int) -> None:
        """Looks, while one is stopped: at once, unless that one has decided a commit and not finished it."""
        looking = start(None, self.look)
        if (status := ended(looking, PATIENCE_SECONDS)) is None:
            committing = ended(start(None, self.say_if_committing, stopped), WAIT_SECONDS) == 0
            if committing:
                end(looking)
                return
            status = wait_for(looking)
        if status != 0:
            raise Wrong(f"a reader beside the stopped process ended with status {status}")

    def victim(self, fault: str, full_is_expected: bool) -> bool:
        """Lets the victim live; True if the fault point was met (for certain)."""
        pid = start(fault, self.scenario.live, full_is_expected)
        status = wait_for(pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            try:
                self.look_beside(pid)
            finally:
                os.kill(pid, signal.SIGCONT)
                status = wait_for(pid)
            met = True
        else:
            met = os.WIFSIGNALED(status) and fault.startswith("kill") and os.WTERMSIG(status) == signal.SIGKILL
            status = 0 if met else status
        if status != 0:
            raise Wrong(f"the process ended with status {status}")
        return met

    def begin(self) -> None:
        self.scenario.shared[0] = 0
        apart(self.scenario.create)
        self.scenario.prepare()

    def judged(self, kind: str, passage: str) -> bool:
        try:
            self.begin()
            met = self.victim(f"{'kill' if kind == 'twice' else kind}:{passage}", kind == "fail")
            self.scenario.settle()
            if kind == "twice":
                number = int(passage.partition("@")[0])
                second = wait_for(start(f"kill:{1 + number * 7919 % 40}", self.look_and_change_everything))
                if os.WIFEXITED(second) and os.WEXITSTATUS(second) != 0:
                    raise Wrong("the second process found what is told above")
                apart(self.check_alone)
            else:
                apart(self.look_and_change_everything)
            self.scenario.finish()
            if (blocks := self.blocks_of_nothing()) != self.nothing:
                left = f"{blocks} blocks are left when all was dropped and collected"
                raise Wrong(f"{left}; an empty store has {self.nothing}")
            return met
        finally:
            self.scenario.drop()

    def passages(self) -> int:
        """How many fault points the whole life of a victim passes; about, if it has threads."""

        def dies(passage: int) -> bool:
            try:
                self.begin()
                return os.WIFSIGNALED(wait_for(start(f"kill:{passage}", self.scenario.live, False)))
            finally:
                self.scenario.drop()

        low, high = 0, 1
        while dies(high):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if dies(middle) else (low, middle)
        return low


def named_points() -> list[str]:
    """The fault points in the library's source."""
    names: set[str] = set()
    for source in (ROOT / "store").rglob("*.c"):
        names.update(re.findall(r'sho_fault\("([a-z._]+)"\)', source.read_text()))
    return sorted(names)


class Sweep:
    """All runs, and what they came to."""

    def __init__(self, path: str, seconds: float | None, rng: random.Random) -> None:
        self.runs_of = {each.name: Run(each(path)) for each in SCENARIOS}
        self.names = named_points()
        self.passed: dict[str, list[str]] = {}  # name of a point: the scenarios in which it was met
        self.unmet: dict[tuple[str, str], int] = {}  # scenario and name: a passage that was not reached
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.rng = rng
        self.runs = self.met = self.failures = 0

    def is_over(self) -> bool:
        return self.failures == 10 or (self.deadline is not None and time.monotonic() > self.deadline)

    def run(self, scenario: str, kind: str, passage: str) -> bool:
        self.runs += 1
        met = False
        try:
            met = self.runs_of[scenario].judged(kind, passage)
        except (Wrong, shobj.Error) as error:
            self.failures += 1
            only = f"{scenario}:{kind}:{passage}"
            print(f"FAILED: {only}: {type(error).__name__}: {error}")
            package = os.environ.get("PYTHONPATH", "")
            print(f"  again: PYTHONPATH={package} tests/torture/{Path(__file__).name} --only {only}", flush=True)
        self.met += met
        if met and "@" in passage:
            scenarios = self.passed.setdefault(passage.partition("@")[2], [])
            if scenario not in scenarios:
                scenarios.append(scenario)
        return met

    def likely(self, name: str) -> list[str]:
        """The scenarios, those first that are made for this point."""
        return sorted(self.runs_of, key=lambda each: not name.startswith(self.runs_of[each].scenario.points or "-"))

    def each_name(self) -> None:
        """One death at each named point, in the first scenario that passes it."""
        for name in self.rng.sample(self.names, len(self.names)):
            for scenario in self.likely(name):
                if self.is_over() or self.run(scenario, "kill", f"1@{name}"):
                    break

    def at_random(self) -> None:
        names = sorted(self.passed)
        while names and not self.is_over():
            name = self.rng.choice(names)
            scenario = self.rng.choice([*self.passed[name], *self.runs_of])
            kind = self.rng.choice(self.runs_of[scenario].scenario.kinds)
            bound = self.unmet.get((scenario, name), 80)
            passage = 1 + int(self.rng.triangular(0, bound - 1, 0))
            if not self.run(scenario, kind, f"{passage}@{name}") and kind in ("kill", "stop"):
                self.unmet[scenario, name] = max(passage, 2)

    def all_passages(self) -> None:
        for scenario, run in self.runs_of.items():
            count = run.passages()
            print(f"{scenario}: {count} fault points passed", flush=True)
            for kind in run.scenario.kinds:
                for passage in range(1, count + 1):
                    if self.is_over():
                        return
                    self.run(scenario, kind, str(passage))

    def report(self) -> None:
        unmet = [name for name in self.names if name not in self.passed]
        print(f"{self.runs} runs, {self.met} met their fault, {self.failures} failed")
        print(f"{len(self.names) - len(unmet)} of {len(self.names)} named points met; not: {' '.join(unmet) or '-'}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Death, stop and failure at each fault point.")
    parser.add_argument("--seconds", type=float, default=None, help="as many, chosen at random, as fit into this time")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", help="one fault alone, as steps:kill:120 or elder:stop:1@elder.taken")
    args = parser.parse_args()
    path = f"{os.environ.get('SHOBJ_DIR', '/dev/shm')}/shobj-sweep-{os.getpid()}"
    seed = random.SystemRandom().getrandbits(32) if args.seed is None else args.seed
    sweep = Sweep(path, args.seconds, random.Random(seed))
    if args.only:
        met = sweep.run(*args.only.split(":", 2))
        print(f"the fault was {'met' if met else 'not met, or not for certain'}")
    else:
        print(f"seed {seed}", flush=True)
        sweep.each_name()
        if sweep.met == 0:
            sys.exit("sweep: no fault point was met; it needs a build with SHOBJ_FAULTS=ON (./dev build test)")
        if args.seconds is None:
            sweep.all_passages()
        else:
            sweep.at_random()
        sweep.report()
    if os.path.exists(path):
        shobj.unlink(path)
    return 1 if sweep.failures else 0


if __name__ == "__main__":
    sys.exit(main())
