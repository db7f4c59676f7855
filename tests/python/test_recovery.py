"""Whom the others take for dead, and whom not: what fork, exec, closed descriptors, ended threads, PID namespaces and stops
do to a session."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import shobj
from conftest import wait_for

LONG = 60.0  # a deadline that only a hang reaches

PRELUDE = """
import os, signal, sys, threading, time
import shobj
store = shobj.open_store(sys.argv[1], "w")
root = store.root
def say(word):
    os.write(1, word.encode() + b"\\n")
def listen():
    return sys.stdin.readline().strip()
"""


class Peer:
    """Another process on the store, which runs a script and is talked to line by line."""

    def __init__(self, path, script, command=(), **environment):
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", PRELUDE + script, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environment,
            bufsize=0,
        )
        self.pid = self.process.pid

    def hear(self):
        ready, _, _ = select.select([self.process.stdout], [], [], LONG)
        assert ready, "the other process says nothing"
        return self.process.stdout.readline().decode().strip()

    def expect(self, word):
        assert self.hear() == word

    def tell(self, word):
        self.process.stdin.write(word.encode() + b"\n")

    def has_stopped(self):
        """Waits until it has stopped (True) or ended (False)."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return False

    def end(self):
        assert self.process.wait(LONG) == 0

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def peer(path, store):
    with contextlib.ExitStack() as stack:

        def make(script, command=(), **environment):
            made = Peer(path, script, command, **environment)
            stack.callback(made.close)
            return made

        yield make


def sessions_of(store, pid):
    return [session for session in store.sessions() if session["pid"] == pid]


def clean_up(path):
    """What a process does that opens the store: it recovers those who died."""
    done = subprocess.run([sys.executable, "-c", PRELUDE + "store.close()", path], timeout=LONG)
    assert done.returncode == 0


# ------------------------------------------------------------------------------------------------ fork

CHILDS_ENDS = {
    "exit": lambda store: os._exit(0),
    "close": lambda store: (store.close(), os._exit(0)),
    "kill": lambda store: os.kill(os.getpid(), signal.SIGKILL),
    "exec": lambda store: os.execv("/bin/true", ["true"]),
}


@pytest.mark.parametrize("end", CHILDS_ENDS)
def test_a_childs_end_leaves_the_parents_transaction_alone(store, path, end):
    root = store.root
    root.update(parents=[0], childs=[0])
    parents, childs = root["parents"], root["childs"]
    with store.transaction():
        parents.append(1)
        parents[0] = 1
        pid = os.fork()
        if pid == 0:
            try:
                if parents == [0]:
                    childs.append(1)
                    transaction = store.transaction()
                    transaction.__enter__()
                    childs.append(2)
                    CHILDS_ENDS[end](store)
            finally:
                os._exit(9)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == (-signal.SIGKILL if end == "kill" else 0)
        clean_up(path)
        assert sessions_of(store, pid) == []
        assert [session["self"] for session in store.sessions()] == [True]
        assert childs == [0, 1]
        parents.append(2)
    assert parents == [1, 1, 2]
    assert childs == [0, 1]


# ------------------------------------------------------------------------------------------------ liveness


def test_closed_descriptors_are_no_death(store, path, peer):
    """The proof of life is tied to the mapping, not to a descriptor that the program may close."""
    worker = peer(
        """
root["n"], root["list"] = 1, []
os.closerange(3, min(os.sysconf("SC_OPEN_MAX"), 1 << 20))
transaction = store.transaction()
transaction.__enter__()
root["n"] += 1
say("closed")
listen()
transaction.__exit__(None, None, None)
root["list"].extend(range(100))
say("worked")
listen()
store.close()
"""
    )
    worker.expect("closed")
    recoveries = store.stat()["recoveries"]
    clean_up(path)
    assert [session["alive"] for session in sessions_of(store, worker.pid)] == [True]
    assert store.root["n"] == 1
    worker.tell("commit")
    worker.expect("worked")
    clean_up(path)
    assert store.stat()["recoveries"] == recoveries
    assert store.root["n"] == 2
    assert len(store.root["list"]) == 100
    worker.tell("close")
    worker.end()
    assert sessions_of(store, worker.pid) == []


@pytest.mark.parametrize("reused", [False, True], ids=["closed", "reused"])
def test_growing_with_closed_descriptors(store, path, peer, tmp_path, reused):
    """The heap file grows, and no other file that has got its descriptor's number."""
    worker = peer(
        f"""
os.closerange(3, min(os.sysconf("SC_OPEN_MAX"), 1 << 20))
others = [open({str(tmp_path)!r} + f"/{{n}}", "w+") for n in range(8 * {reused})]
root["large"] = b"x" * (8 << 20)
root["list"] = ["x" * 500 for i in range(5000)]
assert all(os.fstat(other.fileno()).st_size == 0 for other in others)
say("grown")
"""
    )
    worker.expect("grown")
    worker.end()
    assert len(store.root["large"]) == 8 << 20
    assert store.root["list"] == ["x" * 500] * 5000


def test_exec_ends_the_session(store, path, peer):
    """Another program in the same process, with the same pid, is another participant: none."""
    worker = peer(
        """
root["a"], root["b"] = 1, [1]
transaction = store.transaction()
transaction.__enter__()
root["a"] = 2
root["b"].append("x" * 1000)
say("open")
listen()
os.execv("/bin/sh", ["sh", "-c", "echo another; read line"])
"""
    )
    worker.expect("open")
    clean_up(path)
    assert [session["alive"] for session in sessions_of(store, worker.pid)] == [True]
    worker.tell("go on")
    worker.expect("another")
    assert [session["alive"] for session in sessions_of(store, worker.pid)] == [False]
    clean_up(path)
    assert sessions_of(store, worker.pid) == []
    assert store.root == {"a": 1, "b": [1]}
    store.root.update(a=3, b=[])
    assert worker.process.poll() is None
    worker.tell("end")
    worker.end()


def test_a_threads_slot_comes_back(store, root):
    """It ends in the middle of a transaction, without detaching."""
    root["l"] = [0]
    before = store.stat()["sessions"]

    def leave_open(number):
        transaction = store.transaction()
        transaction.__enter__()
        root["l"].append(number)
        root[f"key {number}"] = "x" * 500
        if number % 2:
            kept.append(transaction)  # which outlives its thread

    kept = []
    slots = set()
    for number in range(30):
        thread = threading.Thread(target=leave_open, args=(number,))
        thread.start()
        thread.join(LONG)
        wait_for(lambda: store.stat()["sessions"] == before)
        assert root == {"l": [0]}
        root["l"][0] = 0
        probe = threading.Thread(
            target=lambda: (root.get("l"), slots.update(each["session"] for each in store.sessions()))
        )
        probe.start()
        probe.join(LONG)
    wait_for(lambda: store.stat()["sessions"] == before)
    assert len(slots) <= 4, "slots are taken and not given back"
    assert root == {"l": [0]}


# ------------------------------------------------------------------------------------------------ PID namespaces

# Its first process is a shell: the first one of a namespace can't be stopped.
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", '"$@"; exit', "sh")


def namespaces_are_permitted():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=LONG).returncode == 0


@pytest.mark.parametrize("dies", ["inside", "outside"])
def test_another_pid_namespace(store, path, peer, dies):
    """Neither side can see the other's pid; each sees that the other lives, and that it has died."""
    if not namespaces_are_permitted():
        pytest.skip("may not make a PID namespace here")
    work = """
pid = os.getpid()
key = f"of {listen()}"
transaction = store.transaction()
transaction.__enter__()
root[key] = 1
say(str(pid))
while True:
    word = listen()
    if word == "look":
        with_others = [s for s in store.sessions() if not s["self"]]
        say(" ".join(f"{s['session']}:{s['alive']}" for s in with_others))
    elif word == "commit":
        transaction.__exit__(None, None, None)
        say("committed")
    elif word == "clean up":
        shobj.open_store(sys.argv[1], "w").close()
        root.get("x")
        say("cleaned up")
    elif word == "write":
        root["written"] = 2
        root[f"of {'outside' if key == 'of inside' else 'inside'}"] = 3
        say("written")
    else:
        break
"""
    inside = peer(work, NAMESPACE)
    outside = peer(work)
    inside.tell("inside")
    outside.tell("outside")
    assert int(inside.hear()) != inside.pid, "it has a pid of another namespace"
    assert int(outside.hear()) == outside.pid
    for each in (inside, outside):
        each.tell("look")
        assert sorted(each.hear().replace(":", " ").split()[1::2]) == ["True", "True"]
    recoveries = store.stat()["recoveries"]
    clean_up(path)
    assert store.stat()["recoveries"] == recoveries
    victim, survivor = (inside, outside) if dies == "inside" else (outside, inside)
    victim.kill()
    wait_for(lambda: sum(not session["alive"] for session in store.sessions()) == 1)
    survivor.tell("commit")
    survivor.expect("committed")
    survivor.tell("look")
    assert sorted(survivor.hear().replace(":", " ").split()[1::2]) == ["False", "True"]
    survivor.tell("write")
    survivor.expect("written")
    other = "outside" if dies == "inside" else "inside"
    assert store.root == {f"of {other}": 1, "written": 2, f"of {dies}": 3}
    clean_up(path)
    assert store.stat()["recoveries"] == recoveries + 1
    assert all(session["alive"] for session in store.sessions())
    survivor.tell("end")
    survivor.end()


@pytest.mark.parametrize("recoverer", ["inside", "outside"])
def test_locks_of_the_dead_in_another_pid_namespace(store, path, peer, recoverer):
    """Who dies with a decided commit is recovered from the other side of the namespace, the one who is just stopped is
    not."""
    if not namespaces_are_permitted():
        pytest.skip("may not make a PID namespace here")
    store.root.update(a=0, b=0)
    dying = """
import signal
say(str(os.getpid()))
store.run(lambda: root.update(a=1, b=1))
"""
    taking = """
listen()
try:
    store.run(lambda: root.update(a=root["a"] + 1), timeout=0.2)
except shobj.TransactionTimeout:
    say("timed out")
listen()
root["a"] += 10
root["b"] += 10
say("recovered")
"""
    inside, outside = NAMESPACE, ()
    taker = peer(taking, inside if recoverer == "inside" else outside)
    # The victim sits under unshare if it is inside: a stop would not be reported to us, but its session shows it.
    victim = peer(dying, outside if recoverer == "inside" else inside, SHOBJ_FAULT="stop:1@commit.decided")
    victim.hear()
    wait_for(lambda: any(s["state"] == "committing" for s in store.sessions()) or has_ended(victim))
    if has_ended(victim):
        pytest.skip("needs a build with fault points: ./dev build test")
    taker.tell("try")
    taker.expect("timed out")
    assert store.root == {"a": 1, "b": 1}
    victim.kill()
    taker.tell("again")
    taker.expect("recovered")
    taker.end()
    assert store.root == {"a": 11, "b": 11}
    assert store.stat()["recoveries"] == 1


def has_ended(peer):
    return peer.process.poll() is not None


# ------------------------------------------------------------------------------------------------ stopped

# Where it stands still: (how it changes root["x"] ["n"], is the change decided?)
TRANSACTION = 'store.run(lambda: (root["x"].__setitem__("n", 1), root["y"].__setitem__("n", 1)))'
SINGLE = 'root["x"]["n"] = 1'
STOPS = {
    "commit.locked_all": (TRANSACTION, False),
    "commit.decided": (TRANSACTION, True),
    "single.versioned": (SINGLE, True),
}


@pytest.mark.parametrize("goes_on", [True, False], ids=["continued", "killed"])
@pytest.mark.parametrize("point", STOPS)
def test_stopped_in_a_commit(store, path, peer, point, goes_on):
    change, is_decided = STOPS[point]
    root = store.root
    root.update(x={"n": 0}, y={"n": 0}, z={"n": 0})
    x, y, z = root["x"], root["y"], root["z"]
    stopped = peer(f"{change}\nsay('done')\n", SHOBJ_FAULT=f"stop:1@{point}")
    if not stopped.has_stopped():
        pytest.skip("needs a build with fault points: ./dev build test")
    both = change is TRANSACTION

    # Readers go on, alone and in transactions, and writers of other objects.
    seen = {"x": {"n": int(is_decided)}, "y": {"n": int(is_decided and both)}, "z": {"n": 0}}
    assert shobj.to_native(root) == seen
    assert store.run(lambda: shobj.to_native(root), timeout=LONG) == seen

    def beside():
        z["n"] += 1
        return x["n"]

    assert store.run(beside, timeout=LONG) == seen["x"]["n"]
    z["m"] = 1

    session = sessions_of(store, stopped.pid)[0]
    assert session["alive"]

    def write():
        x["n"] += 10
        z["n"] += 1

    expected = seen["x"]["n"]
    if is_decided:
        with pytest.raises(shobj.TransactionTimeout, match=rf"session {session['session']}\b.*{stopped.pid}"):
            store.run(write, timeout=0.1)
        assert z == {"n": 1, "m": 1}
        with pytest.raises(shobj.TransactionTimeout, match=rf"session {session['session']}\b.*{stopped.pid}"):
            store.run(lambda: x.__setitem__("n", 5), timeout=0.1)
    else:
        store.run(write, timeout=LONG)  # nothing is decided: the other one is made to begin anew
        expected += 10
    assert x["n"] == expected

    # Somebody who waits without a deadline goes on when it does, or when it is dead.
    waiting = threading.Thread(target=lambda: x.__setitem__("waited", True), daemon=True)
    waiting.start()
    if goes_on:
        os.kill(stopped.pid, signal.SIGCONT)
        stopped.expect("done")
        stopped.end()
        if not is_decided:
            expected = 1  # its change comes after ours
    else:
        stopped.kill()
    waiting.join(LONG)
    assert not waiting.is_alive()
    assert x == {"n": expected, "waited": True}
    assert y["n"] == int(both and (is_decided or goes_on))
    x["n"], y["n"] = 7, 7
    clean_up(path)
    assert sessions_of(store, stopped.pid) == []
    assert store.stat()["recoveries"] == int(not goes_on)
