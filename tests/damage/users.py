#!/usr/bin/env python3
"""Damaged heaps through the command, the Python package and the mount: users.py [--count N] [--seed SEED].

Each heap (made by the program `damage`) is read and changed by each of them, every time from a fresh copy. Asked for:
no death by a signal, an end within ten seconds, an exit code of the table, a message with each failure; in Python no
exception but shobj.Error, KeyError and IndexError; a mount that goes on answering until it is unmounted, with whatever
errors. A repaired heap has to be whole. A failure names the heap's seed; `users.py --count 1 --seed SEED` is it again.
"""

import argparse
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS_MAX = 10
NAMES_MAX = 1000  # to look at in a mount: each costs several calls
NOT_MOUNTED = {errno.ENOTCONN, errno.ECONNABORTED}
EXIT_CODES = range(0, 8)

# What a Python user does with a heap; argv: path, flag, seed.
WORKER = """
import itertools, random, sys
import shobj
path, flag, rng = sys.argv[1], sys.argv[2], random.Random(int(sys.argv[3]))

def tried(call, *args):
    try:
        return call(*args)
    except (shobj.Error, KeyError, IndexError):
        return None

def walk(store):
    found, queue, seen = [store.root], [store.root], set()
    while queue and len(found) < 200:
        at = queue.pop()
        def visit():
            for item in itertools.islice(at.items() if isinstance(at, shobj.Dict) else enumerate(at), 3000):
                value = item[1]
                hash(item[0]), at.get(item[0]) if isinstance(at, shobj.Dict) else at[item[0]]
                for part in value if isinstance(value, tuple) else (value,):
                    if isinstance(part, (shobj.Dict, shobj.List)) and part.oid not in seen:
                        seen.add(part.oid), found.append(part), queue.append(part)
        tried(visit)
        tried(len, at)
        tried(lambda: list(itertools.islice(reversed(at), 100)))
    return found

def change(at):
    number = rng.randrange(800)
    value = rng.choice([1, "text " * 20, b"x" * 9000, [1, {"a": 2}], (1, (2, "three"))])
    if isinstance(at, shobj.Dict):
        key = rng.choice([number, f"k{number}", f"a longer key {number}"])
        rng.choice([lambda: at.__setitem__(key, value), lambda: at.pop(key), lambda: at.setdefault(key, value),
                    lambda: at.update({key: value, "other": 1}), lambda: at.popitem()])()
    else:
        rng.choice([lambda: at.append(value), lambda: at.pop(), lambda: at.insert(number % 90, value),
                    lambda: at.pop(0), lambda: at.__setitem__(number % 90, value), lambda: at.extend([1, value]),
                    lambda: at.reverse(), lambda: at.__delitem__(slice(3, 9))])()

def main():
    store = shobj.open_store(path, flag=flag)
    tried(store.stat), tried(store.check)
    found = walk(store)
    if flag == "w":
        for _ in range(60):
            tried(change, rng.choice(found))
        for _ in range(10):
            def several():
                with store.transaction():
                    for _ in range(4):
                        change(rng.choice(found))
            tried(several)
        tried(rng.choice(found).clear)
        walk(store)
    store.close()

tried(main)
"""


class Heap:
    """One damaged heap, and the failures found with it."""

    def __init__(self, file: Path, folder: Path, seed: int) -> None:
        self.file, self.seed, self.folder = file, seed, folder
        self.copy = folder / "heap"
        self.failures: list[str] = []

    def fresh(self) -> str:
        self.copy.unlink(missing_ok=True)
        subprocess.run(["cp", "--sparse=always", self.file, self.copy], check=True)
        return str(self.copy)

    def fail(self, what: str) -> None:
        self.failures.append(f"seed {self.seed}: {what}")

    def run(self, what: str, command: list[str], codes: range, given: str = "") -> int | None:
        """Runs a command to its end and judges that; the exit code, or None if it had none."""
        try:
            done = subprocess.run(command, input=given.encode(), capture_output=True, timeout=SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired:
            self.fail(f"{what}: not over after {SECONDS_MAX} s")
            return None
        message = done.stderr.decode(errors="replace").strip()
        if done.returncode < 0:
            self.fail(f"{what}: died by {signal.Signals(-done.returncode).name}")
        elif done.returncode not in codes:
            self.fail(f"{what}: exit code {done.returncode}: {message[-600:]}")
        elif done.returncode > 0 and not message:
            self.fail(f"{what}: exit code {done.returncode} without a message")
        else:
            return done.returncode
        return None


def use_command(heap: Heap) -> None:
    path = heap.fresh()
    for command in ("check", "stat", "ps", "dump", "ls -l", "tree -L 3"):
        verb, *options = command.split()
        address = path if verb in ("check", "stat", "ps") else path + ":"
        heap.run(command, ["shobj", verb, *options, address], EXIT_CODES)
    heap.run("get", ["shobj", "get", path + ":/dict/k3"], EXIT_CODES)
    heap.run("cat", ["shobj", "cat", path + ":/list/0"], EXIT_CODES)
    heap.run("set", ["shobj", "set", path + ":/new", "[1, {'a': (2, 'three')}]"], EXIT_CODES)
    heap.run("set deep", ["shobj", "set", path + ":/dict/k3", "'a text that needs a block'"], EXIT_CODES)
    heap.run("append", ["shobj", "set", path + ":/list/-", "1"], EXIT_CODES)
    heap.run("del", ["shobj", "del", path + ":/dict"], EXIT_CODES)
    dump = '{"a": [1, 2, {"$bytes": "AAAA"}], "b": {"$ref": "/a"}}'
    heap.run("load", ["shobj", "load", path + ":/list"], EXIT_CODES, dump)
    heap.run("ps --reap", ["shobj", "ps", "--reap", path], EXIT_CODES)
    repaired = heap.run("check --repair", ["shobj", "check", "--repair", path], EXIT_CODES)
    if repaired == 0:
        heap.run("check of the repaired heap", ["shobj", "check", path], range(1))
    heap.run("rm --force", ["shobj", "rm", "--force", path], EXIT_CODES)


def use_python(heap: Heap) -> None:
    for flag in "rw":
        heap.run(f"Python, flag {flag}", [sys.executable, "-c", WORKER, heap.fresh(), flag, str(heap.seed)], range(1))


def walk_mount(where: Path) -> int:
    """In a process of its own: the exit code is 1 if the mount does not answer any more."""
    names = 0
    gone: list[OSError] = []

    def note(error: OSError) -> None:
        if error.errno in NOT_MOUNTED:
            gone.append(error)

    for folder, folders, files in os.walk(where, onerror=note):
        for name in [*folders, *files, ".json"]:
            path = os.path.join(folder, name)
            names += 1
            try:
                os.lstat(path)
                os.getxattr(path, "user.shobj.type", follow_symlinks=False)
                with open(path, "rb") as file:
                    file.read(1 << 20)
            except OSError as error:
                note(error)
        if names > NAMES_MAX or gone:
            break
    if gone:
        print(f"after {names} names: {gone[0]}", file=sys.stderr)
    return 1 if gone else 0


def is_mounted(where: Path) -> bool:
    return f" {where} fuse.shobjfs " in Path("/proc/mounts").read_text()


def use_mount(heap: Heap) -> None:
    where = heap.folder / "mnt"
    where.mkdir(exist_ok=True)
    with subprocess.Popen(["shobjfs", "-f", heap.fresh(), where], stderr=subprocess.PIPE) as mount:
        end = time.monotonic() + SECONDS_MAX
        while mount.poll() is None and not is_mounted(where) and time.monotonic() < end:
            time.sleep(0.005)  # between two looks at the condition
        if mount.poll() is None:
            heap.run("walking the mount", [sys.executable, __file__, "--walk", str(where)], range(1))
            mount.terminate()
        try:
            _, message = mount.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            mount.kill()
            heap.fail(f"the mount does not end within {SECONDS_MAX} s")
            return
        finally:
            if is_mounted(where):
                subprocess.run(["fusermount3", "-u", "-z", where], check=False)
    if mount.returncode not in EXIT_CODES:
        heap.fail(f"the mount: exit code {mount.returncode}: {message.decode(errors='replace')[-600:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="heaps (default: 500)")
    parser.add_argument("--seed", type=int, default=None, help="of the first heap; the others follow")
    parser.add_argument("--walk", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.walk:
        return walk_mount(args.walk)
    seed = args.seed if args.seed is not None else random.randrange(1, 10**9)
    maker = Path(os.environ["SHOBJ_BUILD"]) / "tests/damage"
    mounts = os.path.exists("/dev/fuse") and shutil.which("fusermount3") is not None
    failures: list[str] = []
    began = told = time.monotonic()
    with tempfile.TemporaryDirectory(dir=os.environ.get("SHOBJ_DIR", "/dev/shm"), prefix="users-") as name:
        folder = Path(name)
        for number in range(seed, seed + args.count):
            subprocess.run([maker, "--write", folder, "1", str(number)], check=True)
            heap = Heap(folder / f"{number}.heap", folder, number)
            for use in (use_command, use_python, *((use_mount,) if mounts else ())):
                use(heap)
            heap.file.unlink()
            for line in heap.failures:
                print(line, flush=True)
            failures += heap.failures
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print(f"users: {number - seed + 1} of {args.count} heaps, {len(failures)} failures", flush=True)
    users = "command, Python, mount" if mounts else "command, Python (no mount here)"
    print(f"users: {args.count} damaged heaps from seed {seed} through {users}: {len(failures)} failures, "
          f"{time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
