"""Fixtures: each test has a store of its own, which is verified and unlinked after it."""

import itertools
import os
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


def outcome(function):
    """What a call comes to, in a form to be compared: its result, or the type and arguments of its exception."""
    try:
        return "result", function()
    except Exception as error:
        return "error", type(error), error.args
