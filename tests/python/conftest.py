"""Fixtures: each test has a store of its own, which is verified and unlinked after it."""

import contextlib
import itertools
import os
import select
import subprocess
import sys
import time

import pytest
import shobj
from hypothesis import HealthCheck, settings

DIRECTORY = "/dev/shm"
_numbers = itertools.count()

settings.register_profile(
    "shobj", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("shobj")


def fresh_path():
    return f"{DIRECTORY}/shobj-pytest-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def path():
    """A path where no store is yet; what the test leaves there is removed."""
    name = fresh_path()
    yield name
    if os.path.lexists(name):
        os.unlink(name)


@pytest.fixture
def store(path):
    with shobj.open_store(path, "x", max_size=256 << 20) as opened:
        yield opened
        if not opened.closed:
            assert opened.check() == []


@pytest.fixture
def root(store):
    return store.root


def wait_for(condition, seconds=20.0):
    """Polls until the condition is true; fails after a deadline that only a hang exceeds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


LONG = 60.0  # seconds that only a hang exceeds

PRELUDE = """
import os, signal, sys, threading, time
import shobj
store = shobj.open_store(sys.argv[1], "w")
root = store.root
def say(word):
    os.write(1, word.encode() + b"\\n")
"""


class Child:
    """A Python process that runs a script on the store and says words."""

    def __init__(self, path, script, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environment,
            bufsize=0,
        )
        self.pid = self.process.pid

    def expect(self, word):
        ready, _, _ = select.select([self.process.stdout], [], [], LONG)
        assert ready, f"waited in vain for {word!r}"
        assert self.process.stdout.readline().decode().strip() == word

    def tell(self):
        os.write(self.process.stdin.fileno(), b"\n")

    def stopped(self):
        """True once it has stopped; False if it has ended instead."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return False

    def asleep(self):
        """Does its main thread sleep in the kernel, on a futex?"""
        with open(f"/proc/{self.pid}/task/{self.pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        with open(f"/proc/{self.pid}/task/{self.pid}/wchan") as file:
            where = file.read()
        return state == "S" and ("futex" in where or where in ("0", ""))

    def end(self, code=0):
        assert self.process.wait(LONG) == code

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def child(path, store):
    with contextlib.ExitStack() as stack:

        def make(script, **environment):
            made = Child(path, script, **environment)
            stack.callback(made.kill)
            return made

        yield make


def outcome(function):
    """What a call comes to, in a form to be compared: its result, or the type and arguments of its exception."""
    try:
        return "result", function()
    except Exception as error:
        return "error", type(error), error.args
