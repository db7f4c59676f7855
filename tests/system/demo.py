#!/usr/bin/env python3
"""The main job on real input: several processes, one heap, transactions, deaths in the middle, the command, the mount.

Tells in plain words what it does and what it saw. The exit code is 0 if all of it was as it must be; at the first thing
that was not, the demo says so and ends with 1. Needs `shobj` in PATH and the Python package.
"""

import collections
import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import shobj

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ISO_CODES = Path("/usr/share/iso-codes/json")
HELPERS = 4
ACCOUNTS = 100

sys.path.insert(0, str(EXAMPLES))
import words  # noqa: E402


class Wrong(Exception):
    """Something was not as it must be."""


def ensure(condition: bool, what: str) -> None:
    if not condition:
        raise Wrong(what)


def headline(text: str) -> None:
    print(f"\n* {text}", flush=True)


def tell(text: str) -> None:
    print(f"  {text}", flush=True)


def run(*command: str, show: int = 0) -> str:
    """Runs a command, shows it and the first lines of its output, and returns all of that."""
    tell(f"$ {shlex.join(command)}")
    done = subprocess.run(command, capture_output=True, text=True)
    ensure(done.returncode == 0, f"exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    lines = done.stdout.splitlines()
    for line in lines[:show]:
        tell(f"    {line if len(line) <= 110 else line[:107] + '...'}")
    if show and len(lines) > show:
        tell(f"    ... {len(lines) - show} more lines")
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        ensure(time.monotonic() < deadline, f"after {seconds:g} s still not: {what}")
        time.sleep(0.005)


# -------------------------------------------------------------------------------------------------------- the chapters


def load_iso_codes(path: str) -> None:
    headline("The code lists of the ISO: countries, languages, currencies, scripts. Each file goes into the store.")
    run("shobj", "create", path)
    with shobj.open_store(path) as store:
        store.root["iso"] = {}
    records = 0
    for file in sorted(ISO_CODES.glob("iso_*.json")):
        run("shobj", "load", f"{path}:/iso/{file.stem}", str(file))
        content = json.loads(file.read_text(encoding="utf-8"))
        records += sum(map(len, content.values()))
        with shobj.open_store(path, flag="r") as store:
            ensure(shobj.to_native(store.root["iso"][file.stem]) == content, f"{file.stem} differs from its file")
    ensure(records > 1000, f"only {records} records in {ISO_CODES}")
    tell(f"{records} records; read back by another process, each is what its file says.")


def kill_in_transaction(store: shobj.Store, victims: list[subprocess.Popen], name: str) -> subprocess.Popen:
    """SIGKILLs one of the processes while it is in a transaction, for certain: it is stopped for the look."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        victim = random.choice(victims)
        ensure(victim.poll() is None, f"a process that {name} ended too early, with exit code {victim.returncode}")
        victim.send_signal(signal.SIGSTOP)
        wait_until(lambda: state_of(victim.pid) == "T", 5, f"process {victim.pid} stopped")  # noqa: B023
        states = [session["state"] for session in store.sessions() if session["pid"] == victim.pid]
        if any(state != "idle" for state in states):
            victim.kill()
            victim.wait()
            tell(f"Process {victim.pid}, one of those that {name}, was killed in a transaction (state: {states[0]}).")
            return victim
        victim.send_signal(signal.SIGCONT)
        time.sleep(random.uniform(0.001, 0.02))
    raise Wrong(f"none of the processes that {name} was met in a transaction within 30 s")


def state_of(pid: int) -> str:
    """The letter that Linux has for what a process is doing: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextlib.contextmanager
def processes(script: str, arguments: list[list[str]]) -> Iterator[list[subprocess.Popen]]:
    """Starts a Python process for each list of arguments; none of them outlives the block."""
    command = [sys.executable, str(EXAMPLES / script)]
    started = [subprocess.Popen([*command, *each], stdout=subprocess.PIPE, text=True) for each in arguments]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def results(survivors: list[subprocess.Popen], seconds: float) -> list[str]:
    """What processes that are to end well have printed."""
    printed = []
    for process in survivors:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Wrong(f"process {process.pid} has not ended within {seconds:g} s") from None
        ensure(process.returncode == 0, f"process {process.pid} ended with exit code {process.returncode}")
        printed.append(output.strip())
    return printed


def count_and_move(path: str) -> None:
    library = sysconfig.get_path("stdlib")
    headline(
        f"Four processes count the words of Python's own library into one shared dict. Four others move money between\n"
        f"  {ACCOUNTS} accounts, and an auditor adds all balances up, all the time. One of each four is killed."
    )
    run(sys.executable, str(EXAMPLES / "words.py"), "add", path, library, show=1)
    run(sys.executable, str(EXAMPLES / "bank.py"), "open", path, str(ACCOUNTS))
    tellers = [["move", path, "300"]] * HELPERS
    counters = [["count", path, f"{number}/{HELPERS}"] for number in range(HELPERS)]
    with (
        shobj.open_store(path, flag="w") as store,
        processes("bank.py", [*tellers, ["audit", path, "300"]]) as bank,
        processes("words.py", counters) as helpers,
    ):
        work, money = store.root["words"], store.root["bank"]
        wait_until(lambda: len(work["done"]) >= len(work["files"]) // 8, 120, "an eighth of the files counted")
        tell(f"{len(work['done'])} of {len(work['files'])} files are counted.")
        helpers.remove(kill_in_transaction(store, helpers, "count words"))
        bank.remove(kill_in_transaction(store, bank[:HELPERS], "move money"))
        counted = results(helpers, 240)
        money["stop"] = True
        *moved, audits = results(bank, 60)

        tell(f"The other counters went on: {', '.join(counted)}.")
        tell(f"The other tellers went on: {', '.join(moved)}.")
        tell(f"The auditor: {audits}.")
        compare_with_one_process(work)
        total = sum(account["balance"] for account in money["accounts"].values())
        ensure(total == money["opened_with"], f"the balances add up to {total}, not to {money['opened_with']}")
        tell(f"The balances add up to {total}, as they did at the beginning.")


def compare_with_one_process(work: shobj.Dict) -> None:
    expected: collections.Counter[str] = collections.Counter()
    files = list(work["files"])
    for file in files:
        expected.update(words.words_of(file))
    counts = shobj.to_native(work["counts"])
    ensure(set(work["done"]) == set(files), "not every file is marked as done, once")
    different = [word for word in expected.keys() | counts.keys() if expected[word] != counts.get(word, 0)]
    ensure(not different, f"{len(different)} words have other numbers than one process counts, {different[:3]} ...")
    tell(
        f"One process alone counts the same: {len(expected)} different words, {expected.total()} in all, in"
        f" {len(files)} files, each counted exactly once."
    )


def look_through_the_mount(path: str, folder: str) -> None:
    headline("The command and the mount show the same.")
    run("shobj", "ls", f"{path}:/iso", show=4)
    run("shobj", "tree", "-L", "2", path, show=8)
    met = run("shobj", "get", f"{path}:/words/counts/import", show=1).strip()
    run("shobj", "mount", path, folder)
    try:
        listed = run("ls", f"{folder}/root/iso", show=4).split()
        seen = run("cat", f"{folder}/root/words/counts/import", show=1).strip()
        name = run("cat", f"{folder}/root/iso/iso_3166-1/3166-1/0/name", show=1).strip()
    finally:
        run("shobj", "umount", folder)
    with shobj.open_store(path, flag="r") as store:
        ensure(sorted(listed) == sorted(store.root["iso"]), f"ls through the mount shows {listed}")
        counted = str(store.root["words"]["counts"]["import"])
        ensure(met == seen == counted, f"'import' was met {counted} times; get says {met}, the mount {seen}")
        first = store.root["iso"]["iso_3166-1"]["3166-1"][0]["name"]
        ensure(name == first, f"the first country is {first}, through the mount {name}")
    tell(f"'import' was met {counted} times, and the first country is {name}, whoever is asked.")


def check(path: str) -> None:
    headline("And the store is whole, after two deaths in mid-transaction:")
    run("shobj", "check", path, show=10)
    run("shobj", "stat", path, show=30)


def main() -> int:
    began = time.monotonic()
    path = f"{os.environ.get('SHOBJ_DIR', '/dev/shm')}/shobj-demo-{os.getpid()}"
    folder = tempfile.mkdtemp(prefix="shobj-demo-")
    try:
        load_iso_codes(path)
        count_and_move(path)
        look_through_the_mount(path, folder)
        check(path)
    except (Wrong, shobj.Error, OSError) as error:
        print(f"\ndemo: WRONG: {error}", flush=True)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(shobj.Error):
            shobj.unlink(path)
    print(f"\nAll of it was as it must be, in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
