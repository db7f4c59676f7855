#!/usr/bin/env python3
"""Breaks the engine's rules one after the other, and expects the tests to notice each time.

Each mutant (mutants/*.txt) is a small change of the source, with the rule that it breaks and the tests that are to turn
red. It is made in a copy of the tree, which is then built, as far as these tests need it, and tested. A mutant
that no test notices has survived: a rule that nothing tests, or that is none. The unchanged copy must be green first.

    mutants.py [--list] [--keep] [NAME...]

Exit code 1: one has survived, or the tests fail without any change. 2: the text of a mutant is not in the source just
once; the source has changed, adapt the mutant.
"""

import argparse
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TORTURE = ROOT / "tests" / "torture"
NEEDED = ("CMakeLists.txt", "cmake", "store", "tests")
CHECKERS = {"serializable": "history", "linearizable": "operations"}  # with their programs
PROGRAMS = {  # other tests that are no unit tests
    "wakes": ("contention", "wake", "100"),
    "schedules": ("test_schedule", "3000"),
    "gc_schedule": ("test_gc_schedule", "600"),
}


@dataclasses.dataclass
class Mutant:
    name: str
    place: str  # where it is described
    rule: str = ""  # that it breaks
    tests: tuple[str, ...] = ()  # that are expected to notice, in this order; one that needs luck more than once
    fault: str = ""  # where the workers of a checker die or stop: kill@POINT, stop@POINT
    changes: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)  # file, text in it, text instead


class BadMutant(Exception):
    """A description that can't be read, or does not fit the source any more."""


def parse(path: Path) -> list[Mutant]:
    """The mutants of a file: each "== NAME", "rule: TEXT", "tests: NAME ...", "fault: kill@POINT" (or stop) if a
    checker must have workers die there, and for each change "<<<< FILE" (under store/), the lines to be replaced,
    "----", the lines instead, ">>>>". Between mutants "#" begins a comment."""
    mutants: list[Mutant] = []
    part: list[str] | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        place = f"{path.relative_to(TORTURE)}:{number}"
        one = mutants[-1] if mutants else None
        if part is not None and line not in ("----", ">>>>"):
            part.append(line)
        elif line.startswith("== "):
            mutants.append(Mutant(line[3:], place))
        elif line.startswith("#") or not line:
            continue
        elif one is None:
            raise BadMutant(f'{place}: a mutant begins with "== NAME"')
        elif line.startswith("rule: "):
            one.rule = line[6:]
        elif line.startswith("tests: "):
            one.tests = tuple(line[7:].split())
        elif line.startswith("fault: "):
            one.fault = line[7:]
        elif line.startswith("<<<< "):
            file, old, new = line[5:], [], []
            part = old
        elif line == "----" and part is not None:
            part = new
        elif line == ">>>>" and part is not None:
            one.changes.append((file, "\n".join(old), "\n".join(new)))
            part = None
        else:
            raise BadMutant(f"{place}: can't be understood: {line}")
    for one in mutants:
        if not (one.rule and one.tests and one.changes) or part is not None:
            raise BadMutant(f"{one.place}: {one.name}: a rule, tests or changes are missing")
    return mutants


def misfits(mutants: list[Mutant]) -> list[str]:
    """Changes whose text is not in the source just once."""
    found = []
    for one in mutants:
        for file, old, _ in one.changes:
            path = ROOT / "store" / file
            count = path.read_text().count(old) if path.exists() else 0
            if count != 1:
                found.append(f"{one.place}: {one.name}: {count} times in store/{file}, not once:\n{old}")
    return found


# ---------------------------------------------------------------------------------------------------------------- tests


class Bench:
    """A copy of the tree that mutants are made, built and tested in."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.build = folder / "build"
        self.scratch = folder / "scratch"
        self.heaps = Path(tempfile.mkdtemp(prefix="shobj-mutants-", dir="/dev/shm"))
        for directory in (self.source, self.scratch):
            directory.mkdir()
        for name in NEEDED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.source / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))
            else:
                shutil.copy(ROOT / name, self.source / name)
        self.limits_s: dict[str, float] = {}  # what takes longer than this hangs; by how long it takes unchanged
        self.environment = os.environ | {"SHOBJ_DIR": str(self.heaps), "TMPDIR": str(self.scratch), "SHOBJ_SEED": "1"}

    def command(self, test: str) -> list[str]:
        if test not in CHECKERS:
            program, *arguments = PROGRAMS.get(test, (f"test_{test}",))
            return [str(self.build / "tests" / program), *arguments]
        checker, program = TORTURE / f"{test}.py", self.build / "tests" / CHECKERS[test]
        return [sys.executable, str(checker), "--seconds", "8", "--program", str(program)]

    def run(self, command: list[str], limit_s: float, more: dict[str, str] | None = None) -> tuple[str, str]:
        """How a command ended ("" if well), and what it said."""
        with (self.scratch / "output").open("w+", errors="replace") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment | (more or {}),
                cwd=self.scratch,
                start_new_session=True,
            )
            try:
                code = process.wait(limit_s)
                how = "" if code == 0 else f"exit code {code}" if code > 0 else f"signal {-code}"
            except subprocess.TimeoutExpired:
                how = "hangs"
            try:
                os.killpg(
                    process.pid, signal.SIGKILL
                )  # also the workers that a test has left, which are of its session
            except ProcessLookupError:
                pass
            process.wait()
            output.seek(0)
            return how, output.read()

    def must(self, command: list[str]) -> None:
        how, output = self.run(command, 600)
        if how:
            raise RuntimeError(f"{' '.join(command)}: {how}\n{output[-3000:]}")

    def configure(self) -> None:
        flags = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_C_FLAGS_DEBUG=-O1 -w", "-DSHOBJ_FAULTS=ON", "-DSHOBJ_LTO=OFF")
        self.must(["cmake", "-S", str(self.source), "-B", str(self.build), "-G", "Ninja", *flags])

    def make(self, tests: set[str]) -> None:
        targets = sorted({CHECKERS.get(test) or PROGRAMS.get(test, (f"test_{test}",))[0] for test in tests})
        self.must(["cmake", "--build", str(self.build), "-j", str(os.cpu_count() or 1), "--target", *targets])

    def first_red(self, tests: Iterable[str], fault: str = "") -> tuple[str, str] | None:
        """The first test that fails and how, and what it said."""
        for test in tests:
            began = time.monotonic()
            how, output = self.run(self.command(test), self.limits_s.get(test, 300), {"HISTORY_FAULT": fault})
            self.limits_s.setdefault(test, 20 + 5 * (time.monotonic() - began))
            if how:
                return f"{test} ({how})", output
        return None

    def apply(self, changes: list[tuple[str, str, str]]) -> dict[Path, str]:
        """Makes the changes; what the files were."""
        before: dict[Path, str] = {}
        for name, _, _ in changes:
            path = self.source / "store" / name
            before[path] = path.read_text()
        texts = dict(before)
        for name, old, new in changes:
            path = self.source / "store" / name
            texts[path] = texts[path].replace(old, new)
        for path, text in texts.items():
            path.write_text(text)
        return before


def judge(bench: Bench, chosen: list[Mutant]) -> int:
    tests = {test for one in chosen for test in one.tests}
    began = time.monotonic()
    bench.configure()
    bench.make(tests)
    red = bench.first_red(sorted(tests))
    if red is not None:
        print(f"the tests fail without any change: {red[0]}\n{red[1][-3000:]}")
        return 1
    print(f"{len(tests)} tests are green without any change ({time.monotonic() - began:.0f} s)", flush=True)
    survivors = 0
    width = max(len(one.name) for one in chosen)
    for one in chosen:
        before = bench.apply(one.changes)
        try:
            bench.make(set(one.tests))
            red = bench.first_red(one.tests, one.fault)
        finally:
            for path, text in before.items():
                path.write_text(text)
        survivors += red is None
        print(f"{one.name:{width}}  {red[0] if red else 'SURVIVED ' + ', '.join(one.tests):24}  {one.rule}", flush=True)
    noticed = len(chosen) - survivors
    print(f"{len(chosen)} mutants, {noticed} noticed, {survivors} survived, {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Breaks the engine's rules and expects the tests to notice.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of mutants, or words in them (default: all)")
    parser.add_argument("--list", action="store_true", help="names and rules")
    parser.add_argument("--keep", action="store_true", help="keep the copy of the tree")
    args = parser.parse_args()
    try:
        mutants = [one for path in sorted((TORTURE / "mutants").glob("*.txt")) for one in parse(path)]
    except BadMutant as error:
        print(error)
        return 2
    chosen = [one for one in mutants if not args.names or any(name in one.name for name in args.names)]
    if not chosen:
        parser.error("no mutant of that name; --list tells them")
    if args.list:
        for one in chosen:
            print(f"{one.name}: {one.rule} ({', '.join(one.tests)})")
        return 0
    found = misfits(chosen)
    if found:
        print("these mutants do not fit the source any more:", *found, sep="\n")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="shobj-mutants-"))
    bench = Bench(folder)
    try:
        return judge(bench, chosen)
    except RuntimeError as error:
        print(error)
        return 1
    finally:
        shutil.rmtree(bench.heaps, ignore_errors=True)
        if args.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
