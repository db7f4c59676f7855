"""Signals end every wait inside the library, by the exception that their handler raises; waits hold no lock of Python's."""

import contextlib
import os
import signal
import time

import pytest
import shobj
from conftest import LONG, wait_for


class Rang(Exception):
    pass


@contextlib.contextmanager
def alarm(seconds, handler):
    """Has SIGALRM handled, again and again."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ring(number, frame):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Rang


# ------------------------------------------------------------------------------------------------ retry


@pytest.mark.parametrize("form", ["run", "attempts", "or_else", "update_with"])
def test_a_handler_ends_the_wait_of_retry(store, form):
    root = store.root
    root["n"] = 0

    def body(*ignored):
        root["trace"] = 1
        shobj.retry()

    def attempts():
        for attempt in store.attempts():
            with attempt:
                root["n"]
                body()

    call = {
        "run": lambda: store.run(lambda: root["n"] or body()),
        "attempts": attempts,
        "or_else": lambda: store.or_else(lambda: root["n"] or body(), body),
        "update_with": lambda: root.update_with("n", body),
    }[form]
    with pytest.raises(Rang), alarm(0.05, ring):
        call()
    assert root == {"n": 0}
    root["after"] = 1
    assert store.stat()["sessions"] == 1


def test_a_handler_that_returns_does_not_end_the_wait(store, child):
    root = store.root
    rings = []
    other = child("sys.stdin.readline(); root['go'] = 7")

    def count(number, frame):
        rings.append(1)
        if len(rings) == 5:
            other.tell()

    with alarm(0.02, count):
        assert store.run(lambda: root.get("go") or shobj.retry(), timeout=LONG) == 7
    assert len(rings) >= 5
    other.end()


def test_a_handler_that_uses_the_store_inside_a_wait(store):
    """The thread is in the middle of an operation: it gets an error instead of taking part in it."""
    root = store.root
    asleep = []

    def use(number, frame):
        if asleep:
            root["handler"] = 1

    def body():
        root.get("go")
        asleep.append(1)
        shobj.retry()

    for call in (
        lambda: store.run(body),
        lambda: store.run(lambda: store.run(body)),
        lambda: store.or_else(body, body),
    ):
        with pytest.raises(shobj.TransactionError, match="signal handler"), alarm(0.02, use):
            call()
        asleep.clear()
        assert root == {}


def test_no_signal_is_lost(store):
    """One single signal, at any moment in front of the wait or in it, ends it."""
    root = store.root
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for i in range(300):
            with pytest.raises(Rang):
                signal.setitimer(signal.ITIMER_REAL, (10 + i % 100) * 1e-6)
                store.run(lambda: root.get("go") or shobj.retry(), timeout=LONG)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_control_c_ends_the_wait_of_retry(store, child):
    waiting = child("""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs this in the background has it ignored
try:
    store.run(lambda: say("here") or root.update(a=1) or root.get("go") or shobj.retry())
except KeyboardInterrupt:
    assert root == {}
    root["interrupted"] = True
    say("interrupted")
""")
    waiting.expect("here")
    wait_for(waiting.asleep)
    os.kill(waiting.pid, signal.SIGINT)
    waiting.expect("interrupted")
    waiting.end()
    assert store.root == {"interrupted": True}


# ------------------------------------------------------------------------------------------------ others' locks


@pytest.fixture
def stopped(store, child):
    """A process that has decided a commit on root["a"] and root["b"] and stands still before storing it."""
    store.root.update(a=0, b=0, c=0)
    made = child(
        """
store.run(lambda: (root.__setitem__("a", 1), root.__setitem__("b", 1)))
""",
        SHOBJ_FAULT="stop:1@commit.decided",
    )
    if not made.stopped():
        pytest.skip("needs a build with fault points: ./dev build test")
    yield made
    if made.process.returncode is None:
        os.kill(made.pid, signal.SIGCONT)
        made.end()
        assert store.root["a"] == store.root["b"] == 1


def test_a_handler_ends_the_wait_for_a_stopped_commit(store, stopped):
    root = store.root

    def write():
        root["a"] += 10
        root["c"] += 10

    def in_with():
        with store.transaction():
            write()

    def single():
        root["a"] = 10

    for call in (lambda: store.run(write), in_with, single):
        with pytest.raises(Rang), alarm(0.05, ring):
            call()
        assert root["c"] == 0
    assert root["a"] == 1  # decided: it is read through


def test_timeout_bounds_the_wait_for_a_stopped_commit(store, stopped):
    root = store.root

    def write():
        root["a"] += 10
        root["c"] += 10

    with pytest.raises(shobj.TransactionTimeout):
        store.run(write, timeout=0.05)
    with pytest.raises(shobj.TransactionTimeout), store.transaction(timeout=0.05):
        write()
    with pytest.raises(shobj.TransactionTimeout):
        for attempt in store.attempts(timeout=0.05):
            with attempt:
                write()
    assert root["c"] == 0


# ------------------------------------------------------------------------------------------------ the right of way


@pytest.fixture
def elder(store, child):
    """A process that has the right of way, for about a second, and stands still with it.

    It loses again and again against a thread of its own; each time that it is overtaken although it has the right of way
    it keeps it twice as long the next time.
    """
    store.root.update(n=0, m=0, executions=0)
    made = child("""
executions = 0
def overtake():
    root["n"] += 1
def body():
    global executions
    executions += 1
    root["n"]
    if executions < 16:
        thread = threading.Thread(target=overtake)
        thread.start()
        thread.join()
    else:
        say("here")
        sys.stdin.readline()
    root["m"] += 1
store.run(body)
""")
    made.expect("here")
    yield made
    made.tell()
    made.end()
    assert store.root["m"] == 1


def test_a_handler_ends_the_wait_for_the_right_of_way(store, elder):
    root = store.root
    with pytest.raises(Rang), alarm(0.02, ring):
        store.run(lambda: (root.__setitem__("x", 1), root.__setitem__("y", 1)))
    assert "x" not in root
    with pytest.raises(Rang), alarm(0.02, ring):
        root["x"] = 1
    assert "x" not in root


def test_timeout_bounds_the_wait_for_the_right_of_way(store, elder):
    root = store.root
    with pytest.raises(shobj.TransactionTimeout, match="right of way"):
        store.run(lambda: (root.__setitem__("x", 1), root.__setitem__("y", 1)), timeout=0.02)
    assert "x" not in root
    assert store.stat()["elders"] > 0


# ------------------------------------------------------------------------------------------------ no lock is held


def test_waits_let_other_threads_run(store, child):
    """In a process of its own: a wait that held Python's lock would never end."""
    waiting = child("""
def other():
    say("running")
    sys.stdin.readline()
    for n in range(1, 101):
        root["n"] = n
threading.Thread(target=other).start()
root["m"] = 0
store.run(lambda: root.get("n", 0) >= 100 or shobj.retry())
say("woken")
""")
    waiting.expect("running")
    time.sleep(0.05)
    waiting.tell()
    waiting.expect("woken")
    waiting.end()
    assert store.root["n"] == 100


def test_the_wait_for_a_stopped_commit_lets_other_threads_run(store, stopped, child):
    waiting = child("""
thread = threading.Thread(target=root.__setitem__, args=("a", 5))
thread.start()
for n in range(100):
    time.sleep(0.001)
say("ran")
thread.join()
say("done")
""")
    waiting.expect("ran")
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.end()
    waiting.expect("done")
    waiting.end()
    assert store.root["a"] == 5
    assert store.root["b"] == 1
