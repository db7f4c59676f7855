#!/usr/bin/env python3
"""Judges histories of transactions: is there one order of all of them, in real time, that explains what each one saw?

The program "history" (history.c) runs processes on a store, kills some of them, and writes down what each attempt at
a transaction read and wrote. Every value is written once and no write is blind, so that the history itself tells the
order of the versions of each list and register:

  - a list's versions are its prefixes: the longest read of a generation shows them all, and whoever cleared the
    list had read the last one;
  - whoever set a register had read the version before.

From the orders follow dependencies between attempts: ww (overwrote its version), wr (read its version), rw (overwrote
the version it had read), and rt (ended before it began, by the clock or in the same process). A cycle of them has no
explanation by any order. Attempts that failed, or were undone on purpose, take part with what they read: they too must
have seen one state of the store. An attempt of a process that was killed counts if anybody saw its effects, and then
it was over when the process was dead.

    serializable.py [--seconds N] [--seed N] --program PATH    runs the program again and again and judges each history
    serializable.py --judge DIRECTORY                          judges one history
    serializable.py --self-test                                histories by hand, each with one anomaly to be found
"""

import argparse
import collections
import dataclasses
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

WIDTH = 8  # digits of a value
WW, WR, RW, RT = range(4)
KINDS = ("ww", "wr", "rw", "rt")
SHOWN_MAX = 3  # anomalies of one kind that are told in full


@dataclasses.dataclass(slots=True, eq=False)
class Attempt:
    """One attempt at a transaction, or a single operation, as a process wrote it down."""

    source: str  # file:line
    invoked: int
    ops: str
    ended: int | None = None  # None: nobody knows, for its process is gone
    outcome: str = "unknown"  # ok, failed, unknown
    index: int = -1
    happened: bool = False
    lists: dict[str, str] = dataclasses.field(default_factory=dict)  # key: all that it found in the list
    lasts: dict[str, str] = dataclasses.field(default_factory=dict)  # key: the value at the end of the list or register
    parts: dict[str, str] = dataclasses.field(default_factory=dict)  # key: the beginning of the list
    writes: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # (key, value), not those that it undid
    befores: dict[str, str] = dataclasses.field(default_factory=dict)  # value that replaced: the value it replaced
    wholes: dict[str, str] = dataclasses.field(default_factory=dict)  # first value after a clear: the list before

    def __str__(self) -> str:
        outcome = {"ok": "committed", "failed": "failed"}.get(
            self.outcome, "unfinished, but it happened" if self.happened else "unfinished"
        )
        ops = self.ops if len(self.ops) <= 400 else f"{self.ops[:200]} ... {self.ops[-180:]}"
        return f"{self.source} ({outcome}): {ops}"


def values_of(text: str) -> list[str]:
    return [text[i : i + WIDTH] for i in range(0, len(text), WIDTH)]


# ---------------------------------------------------------------------------------------------------------- reading


def parse(name: str, text: str) -> list[Attempt]:
    """The attempts of one file. Lines that their writer's death cut short are left out: an attempt without a whole
    line never asked for its commit, an end without a whole line is not known."""
    attempts: list[Attempt] = []
    last: Attempt | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.endswith(" ."):
            continue
        kind, time_text, rest = line[:-2].split(" ", 2) if line[0] != "D" else (*line[:-2].split(" "), "")
        if kind == "T":
            last = Attempt(f"{name}:{number}", int(time_text), rest)
            attempts.append(last)
        elif last is not None and last.outcome == "unknown" and last.ended is None:
            last.ended = int(time_text)
            if kind == "E":
                last.outcome = rest
    return attempts


class History:
    """The attempts of a run, what they did, and what is wrong with it."""

    def __init__(self, files: Iterable[tuple[str, str]]) -> None:
        self.attempts: list[Attempt] = []
        self.sequences: list[list[Attempt]] = []
        self.anomalies: dict[str, list[str]] = collections.defaultdict(list)
        self.reads = self.edges = 0
        self.writer: dict[str, Attempt] = {}
        self.undone: dict[str, Attempt] = {}
        self.final: dict[tuple[Attempt, str], str] = {}  # the last value that an attempt gave a key
        self.order: dict[str, list[str]] = {}  # key: all its versions, each by the value that made it
        self.position: dict[tuple[str, str], int] = {}
        self.longest: dict[str, str] = {}  # first value of a generation of a list: all that was ever in it
        for name, text in files:
            attempts = parse(name, text)
            self.sequences.append(attempts)
            self.attempts += attempts
        for index, attempt in enumerate(self.attempts):
            attempt.index = index
            self.follow(attempt)
        self.find_orders()
        self.check_reads()
        self.find_cycles()

    def report(self, kind: str, text: str) -> None:
        self.anomalies[kind].append(text)

    # ---------------------------------------------------------------------------------------- one attempt by itself

    def inconsistent(self, attempt: Attempt, key: str, saw: str, expected: str) -> None:
        def tail(text: str) -> str:
            return text if len(text) <= 60 else "..." + text[-60:]

        self.report(
            "internal",
            f"{attempt}\n    saw {tail(saw) or 'nothing'} in {key}, where by what it had read and written itself "
            f"it should have seen {tail(expected)}",
        )

    def follow(self, attempt: Attempt) -> None:
        """Finds out what it read from others and what it wrote, and that it saw its own writes and nothing change."""
        own: dict[str, tuple[bool, str]] = {}  # key: does it hide what was there, and what the attempt added
        saved: list[tuple[dict[str, tuple[bool, str]], int]] = []
        for op in attempt.ops[2:].split():
            if op == "{":
                saved.append((dict(own), len(attempt.writes)))
            elif op == "}":
                saved.pop()
            elif op == "!":
                own, count = saved.pop()
                for _, value in attempt.writes[count:]:
                    self.undone[value] = attempt
                    attempt.befores.pop(value, None)
                    attempt.wholes.pop(value, None)
                del attempt.writes[count:]
            elif op.startswith("error:"):
                self.report("error", f"{attempt}\n    {op[6:]} is nothing that any state explains")
            else:
                self.follow_op(attempt, op, own)
        for key, value in attempt.writes:
            self.final[attempt, key] = value
        if attempt.outcome == "failed":
            for _, value in attempt.writes:
                self.undone[value] = attempt
            attempt.writes = []
            attempt.befores = {}
            attempt.wholes = {}
        attempt.happened = attempt.outcome == "ok"
        for _, value in attempt.writes:
            if value in self.writer:
                self.report("duplicate", f"{attempt}\n    wrote {value}, which was written by {self.writer[value]}")
            self.writer[value] = attempt

    def follow_op(self, attempt: Attempt, op: str, own: dict[str, tuple[bool, str]]) -> None:
        code, key, text = op.split(":")
        if code in "gw":
            key = "register " + key
        hides, added = own.get(key, (False, ""))
        if code == "a":
            own[key] = (hides, added + text)
            attempt.writes += ((key, value) for value in values_of(text))
        elif code in "cw":
            before = added[-WIDTH:] or attempt.lists.get(key, "")[-WIDTH:] or attempt.lasts.get(key, "")
            if before:
                attempt.befores[text] = before
            own[key] = (True, text)
            attempt.writes.append((key, text))
            if code == "c":
                attempt.wholes[text] = added if hides else attempt.lists.get(key, "") + added
        elif code == "p":
            attempt.parts[key] = text
            self.reads += 1
        else:
            self.reads += 1
            self.follow_read(attempt, code, key, text, hides, added)

    def follow_read(self, attempt: Attempt, code: str, key: str, text: str, hides: bool, added: str) -> None:
        if code == "r" and hides:
            if text != added:
                self.inconsistent(attempt, key, text, added)
        elif code == "r":
            found = text.removesuffix(added)
            known = attempt.lists.get(key, found)
            if text != known + added or attempt.lasts.get(key, found[-WIDTH:]) != found[-WIDTH:]:
                self.inconsistent(attempt, key, text, attempt.lasts.get(key, known) + added)
            else:
                attempt.lists[key] = found
        elif added:
            if text != added[-WIDTH:]:
                self.inconsistent(attempt, key, text, added[-WIDTH:])
        else:
            known = attempt.lists[key][-WIDTH:] if key in attempt.lists else attempt.lasts.setdefault(key, text)
            if text != known:
                self.inconsistent(attempt, key, text, known)

    def note_whole(self, text: str) -> None:
        """What was in a list at some moment."""
        if len(text) > len(self.longest.get(text[:WIDTH], "")):
            self.longest[text[:WIDTH]] = text

    # ------------------------------------------------------------------------------------------- orders of versions

    def find_orders(self) -> None:
        for attempt in self.attempts:
            if attempt.outcome != "failed":
                for text in attempt.lists.values():
                    self.note_whole(text)
        seen = {value for text in self.longest.values() for value in values_of(text)}
        for attempt in self.attempts:
            seen.update(attempt.lasts.values())
        for attempt in self.attempts:
            if attempt.outcome == "unknown":
                attempt.happened = any(value in seen for _, value in attempt.writes)
            if attempt.happened:
                for text in attempt.wholes.values():
                    self.note_whole(text)
        after: dict[str, list[str]] = collections.defaultdict(list)
        starts: dict[str, str] = {}
        for attempt in self.attempts:
            if not attempt.happened:
                continue
            for key, value in attempt.writes:
                if value in attempt.befores:
                    after[attempt.befores[value]].append(value)
                elif key not in starts:
                    starts[key] = value  # the first transaction of all gave each key its first value
        for key, first in starts.items():
            self.find_order(key, first, after)
        for attempt in self.attempts:
            if attempt.happened:
                for key, value in attempt.writes:
                    if (key, value) not in self.position:
                        self.report(
                            "lost write", f"{attempt}\n    wrote {value} to {key}, which is in no later version of it"
                        )

    def find_order(self, key: str, first: str, after: dict[str, list[str]]) -> None:
        order: list[str] = []
        starts = [first]
        while starts:
            generation = values_of(self.longest.get(starts[0], starts[0]))
            order += generation
            starts = [start for value in generation for start in after[value]]
            if len(starts) > 1:
                told = "".join(f"\n    {self.tell(start)}" for start in starts)
                self.report("incompatible order", f"{len(starts)} attempts replaced the same version of {key}:{told}")
        self.order[key] = order
        for at, value in enumerate(order):
            if (key, value) in self.position:
                self.report("duplicate", f"{value} is in {key} twice: {self.tell(value)}")
            self.position[key, value] = at
            if value not in self.writer:
                self.explain_foreign(key, value, "the history")

    def tell(self, value: str) -> str:
        return f"{value} of {self.writer.get(value) or self.undone.get(value) or 'nobody'}"

    def explain_foreign(self, key: str, value: str, reader: object) -> None:
        """A value that no attempt which happened has written."""
        if value in self.undone:
            self.report("G1a aborted read", f"{reader}\n    has {value} in {key}, which was undone: {self.tell(value)}")
        elif value in self.writer:
            self.report("foreign read", f"{reader}\n    has {value} in {key}, where it never was: {self.tell(value)}")
        else:
            self.report("garbage", f"{reader}\n    has {value} in {key}, which nobody wrote")

    # ------------------------------------------------------------------------------------------------- single reads

    def versions_read(self, attempt: Attempt) -> Iterator[tuple[str, int, bool]]:
        """The versions that it read: key, position in the order, and whether it read that there was no more."""
        for key, text in attempt.lists.items():
            if self.is_prefix(attempt, key, text):
                yield key, self.position[key, text[-WIDTH:]], True
        for key, value in attempt.lasts.items():
            if (key, value) not in self.position:
                self.explain_foreign(key, value, attempt)
            elif key not in attempt.lists:
                yield key, self.position[key, value], True
        for key, text in attempt.parts.items():
            if self.is_prefix(attempt, key, text):
                yield key, self.position[key, text[-WIDTH:]], False

    def is_prefix(self, attempt: Attempt, key: str, text: str) -> bool:
        whole = self.longest.get(text[:WIDTH], text[:WIDTH])
        if text and whole.startswith(text) and (key, text[-WIDTH:]) in self.position:
            return True
        if not text:
            self.report("G1b intermediate read", f"{attempt}\n    found {key} empty, as no transaction leaves it")
            return False
        foreign = [value for value in values_of(text) if (key, value) not in self.position]
        if foreign:
            self.explain_foreign(key, foreign[0], attempt)
        else:
            pairs = zip(values_of(text), [*values_of(whole), ""], strict=False)
            at = next(i for i, (one, other) in enumerate(pairs) if one != other)
            self.report(
                "incompatible order",
                f"{attempt}\n    found {values_of(text)[at]} at place {at} of {key}, "
                f"where others found {values_of(whole)[at : at + 1] or 'nothing'}",
            )
        return False

    def check_reads(self) -> None:
        self.read: list[list[tuple[str, int, bool]]] = []
        for attempt in self.attempts:
            versions = list(self.versions_read(attempt))
            self.read.append(versions)
            for key, at, is_last in versions:
                value = self.order[key][at]
                writer = self.writer.get(value)
                if is_last and writer is not None and writer is not attempt and self.final[writer, key] != value:
                    self.report(
                        "G1b intermediate read",
                        f"{attempt}\n    saw {key} end with {value}, an intermediate version of {writer}",
                    )

    # ------------------------------------------------------------------------------------------------------- cycles

    def find_cycles(self) -> None:
        count = len(self.attempts)
        graph: list[list[int]] = [[] for _ in range(count)]  # target * 4 + kind
        for order in self.order.values():
            writers = [self.writer.get(value) for value in order]
            for one, other in zip(writers, writers[1:], strict=False):
                if one is not other and one is not None and other is not None:
                    graph[one.index].append(other.index << 2 | WW)
        for attempt, versions in zip(self.attempts, self.read, strict=True):
            for key, at, is_last in versions:
                order = self.order[key]
                writer = self.writer.get(order[at])
                if writer is not None and writer is not attempt:
                    graph[writer.index].append(attempt.index << 2 | WR)
                if is_last and at + 1 < len(order):
                    writer = self.writer.get(order[at + 1])
                    if writer is not None and writer is not attempt:
                        graph[attempt.index].append(writer.index << 2 | RW)
        self.add_real_time(graph)
        self.edges = sum(map(len, graph))
        for component in components(graph):
            self.report_component(graph, component)

    def add_real_time(self, graph: list[list[int]]) -> None:
        """Edges from each attempt to those that began after its end: through moments, nodes of the graph that stand for
        "all that ended before" and lead to the next one."""
        for sequence in self.sequences:
            for one, other in zip(sequence, sequence[1:], strict=False):
                graph[one.index].append(other.index << 2 | RT)
        events = [(attempt.invoked, 0, attempt.index) for attempt in self.attempts]
        events += [(attempt.ended, 1, attempt.index) for attempt in self.attempts if attempt.ended is not None]
        events.sort()
        moment = -1
        ended: list[int] = []
        for _, is_end, index in events:
            if is_end:
                ended.append(index)
                continue
            if ended:
                graph.append([])
                for one in ended if moment < 0 else [*ended, moment]:
                    graph[one].append(len(graph) - 1 << 2 | RT)
                ended.clear()
                moment = len(graph) - 1
            if moment >= 0:
                graph[moment].append(index << 2 | RT)

    def report_component(self, graph: list[list[int]], component: list[int]) -> None:
        """Tells the cycle with the fewest kinds of dependencies, and of those a shortest one."""
        inside = set(component)
        for name, kinds, single in (
            ("G0 write cycle", {WW}, False),
            ("G1c circular information flow", {WW, WR}, False),
            ("G-single", {WW, WR}, True),
            ("G2", {WW, WR, RW}, False),
            ("G0 in real time", {WW, RT}, False),
            ("G1c in real time", {WW, WR, RT}, False),
            ("G-single in real time", {WW, WR, RT}, True),
            ("G2 in real time", {WW, WR, RW, RT}, False),
        ):
            cycle = shortest_cycle(graph, inside, kinds, single)
            if cycle:
                self.report(name, self.tell_cycle(cycle))
                return

    def tell_cycle(self, cycle: list[tuple[int, int]]) -> str:
        """cycle: nodes, each with the kind of the edge that leads on from it."""
        count = len(self.attempts)
        while cycle[0][0] >= count:
            cycle = cycle[1:] + cycle[:1]
        steps = [(node, kind) for node, kind in cycle if node < count]  # a moment only hands on
        names = {node: f"T{i + 1}" for i, (node, _) in enumerate(steps)}
        lines = [f"no order explains these {len(names)} attempts:"]
        lines += [f"    {names[node]} = {self.attempts[node]}" for node, _ in steps]
        for i, (node, kind) in enumerate(steps):
            target = steps[(i + 1) % len(steps)][0]
            why = self.tell_edge(self.attempts[node], self.attempts[target], kind)
            lines.append(f"    {names[node]} is before {names[target]} ({KINDS[kind]}): {why}")
        return "\n".join(lines)

    def tell_edge(self, one: Attempt, other: Attempt, kind: int) -> str:
        if kind == RT:
            if one.ended is not None and one.ended < other.invoked:
                return f"it had ended {(other.invoked - one.ended) / 1000:.1f} us before the other began"
            return "the same process ran one after the other"
        if kind == WW:
            for key, value in one.writes:
                at = self.position.get((key, value), -1) + 1
                if 0 < at < len(self.order[key]) and self.writer.get(self.order[key][at]) is other:
                    return f"{value} in {key} was followed by the other's {self.order[key][at]}"
        reader = other if kind == WR else one
        for key, at, is_last in self.read[reader.index]:
            value = self.order[key][at]
            if kind == WR and self.writer.get(value) is one:
                return f"the other read its {value} in {key}"
            if kind == RW and is_last and self.writer.get((self.order[key][at + 1 :] or [""])[0]) is other:
                return f"it read {key} when that ended with {value}, before the other wrote {self.order[key][at + 1]}"
        return "?"


def components(graph: list[list[int]]) -> list[list[int]]:
    """The strongly connected components of more than one node, after Tarjan, without recursion."""
    number = [0] * len(graph)
    low = [0] * len(graph)
    done = bytearray(len(graph))
    stack: list[int] = []
    found = []
    count = 0
    for root in range(len(graph)):
        if number[root]:
            continue
        count += 1
        number[root] = low[root] = count
        stack.append(root)
        path = [(root, iter(graph[root]))]
        while path:
            node, edges = path[-1]
            for edge in edges:
                target = edge >> 2
                if not number[target]:
                    count += 1
                    number[target] = low[target] = count
                    stack.append(target)
                    path.append((target, iter(graph[target])))
                    break
                if not done[target] and number[target] < low[node]:
                    low[node] = number[target]
            else:
                path.pop()
                if path and low[node] < low[path[-1][0]]:
                    low[path[-1][0]] = low[node]
                if low[node] == number[node]:
                    component = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        done[component[-1]] = 1
                    if len(component) > 1:
                        found.append(component)
    return found


def shortest_cycle(
    graph: list[list[int]], inside: set[int], kinds: set[int], single: bool
) -> list[tuple[int, int]] | None:
    """A shortest cycle of edges of these kinds; single: with one rw edge more, where it starts. Its nodes, each with
    the kind of the edge that leads on."""
    best = None
    for start in sorted(inside)[:2000]:
        firsts = [e for e in graph[start] if e >> 2 in inside and ((e & 3 == RW) if single else (e & 3 in kinds))]
        came: dict[int, tuple[int, int]] = {}
        queue: collections.deque[int] = collections.deque()
        for edge in firsts:
            if edge >> 2 not in came:
                came[edge >> 2] = (start, edge & 3)
                queue.append(edge >> 2)
        while queue and start not in came:
            node = queue.popleft()
            for edge in graph[node]:
                if edge & 3 in kinds and edge >> 2 in inside and edge >> 2 not in came:
                    came[edge >> 2] = (node, edge & 3)
                    queue.append(edge >> 2)
        if start in came:
            cycle = []
            node = start
            while not cycle or node != start:
                node, kind = came[node]
                cycle.append((node, kind))
            if best is None or len(cycle) < len(best):
                best = cycle[::-1]
            if len(best) <= 2:
                break
    return best


# ---------------------------------------------------------------------------------------------------------- running


def read_directory(directory: Path) -> History:
    return History((path.name, path.read_text(errors="replace")) for path in sorted(directory.iterdir()))


def print_anomalies(anomalies: dict[str, list[str]]) -> None:
    for kind, texts in sorted(anomalies.items()):
        print(f"FAILED: {kind}: {len(texts)}")
        for text in texts[:SHOWN_MAX]:
            print(f"  {text}")


def run(program: str, seconds: float, seed: int, only_once: bool) -> int:
    """History after history, until the time is up; the exit code."""
    totals: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    while not totals["histories"] or (not only_once and time.monotonic() - began < seconds):
        directory = Path(tempfile.mkdtemp(prefix="shobj-history-"))
        shape = random.Random(seed)
        workers, every_us = shape.choice((2, 3, 4, 6)), shape.choice((500, 1500, 5000, 1000000))
        arguments = (1, seed, workers, every_us, shape.choice((4_000_000, 8_000_000)))
        command = [program, str(directory), *map(str, arguments)]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            print(f"FAILED: it does not end: {' '.join(command)}")
            return 1
        history = read_directory(directory)
        for line in done.stdout.splitlines():
            name, _, number = line.partition(" ")
            if name.isalpha() and number.isdigit():
                totals[name] += int(number)
            else:
                print(line)
        totals["histories"] += 1
        totals["attempts"] += len(history.attempts)
        totals["committed"] += sum(attempt.outcome == "ok" for attempt in history.attempts)
        totals["unfinished"] += sum(attempt.outcome == "unknown" for attempt in history.attempts)
        totals["unfinished that happened"] += sum(a.happened and a.outcome == "unknown" for a in history.attempts)
        totals["reads"] += history.reads
        totals["edges"] += history.edges
        if done.returncode != 0 or history.anomalies:
            print_anomalies(history.anomalies)
            print(f"exit code {done.returncode} of {' '.join(command)}")
            print(f"the history is kept; again: {Path(__file__).name} --judge {directory}")
            return 1
        shutil.rmtree(directory)
        seed += 1
    print(", ".join(f"{number} {name}" for name, number in totals.items()))
    if not totals["committed"] or not totals["edges"]:
        print("FAILED: nothing was committed")
        return 1
    return 0


# -------------------------------------------------------------------------------------------------------- self-test

FIRST = "T 1 t c:0:000000c0 c:1:000000c1 w:0:000000f0 .\nE 2 ok .\n"
L0, L1 = "000000c0", "000000c1"  # the first values of the lists
A, B, C, D = "0000000a", "0000000b", "0000000c", "0000000d"

# name: (kinds of anomalies that must be found, and no others; the files).
CASES: dict[str, tuple[set[str], list[str]]] = {
    "nothing is wrong": (
        set(),
        [
            f"T 3 t a:0:{A} g:0:000000f0 w:0:{B} .\nE 9 ok .\nT 10 s p:0:{L0}{A} .\nE 11 ok .\n",
            f"T 4 t l:0:{L0} g:0:000000f0 .\nE 8 ok .\n"
            f"T 10 t r:0:{L0}{A} {{ a:0:{C} r:0:{L0}{A}{C} ! r:0:{L0}{A} c:0:{D} .\nE 12 ok .\n"
            f"T 13 t r:0:{D} l:0:{D} .\nE 14 ok .\n",
        ],
    ),
    "an unfinished attempt that happened, and one that did not": (
        set(),
        [f"T 3 t a:0:{A} .\nT 4 t a:0\nD 5 .\nT 6 t a:1:{B} .\nD 7 .\n", f"T 8 t r:0:{L0}{A} r:1:{L1} .\nE 9 ok .\n"],
    ),
    "half of an unfinished attempt": (
        {"lost write"},
        [f"T 3 t a:0:{A} a:1:{B} .\nD 5 .\n", f"T 8 t r:0:{L0}{A} r:1:{L1} .\nE 9 ok .\n"],
    ),
    "an unfinished attempt that happens after the death": (
        {"G-single in real time"},
        [f"T 3 t a:0:{A} .\nD 5 .\n", f"T 6 t r:0:{L0} .\nE 7 ok .\nT 8 t r:0:{L0}{A} .\nE 9 ok .\n"],
    ),
    "a value twice": ({"duplicate"}, [f"T 3 t a:0:{A} .\nE 4 ok .\nT 5 t r:0:{L0}{A}{A} .\nE 6 ok .\n"]),
    "a lost append": ({"lost write"}, [f"T 3 t a:0:{A} .\nE 9 ok .\n", f"T 3 t r:0:{L0} .\nE 9 ok .\n"]),
    "a lost single append": (
        {"lost write"},
        [f"T 3 s a:0:{A} .\nE 5 ok .\nT 6 s a:0:{B} .\nE 7 ok .\nT 8 t r:0:{L0}{B} .\nE 9 ok .\n"],
    ),
    "an aborted read": (
        {"G1a aborted read"},
        [f"T 3 t a:0:{A} .\nE 9 failed .\n", f"T 3 t r:0:{L0}{A} .\nE 9 ok .\n"],
    ),
    "a read of an undone block": (
        {"G1a aborted read"},
        [f"T 3 t {{ a:0:{A} ! .\nE 9 ok .\n", f"T 3 t l:0:{A} .\nE 9 ok .\n"],
    ),
    "a failed attempt that read what was aborted": (
        {"G1a aborted read"},
        [f"T 3 t a:0:{A} .\nE 9 failed .\n", f"T 3 t r:0:{L0}{A} .\nE 9 failed .\n"],
    ),
    "an intermediate read": (
        {"G1b intermediate read", "G-single"},
        [f"T 3 t a:0:{A} a:0:{B} .\nE 9 ok .\n", f"T 3 t l:0:{A} .\nE 8 ok .\nT 9 t r:0:{L0}{A}{B} .\nE 10 ok .\n"],
    ),
    "a cleared list": (
        {"G1b intermediate read"},
        [f"T 3 t r:0:{L0} c:0:{A} .\nE 9 ok .\n", f"T 3 t r:0: .\nE 8 ok .\nT 9 t r:0:{A} .\nE 10 ok .\n"],
    ),
    "own writes not seen": ({"internal"}, [f"T 3 t a:0:{A} r:0:{L0} .\nE 4 ok .\nT 5 t r:0:{L0}{A} .\nE 6 ok .\n"]),
    "a read that is not repeatable": (
        {"internal"},
        [f"T 3 t a:0:{A} .\nE 9 ok .\n", f"T 3 t r:0:{L0} l:0:{A} .\nE 9 ok .\nT 10 t r:0:{L0}{A} .\nE 11 ok .\n"],
    ),
    "an undone block that is seen by its own transaction": (
        {"internal"},
        [f"T 3 t r:0:{L0} {{ a:0:{A} ! r:0:{L0}{A} .\nE 9 ok .\n"],
    ),
    "reads that do not agree": (
        {"incompatible order"},
        [
            f"T 3 t a:0:{A} .\nE 9 ok .\nT 10 t r:0:{L0}{A}{B} .\nE 13 ok .\n",
            f"T 3 t a:0:{B} .\nE 9 ok .\nT 10 t r:0:{L0}{B} .\nE 13 ok .\n",
        ],
    ),
    "a register set twice from one version": (
        {"incompatible order", "lost write"},
        [
            f"T 3 t g:0:000000f0 w:0:{A} .\nE 9 ok .\nT 10 t g:0:{A} .\nE 13 ok .\n",
            f"T 3 t g:0:000000f0 w:0:{B} .\nE 9 ok .\n",
        ],
    ),
    "garbage": ({"garbage"}, ["T 3 t l:0:???????? .\nE 4 ok .\n"]),
    "the value of another key": ({"foreign read"}, [f"T 3 t l:0:{L1} .\nE 4 ok .\n"]),
    "an error": ({"error"}, ["T 3 t error:ENOTFOUND .\nE 4 failed .\n"]),
    "G0": (
        {"G0 write cycle"},
        [
            f"T 3 t a:0:{A} a:1:{B} .\nE 9 ok .\nT 10 t r:0:{L0}{A}{C} r:1:{L1}{D}{B} .\nE 13 ok .\n",
            f"T 3 t a:0:{C} a:1:{D} .\nE 9 ok .\n",
        ],
    ),
    "G1c": (
        {"G1c circular information flow"},
        [f"T 3 t a:0:{A} r:1:{L1}{B} .\nE 9 ok .\n", f"T 3 t a:1:{B} r:0:{L0}{A} .\nE 9 ok .\n"],
    ),
    "G-single: read skew": (
        {"G-single"},
        [
            f"T 3 t a:0:{A} a:1:{B} .\nE 9 ok .\n",
            f"T 3 t l:0:{L0} r:1:{L1}{B} .\nE 9 ok .\nT 10 t r:0:{L0}{A} .\nE 11 ok .\n",
        ],
    ),
    "G-single: a failed attempt saw two states": (
        {"G-single"},
        [
            f"T 3 t a:0:{A} a:1:{B} .\nE 9 ok .\n",
            f"T 3 t l:0:{L0} r:1:{L1}{B} .\nE 9 failed .\nT 10 t r:0:{L0}{A} r:1:{L1}{B} .\nE 11 ok .\n",
        ],
    ),
    "G-single: a lost update of a list": (
        {"G-single"},
        [
            f"T 3 t r:0:{L0} a:0:{A} .\nE 9 ok .\n",
            f"T 3 t r:0:{L0} a:0:{B} .\nE 9 ok .\nT 10 t r:0:{L0}{A}{B} .\nE 11 ok .\n",
        ],
    ),
    "G2: write skew": (
        {"G2"},
        [
            f"T 3 t r:0:{L0} a:1:{A} .\nE 9 ok .\nT 10 t r:0:{L0}{B} r:1:{L1}{A} .\nE 11 ok .\n",
            f"T 3 t r:1:{L1} a:0:{B} .\nE 9 ok .\n",
        ],
    ),
    "a stale read": (
        {"G-single in real time"},
        [f"T 3 t a:0:{A} .\nE 4 ok .\n", f"T 5 t r:0:{L0} .\nE 6 ok .\nT 7 t r:0:{L0}{A} .\nE 8 ok .\n"],
    ),
    "a stale read by a failed attempt": (
        {"G-single in real time"},
        [f"T 3 t a:0:{A} .\nE 4 ok .\n", f"T 5 t r:0:{L0} .\nE 6 failed .\nT 7 t r:0:{L0}{A} .\nE 8 ok .\n"],
    ),
    "the same process goes back": (
        {"G-single in real time"},
        [f"T 3 t a:0:{A} .\nE 20 ok .\n", f"T 5 t r:0:{L0}{A} .\nE 6 ok .\nT 6 t r:0:{L0} .\nE 8 ok .\n"],
    ),
    "a later append comes first": (
        {"G0 in real time"},
        [f"T 3 s a:0:{A} .\nE 4 ok .\n", f"T 5 s a:0:{B} .\nE 6 ok .\nT 7 t r:0:{L0}{B}{A} .\nE 8 ok .\n"],
    ),
    "read before it was written": (
        {"G1c in real time"},
        [f"T 3 t l:0:{A} .\nE 4 ok .\n", f"T 5 t a:0:{A} .\nE 6 ok .\nT 7 t r:0:{L0}{A} .\nE 8 ok .\n"],
    ),
    "write skew by three, two of them one after the other": (
        {"G2 in real time"},
        [
            f"T 3 t r:1:{L1} a:0:{B} .\nE 30 ok .\nT 31 t r:0:{L0}{B} r:1:{L1}{A} .\nE 32 ok .\n",
            f"T 3 s a:1:{A} .\nE 4 ok .\n",
            f"T 5 t r:0:{L0} .\nE 6 ok .\n",
        ],
    ),
}


def self_test() -> int:
    failures = 0
    for name, (expected, files) in CASES.items():
        history = History([("first-0", FIRST), *((f"worker-{i}", text) for i, text in enumerate(files))])
        found = set(history.anomalies)
        if found != expected:
            failures += 1
            print(f"FAILED: {name}: found {sorted(found)}, not {sorted(expected)}")
            print_anomalies(history.anomalies)
    print(f"{len(CASES)} histories by hand, {failures} judged wrongly")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Judges histories of transactions.")
    parser.add_argument("--program", help='the program "history"')
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, help="of the first history; then just this one is made")
    parser.add_argument("--judge", type=Path, metavar="DIRECTORY", help="judge a history that is there")
    parser.add_argument("--self-test", action="store_true", help="judge histories by hand, most of them wrong")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    if args.judge:
        history = read_directory(args.judge)
        print(f"{len(history.attempts)} attempts, {history.reads} reads, {history.edges} edges")
        print_anomalies(history.anomalies)
        return 1 if history.anomalies else 0
    if not args.program or not os.access(args.program, os.X_OK):
        parser.error('--program: where is the program "history"? It is in tests/ of a build folder')
    seed = random.SystemRandom().randrange(1 << 30) if args.seed is None else args.seed
    print(f"seed {seed}; again: tests/torture/{Path(__file__).name} --program {args.program} --seed SEED", flush=True)
    return run(args.program, args.seconds, seed, args.seed is not None)


if __name__ == "__main__":
    sys.exit(main())
