#!/usr/bin/env python3
"""Judges rounds of single operations: did each take effect at one instant between its call and its return?

The program "operations" (operations.c) lets processes work on one small dict or list at the same time and writes down
each call and its result. For each round this looks for an order of the operations that puts none before one that had
returned when it was called, and in which a dict or list of Python's gives the same results: a search that takes the
operations one after the other (Wing and Gong), and that remembers which sets of operations with which content it has
tried in vain.

    linearizable.py [--seconds N] [--seed N] --program PATH    runs the program again and again and judges the rounds
    linearizable.py --judge FILE                               judges a file
    linearizable.py --self-test                                rounds by hand, most of them wrong
"""

import argparse
import collections
import dataclasses
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SHOWN_MAX = 3  # rounds that are told in full
STEPS_MAX = 2_000_000  # of the search in one round

# Contents: a dict's is a tuple of (key, value), a list's one of values; both by their text.
Content = tuple
Step = Callable[..., tuple[object, Content]]


@dataclasses.dataclass(slots=True)
class Operation:
    process: int
    called: int
    returned: int
    name: str
    arguments: tuple[str, ...]
    result: str

    def __str__(self) -> str:
        return f"process {self.process}: {self.name}({', '.join(self.arguments)}) = {self.result or 'nothing'}"


@dataclasses.dataclass(slots=True)
class Round:
    line: int
    kind: str
    content: Content
    operations: list[Operation]


# ------------------------------------------------------------------------------------- what single operations should do

# Each takes the content and its arguments, and returns the result and the content afterwards. A result that is a tuple
# is one of a read that may end early: any beginning of it that is not empty will do.


def dict_set(content: Content, key: str, value: str) -> tuple[object, Content]:
    for at, (other, _) in enumerate(content):
        if other == key:
            return "ok", (*content[:at], (key, value), *content[at + 1 :])
    return "ok", (*content, (key, value))


def dict_get(content: Content, key: str) -> tuple[object, Content]:
    return next((value for other, value in content if other == key), "-"), content


def dict_setdefault(content: Content, key: str, value: str) -> tuple[object, Content]:
    found, _ = dict_get(content, key)
    return (found, content) if found != "-" else (value, (*content, (key, value)))


def dict_del(content: Content, key: str) -> tuple[object, Content]:
    found, _ = dict_get(content, key)
    return found, content if found == "-" else tuple(item for item in content if item[0] != key)


def dict_popitem(content: Content, first: str) -> tuple[object, Content]:
    if not content:
        return "-", content
    at = 0 if first == "1" else len(content) - 1
    return ":".join(content[at]), (*content[:at], *content[at + 1 :])


def list_at(content: Content, index: str) -> int | None:
    at = int(index) + (len(content) if int(index) < 0 else 0)
    return at if 0 <= at < len(content) else None


def list_get(content: Content, index: str) -> tuple[object, Content]:
    at = list_at(content, index)
    return "-" if at is None else content[at], content


def list_set(content: Content, index: str, value: str) -> tuple[object, Content]:
    at = list_at(content, index)
    return ("-", content) if at is None else ("ok", (*content[:at], value, *content[at + 1 :]))


def list_insert(content: Content, index: str, value: str) -> tuple[object, Content]:
    changed = list(content)
    changed.insert(int(index), value)
    return "ok", tuple(changed)


def list_del(content: Content, index: str) -> tuple[object, Content]:
    at = list_at(content, index)
    return ("-", content) if at is None else (content[at], (*content[:at], *content[at + 1 :]))


STEPS: dict[tuple[str, str], Step] = {
    ("dict", "get"): dict_get,
    ("dict", "set"): dict_set,
    ("dict", "del"): dict_del,
    ("dict", "setdefault"): dict_setdefault,
    ("dict", "popitem"): dict_popitem,
    ("dict", "has"): lambda content, key: (str(int(dict_get(content, key)[0] != "-")), content),
    ("dict", "len"): lambda content: (str(len(content)), content),
    ("dict", "items"): lambda content: (tuple(":".join(item) for item in content), content),
    ("dict", "clear"): lambda content: ("ok", ()),
    ("list", "get"): list_get,
    ("list", "set"): list_set,
    ("list", "append"): lambda content, value: ("ok", (*content, value)),
    ("list", "extend"): lambda content, *values: ("ok", (*content, *values)),
    ("list", "insert"): list_insert,
    ("list", "del"): list_del,
    ("list", "len"): lambda content: (str(len(content)), content),
    ("list", "read"): lambda content, first: (content[int(first) :], content),
    ("list", "clear"): lambda content: ("ok", ()),
}


def agrees(told: str, should: object) -> bool:
    if not isinstance(should, tuple):
        return told == should
    given = told.split(",") if told else []
    return tuple(given) == should[: len(given)] and (bool(given) or not should)


# ----------------------------------------------------------------------------------------------------------- the search


def explain(round_: Round, counts: collections.Counter[str]) -> bool:
    """Is there an order of the operations that explains their results?"""
    operations = sorted(round_.operations, key=lambda operation: operation.returned)
    before = [  # which must come before each: those that had returned when it was called
        sum(1 << i for i, one in enumerate(operations) if one.returned < other.called or is_earlier(one, other))
        for other in operations
    ]
    counts["overlapping pairs"] += sum(
        one.called <= other.returned and other.called <= one.returned
        for i, one in enumerate(operations)
        for other in operations[:i]
    )
    everything = (1 << len(operations)) - 1
    tried: set[tuple[int, Content]] = set()
    stack: list[tuple[int, Content]] = [(0, round_.content)]
    while stack:
        done, content = stack.pop()
        if done == everything:
            return True
        if (done, content) in tried:
            continue
        tried.add((done, content))
        counts["steps"] += 1
        if len(tried) > STEPS_MAX:
            raise RuntimeError(f"line {round_.line}: no answer after {STEPS_MAX} steps")
        for i in range(len(operations) - 1, -1, -1):  # the one that returned first is tried first
            if done >> i & 1 or before[i] & ~done:
                continue
            operation = operations[i]
            should, after = STEPS[round_.kind, operation.name](content, *operation.arguments)
            if agrees(operation.result, should):
                stack.append((done | 1 << i, after))
    return False


def is_earlier(one: Operation, other: Operation) -> bool:
    """Of the same process, which makes one call after the other."""
    return one.process == other.process and (one.called, one.returned) < (other.called, other.returned)


def tell(round_: Round) -> str:
    began = min(operation.called for operation in round_.operations)
    lines = [f"line {round_.line}: no order explains these operations on a {round_.kind} of {round_.content}:"]
    for operation in sorted(round_.operations, key=lambda operation: operation.called):
        lines.append(f"    {operation.called - began:>8} to {operation.returned - began:>8} ns: {operation}")
    return "\n".join(lines)


# -------------------------------------------------------------------------------------------------------------- running


def parse(text: str) -> Iterator[Round]:
    round_: Round | None = None
    for number, line in enumerate(text.splitlines(), 1):
        kind, rest = line.split(" ", 1)
        if kind == "R":
            if round_ is not None:
                yield round_
            what, content = rest.split(" ", 1)
            words = content.split(",") if content else []
            items = tuple(tuple(word.split(":")) for word in words) if what == "dict" else tuple(words)
            round_ = Round(number, what, items, [])
        elif round_ is not None:
            call, result = rest.split(" = ")
            process, called, returned, name, *arguments = call.split()
            operation = Operation(int(process), int(called), int(returned), name, tuple(arguments), result)
            round_.operations.append(operation)
    if round_ is not None:
        yield round_


def judge(text: str, counts: collections.Counter[str]) -> int:
    """The number of rounds that nothing explains."""
    failures = 0
    for round_ in parse(text):
        counts["rounds"] += 1
        counts["operations"] += len(round_.operations)
        if not explain(round_, counts):
            failures += 1
            if failures <= SHOWN_MAX:
                print(f"FAILED: {tell(round_)}")
    return failures


def run(program: str, seconds: float, seed: int, only_once: bool) -> int:
    counts: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    while not counts["rounds"] or (not only_once and time.monotonic() - began < seconds):
        handle, name = tempfile.mkstemp(prefix="shobj-operations-")
        os.close(handle)
        file = Path(name)
        command = [program, name, "0.5", str(seed), str(random.Random(seed).choice((2, 2, 3, 4)))]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            print(f"FAILED: it does not end: {' '.join(command)}")
            return 1
        failures = judge(file.read_text(), counts)
        if failures or done.returncode != 0:
            print(done.stdout, end="")
            print(f"FAILED: {failures} rounds; exit code {done.returncode} of {' '.join(command)}")
            print(f"the rounds are kept; again: {Path(__file__).name} --judge {name}")
            return 1
        file.unlink()
        seed += 1
    print(", ".join(f"{number} {name}" for name, number in counts.items()))
    if not counts["overlapping pairs"]:
        print("FAILED: no two operations overlapped")
        return 1
    return 0


# ------------------------------------------------------------------------------------------------------------ self-test

# name: (is it explained, the round). Times: 1 to 9 overlaps everything.
CASES: dict[str, tuple[bool, str]] = {
    "one after the other": (True, "R dict 1:7\nO 0 1 2 set 1 8 = ok\nO 1 3 4 get 1 = 8"),
    "at the same time: either": (True, "R dict 1:7\nO 0 1 9 set 1 8 = ok\nO 1 1 9 get 1 = 7\nO 2 1 9 get 1 = 8"),
    "a stale read": (False, "R dict 1:7\nO 0 1 2 set 1 8 = ok\nO 1 3 4 get 1 = 7"),
    "a value from nowhere": (False, "R dict 1:7\nO 0 1 9 set 1 8 = ok\nO 1 1 9 get 1 = 0"),
    "reads that go back": (False, "R dict 1:7\nO 0 1 9 set 1 8 = ok\nO 1 1 2 get 1 = 8\nO 2 3 4 get 1 = 7"),
    "the same process goes back": (False, "R dict 1:7\nO 0 1 9 set 1 8 = ok\nO 1 1 2 get 1 = 8\nO 1 2 4 get 1 = 7"),
    "deleted twice": (False, "R dict 1:7\nO 0 1 9 del 1 = 7\nO 1 1 9 del 1 = 7"),
    "popped twice": (False, "R dict 1:7,2:8\nO 0 1 9 popitem 0 = 2:8\nO 1 1 9 popitem 0 = 2:8"),
    "popped from both ends": (True, "R dict 1:7,2:8\nO 0 1 9 popitem 0 = 2:8\nO 1 1 9 popitem 1 = 1:7"),
    "two defaults": (False, "R dict \nO 0 1 9 setdefault 1 7 = 7\nO 1 1 9 setdefault 1 8 = 8"),
    "one default": (True, "R dict \nO 0 1 9 setdefault 1 7 = 8\nO 1 1 9 setdefault 1 8 = 8"),
    "a place kept": (True, "R dict 1:7,2:8\nO 0 1 2 set 1 9 = ok\nO 1 3 4 items = 1:9,2:8"),
    "a place lost": (False, "R dict 1:7,2:8\nO 0 1 2 set 1 9 = ok\nO 1 3 4 items = 2:8,1:9"),
    "a torn walk": (False, "R dict 1:7,2:8\nO 0 1 2 set 1 9 = ok\nO 0 3 4 set 2 9 = ok\nO 1 1 4 items = 1:7,2:9"),
    "a walk with an end": (True, "R dict 1:7,2:8\nO 1 1 4 items = 1:7"),
    "a walk without a beginning": (False, "R dict 1:7,2:8\nO 1 1 4 items = 2:8"),
    "a walk of nothing": (False, "R dict 1:7,2:8\nO 1 1 4 items = "),
    "a wrong length": (False, "R dict 1:7\nO 0 1 2 set 2 8 = ok\nO 1 3 4 len = 1"),
    "has what was cleared": (False, "R dict 1:7\nO 0 1 2 clear = ok\nO 1 3 4 has 1 = 1"),
    "appended": (True, "R list 7\nO 0 1 9 append 8 = ok\nO 1 1 9 append 9 = ok\nO 2 10 11 read 0 = 7,9,8"),
    "a lost append": (False, "R list 7\nO 0 1 2 append 8 = ok\nO 1 3 4 get -1 = 7"),
    "one of two appends is lost": (False, "R list \nO 0 1 9 append 8 = ok\nO 1 1 9 append 9 = ok\nO 2 10 11 len = 1"),
    "half of an extend": (False, "R list \nO 0 1 9 extend 8 9 = ok\nO 1 1 9 len = 1"),
    "an extend pulled apart": (
        False,
        "R list \nO 0 1 9 extend 8 9 = ok\nO 1 1 9 append 7 = ok\nO 2 10 11 get 0 = 8\nO 2 12 13 get 1 = 7",
    ),
    "taken twice": (False, "R list 7,8\nO 0 1 9 del 0 = 7\nO 1 1 9 del 0 = 7"),
    "taken in turn": (True, "R list 7,8\nO 0 1 9 del 0 = 7\nO 1 1 9 del 0 = 8\nO 2 1 9 get 0 = -"),
    "not there though it was all the time": (False, "R list 7,8\nO 0 1 9 set 1 9 = ok\nO 1 1 9 get 1 = -"),
    "inserted": (True, "R list 7,8\nO 0 1 2 insert -1 9 = ok\nO 1 3 4 read 1 = 9,8"),
    "an error": (False, "R list 7\nO 0 1 2 get 0 = ECORRUPT"),
}


def self_test() -> int:
    failures = 0
    for name, (expected, text) in CASES.items():
        found = all(explain(round_, collections.Counter()) for round_ in parse(text))
        if found != expected:
            failures += 1
            print(f"FAILED: {name}: found {'an' if found else 'no'} order")
    print(f"{len(CASES)} rounds by hand, {failures} judged wrongly")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Judges rounds of single operations.")
    parser.add_argument("--program", help='the program "operations"')
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, help="of the first run; then just this one is made")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="judge rounds that are there")
    parser.add_argument("--self-test", action="store_true", help="judge rounds by hand, most of them wrong")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    if args.judge:
        counts: collections.Counter[str] = collections.Counter()
        failures = judge(args.judge.read_text(), counts)
        print(", ".join(f"{number} {name}" for name, number in counts.items()))
        return 1 if failures else 0
    if not args.program or not os.access(args.program, os.X_OK):
        parser.error('--program: where is the program "operations"? It is in tests/ of a build folder')
    seed = random.SystemRandom().randrange(1 << 30) if args.seed is None else args.seed
    print(f"seed {seed}; again: tests/torture/{Path(__file__).name} --program {args.program} --seed SEED", flush=True)
    return run(args.program, args.seconds, seed, args.seed is not None)


if __name__ == "__main__":
    sys.exit(main())
