"""retry(), or_else(), timeout= and readonly=: waiting for others, and not waiting for ever."""

import multiprocessing
import os
import random
import threading
import time

import pytest
import shobj
from conftest import wait_for

fork = multiprocessing.get_context("fork")
LONG = 60.0  # a deadline that only a hang reaches


def join_all(workers):
    for worker in workers:
        worker.join(LONG)
        assert not worker.is_alive() if isinstance(worker, threading.Thread) else worker.exitcode == 0


class Thread(threading.Thread):
    """A thread that is running, whose result, or exception, can be asked for."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.call, self.outcome = lambda: function(*args), None
        self.start()

    def run(self):
        try:
            self.outcome = self.call(), None
        except BaseException as error:
            self.outcome = None, error

    def result(self):
        self.join(LONG)
        value, error = self.outcome
        if error is not None:
            raise error
        return value


# ------------------------------------------------------------------------------------------------ retry


def take(store, key, timeout=LONG):
    """Waits for a key and removes it."""

    def body():
        if key not in store.root:
            shobj.retry()
        return store.root.pop(key)

    return store.run(body, timeout=timeout)


def test_retry_wakes_on_a_change_by_another_thread(store):
    for i in range(50):
        waiting = Thread(take, store, "a")
        if i % 2:
            time.sleep(random.random() * 0.004)
        store.root["a"] = i
        assert waiting.result() == i
        assert "a" not in store.root


def ping(path, key, answer, rounds):
    with shobj.open_store(path, "w") as store:
        for i in range(rounds):
            assert take(store, key) == i
            store.root[answer] = i


def test_retry_wakes_on_a_change_by_another_process(store, path):
    process = fork.Process(target=ping, args=(path, "ping", "pong", 300))
    process.start()
    for i in range(300):
        store.root["ping"] = i
        assert take(store, "pong") == i
    join_all([process])


def test_retry_does_not_return_before_the_condition_holds(store):
    """Changes of other keys may wake, but the body decides."""
    root = store.root
    root.update(n=0, other=0)
    executions = []

    @store.atomic(timeout=LONG)
    def wait():
        executions.append(root["n"])
        if root["n"] < 5:
            root["trace"] = 1
            shobj.retry()
        assert "trace" not in root
        return root["n"]

    waiting = Thread(wait)
    for n in range(1, 6):
        root["other"] += 1
        assert waiting.outcome is None
        wait_for(lambda: executions and executions[-1] == n - 1)  # noqa: B023
        root["n"] = n
    assert waiting.result() == 5
    assert executions == sorted(executions)
    assert "trace" not in root


def test_retry_sleeps(store):
    """Where nothing changes nothing runs."""
    executions = []

    def wait():
        executions.append(1)
        return store.root.get("go") or shobj.retry()

    waiting = Thread(store.run, wait)
    wait_for(lambda: executions)
    time.sleep(0.2)
    assert len(executions) <= 3
    store.root["go"] = 1
    assert waiting.result() == 1


@pytest.mark.parametrize("form", ["run", "attempts", "or_else"])
def test_executions_that_waited_have_not_lost(store, form):
    root = store.root
    seen = []

    def body():
        seen.append(root.get("n", 0))
        if seen[-1] < 3:
            shobj.retry()

    def loop():
        for attempt in store.attempts(tries=1, timeout=LONG):
            with attempt:
                body()

    wait = {
        "run": lambda: store.run(body, tries=1, timeout=LONG),
        "attempts": loop,
        "or_else": lambda: store.or_else(shobj.retry, body, tries=1, timeout=LONG),
    }[form]
    waiting = Thread(wait)
    for n in range(1, 4):
        wait_for(lambda: seen and seen[-1] == n - 1)  # noqa: B023
        root["n"] = n
    waiting.result()
    assert seen[-1] == 3


def test_retry_goes_to_the_outermost(store):
    root = store.root
    log = []

    @store.atomic
    def inner():
        log.append("inner")
        root["inner"] = 1
        with store.transaction():
            for attempt in store.attempts():
                with attempt:
                    root["deep"] = 1
                    if "go" not in root:
                        shobj.retry()

    @store.atomic(timeout=LONG)
    def outer():
        log.append("outer")
        assert "inner" not in root
        root["outer"] = 1
        inner()

    waiting = Thread(outer)
    wait_for(lambda: "inner" in log)
    assert "outer" not in root
    root["go"] = 1
    waiting.result()
    assert log.count("outer") == log.count("inner") >= 2
    assert root == {"go": 1, "inner": 1, "deep": 1, "outer": 1}


def test_retry_in_a_compound_operation(store):
    """update_with() is a transaction of its own: it waits and runs again as a whole."""
    root = store.root
    root["n"] = 0
    calls = []

    def add(n):
        calls.append(n)
        if "go" not in root:
            shobj.retry()
        return n + 1

    waiting = Thread(root.update_with, "n", add)
    wait_for(lambda: calls)
    root["go"] = 1
    assert waiting.result() == 1
    assert root["n"] == 1


def test_retry_is_not_swallowed_by_except_exception(store):
    root = store.root
    assert issubclass(shobj.Retry, BaseException)
    assert not issubclass(shobj.Retry, Exception)
    executions = []

    @store.atomic(timeout=LONG)
    def body():
        executions.append(1)
        try:
            if "go" not in root:
                shobj.retry()
        except Exception:
            root["swallowed"] = 1

    waiting = Thread(body)
    wait_for(lambda: executions)
    root["go"] = 1
    waiting.result()
    assert root == {"go": 1}


def test_retry_where_nothing_can_wait(store):
    root = store.root
    with pytest.raises(shobj.TransactionError, match="outside a transaction"):
        shobj.retry()
    with pytest.raises(shobj.TransactionError, match="read nothing"):
        store.run(shobj.retry)
    with pytest.raises(shobj.TransactionError, match="read nothing"):
        for attempt in store.attempts():
            with attempt:
                shobj.retry()
    with pytest.raises(shobj.TransactionError, match="can't run again") as caught, store.transaction():
        root["a"] = root.get("a", 0) + 1
        try:
            shobj.retry()
        except Exception:
            pass
    assert isinstance(caught.value.__context__, shobj.Retry)
    assert root == {}
    with pytest.raises(shobj.TransactionError, match="can't run again"), store.transaction():
        store.run(lambda: root.get("a") or shobj.retry())
    root["after"] = 1
    assert root == {"after": 1}


def test_retry_of_a_lost_execution_runs_again_at_once(store):
    root = store.root
    root.update(a=0, b=0)
    executions = []

    def change():
        root.update(a=1, b=1)

    @store.atomic(timeout=LONG)
    def body():
        executions.append(root["a"])
        if len(executions) == 1:
            Thread(change).result()
            try:
                root["b"]
            except shobj.ConflictError:
                pass
            shobj.retry()
        return root["a"] + root["b"]

    assert body() == 2
    assert executions == [0, 1]
    executions.clear()
    root.update(a=0, b=0)
    with pytest.raises(shobj.ConflictError), store.transaction():
        body.__wrapped__()
    executions.clear()
    root.update(a=0, b=0)
    with pytest.raises(shobj.ConflictError):
        store.run(body, tries=1)


def test_retry_when_the_store_is_closed(path):
    store = shobj.open_store(path, "x")
    root = store.root

    def body():
        root.get("a")
        store.close()
        shobj.retry()

    with pytest.raises(shobj.StoreClosedError):
        store.run(body)


def produce(path, numbers):
    with shobj.open_store(path, "w") as store:
        items = store.root["items"]

        @store.atomic(timeout=LONG)
        def put(number):
            if len(items) >= 16:
                shobj.retry()
            items.append(number)

        for number in numbers:
            put(number)
        put(None)


def test_producer_and_consumer(store, path):
    """Each item exactly once and in order, through a list that is often empty and often full."""
    count = 2000
    store.root["items"] = []
    items = store.root["items"]
    process = fork.Process(target=produce, args=(path, range(count)))
    process.start()

    @store.atomic(timeout=LONG)
    def get():
        if not items:
            shobj.retry()
        return items.pop(0)

    assert list(iter(get, None)) == list(range(count))
    join_all([process])
    assert items == []


# ------------------------------------------------------------------------------------------------ or_else


def test_or_else_chooses(store):
    root = store.root

    def first():
        root["first"] = 1
        root["l"] = [1]
        if "want" not in root:
            shobj.retry()
        return "first"

    def second():
        assert "first" not in root
        root["second"] = 1
        return "second"

    assert store.or_else(first, second) == "second"
    assert root == {"second": 1}
    root["want"] = 1
    assert store.or_else(first, second) == "first"
    assert root == {"second": 1, "want": 1, "first": 1, "l": [1]}
    with store.transaction():
        root.clear()
        root["outer"] = 1
        assert store.or_else(first, second) == "second"
        assert root == {"outer": 1, "second": 1}
    assert root == {"outer": 1, "second": 1}
    assert store.or_else(shobj.retry, lambda: 5) == 5
    assert store.or_else(shobj.retry, lambda: store.or_else(shobj.retry, lambda: 6)) == 6


def test_or_else_lets_exceptions_pass(store):
    root = store.root

    def fail():
        root["a"] = 1
        raise ZeroDivisionError

    def unused():
        raise AssertionError

    for first, second in ((fail, unused), (shobj.retry, fail)):
        with pytest.raises(ZeroDivisionError):
            store.or_else(first, second)
    assert root == {}
    for bad in ((), (len,), (len, 5), (len, len, len)):
        with pytest.raises(TypeError):
            store.or_else(*bad)


@pytest.mark.parametrize("nested", [False, True])
def test_or_else_waits_for_both(store, nested):
    root = store.root
    rounds = []

    def pop(key):
        rounds.append(key)
        if key not in root:
            shobj.retry()
        return root.pop(key)

    def either():
        return store.or_else(lambda: pop("a"), lambda: pop("b"), timeout=LONG)

    for key in ("a", "b", "b", "a"):
        rounds.clear()
        waiting = Thread(store.run, either) if nested else Thread(either)
        wait_for(lambda: "b" in rounds)
        root[key] = key * 2
        assert waiting.result() == key * 2
        assert root == {}


# ------------------------------------------------------------------------------------------------ timeout, readonly


def test_retry_times_out(store):
    root = store.root
    root["n"] = 0

    def wait():
        root["x"] = root["n"]
        shobj.retry()

    for call in (
        lambda: store.atomic(timeout=0.05)(wait)(),
        lambda: store.run(wait, timeout=0.05),
        lambda: store.or_else(wait, wait, timeout=0.05),
        lambda: store.atomic(timeout=0)(wait)(),
        lambda: store.run(store.atomic(wait), timeout=0.05),
    ):
        began = time.monotonic()
        with pytest.raises(shobj.TransactionTimeout) as caught:
            call()
        assert time.monotonic() - began < LONG
        assert isinstance(caught.value, TimeoutError)
        assert root == {"n": 0}
    with pytest.raises(shobj.TransactionTimeout):
        for attempt in store.attempts(timeout=0.05):
            with attempt:
                wait()
    assert root == {"n": 0}


def test_the_earlier_timeout_counts(store):
    root = store.root
    wait = store.atomic(timeout=0.02)(lambda: root.get("a") or shobj.retry())
    with pytest.raises(shobj.TransactionTimeout):
        store.run(lambda: store.run(wait, timeout=LONG), timeout=0.05)
    # The deadline of an inner block is over with it: the outermost waits by its own.
    waiting = Thread(lambda: store.run(lambda: (store.run(len, "x", timeout=0), root.get("a") or shobj.retry())))
    time.sleep(0.05)
    assert waiting.outcome is None
    root["a"] = 1
    assert waiting.result() == (1, 1)
    with pytest.raises(shobj.TransactionTimeout):
        store.run(lambda: store.run(lambda: root.get("b") or shobj.retry(), timeout=LONG), timeout=0.02)


def test_what_need_not_wait_succeeds_after_the_timeout(store):
    root = store.root

    def slow():
        time.sleep(0.02)
        root["a"] = 1

    store.run(slow, timeout=0.001)
    with store.transaction(timeout=0.001):
        slow()
    assert root == {"a": 1}


def test_timeout_is_over_with_the_transaction(store):
    root = store.root
    with store.transaction(timeout=0):
        root["a"] = 1
    with pytest.raises(ZeroDivisionError), store.transaction(timeout=0):
        raise ZeroDivisionError
    waiting_for = []
    waiting = Thread(lambda: (store.run(len, "x", timeout=0), take_after(store, waiting_for)))
    wait_for(lambda: waiting_for)
    root["go"] = 7
    assert waiting.result() == (1, 7)


def take_after(store, executions):
    def body():
        executions.append(1)
        return store.root.get("go") or shobj.retry()

    return store.run(body)


def test_readonly(store):
    root = store.root
    root["l"] = [2, 1]

    def change():
        assert root["l"] == [2, 1]
        root["a"] = 1

    def sort():
        root["l"].sort()

    for body in (change, sort):
        with pytest.raises(shobj.ReadOnlyError):
            store.atomic(readonly=True)(body)()
        with pytest.raises(shobj.ReadOnlyError):
            store.run(body, readonly=True)
        with pytest.raises(shobj.ReadOnlyError):
            store.or_else(shobj.retry, body, readonly=True)
        with pytest.raises(shobj.ReadOnlyError), store.transaction(readonly=True):
            body()
        with pytest.raises(shobj.ReadOnlyError):
            for attempt in store.attempts(readonly=True):
                with attempt:
                    body()
        with pytest.raises(shobj.ReadOnlyError), store.transaction(readonly=True) as transaction:
            transaction.abort()
            body()
        with pytest.raises(shobj.ReadOnlyError):
            store.run(store.atomic(body), readonly=True)
    assert root == {"l": [2, 1]}
    assert store.run(lambda: root["l"][0], readonly=True) == 2
    change()
    assert root == {"l": [2, 1], "a": 1}


def test_run_keeps_the_keywords_of_others(store):
    def body(*args, **keywords):
        return args, keywords

    one = 1
    assert store.run(body, one, x=one, timeout=one, y=2, tries=one, readonly=False) == ((1,), {"x": 1, "y": 2})
    assert store.run(body, timeout=None, readonly=True) == ((), {})
    for limits, error in (({"timeout": -1}, ValueError), ({"timeout": "x"}, TypeError), ({"tries": 0}, ValueError)):
        with pytest.raises(error):
            store.run(body, x=1, **limits)
        with pytest.raises(error):
            store.or_else(body, body, **limits)
    with pytest.raises(ValueError):
        store.transaction(timeout=-1)


# ------------------------------------------------------------------------------------------------ nobody loses for ever


def hammer(path, number, stop):
    with shobj.open_store(path, "w") as store:
        values = store.root["values"]
        rng = random.Random(number)

        @store.atomic
        def add(key):
            values[key] += 1

        while not stop.is_set():
            add(rng.randrange(200))


def test_a_long_transaction_commits_within_few_executions(store, path):
    store.root["values"] = dict.fromkeys(range(200), 0)
    values = store.root["values"]
    stop = fork.Event()
    processes = [fork.Process(target=hammer, args=(path, i, stop)) for i in range(2)]
    for process in processes:
        process.start()
    executions = []

    @store.atomic
    def add_to_all():
        executions[-1] += 1
        for key in range(200):
            values[key] += 1

    wait_for(lambda: sum(values.values()) > 100)
    for _ in range(20):
        executions.append(0)
        add_to_all()
    stop.set()
    join_all(processes)
    assert max(executions) <= 12, executions
    assert min(values.values()) >= 20


# ------------------------------------------------------------------------------------------------ fork


def test_fork_with_a_transaction_that_waits(store):
    """The child of a body that goes on to retry() is not in the transaction: it can't wait in it."""
    root = store.root
    codes = []

    def body():
        root.get("a")
        pid = os.fork()
        if pid == 0:
            try:
                shobj.retry()
            except shobj.TransactionError:
                os._exit(7)
            os._exit(1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        root["a"] = 1

    store.run(body)
    assert codes == [7]
    assert root == {"a": 1}


# ------------------------------------------------------------------------------------------------ interleaved


def test_retry_across_interleaved_generators(store):
    root = store.root

    def body():
        with store.transaction():
            root["a"] = root.get("a", 0)
            yield
            shobj.retry()

    @store.atomic
    def function():
        generator = body()
        next(generator)
        root.get("b")
        kept.append(generator)
        shobj.retry()

    kept = []
    with pytest.raises(shobj.TransactionError, match="interleaved"):
        function()
    with pytest.raises(shobj.TransactionError):
        next(kept[0])
    first, second = body(), body()
    next(first)
    next(second)
    with pytest.raises(shobj.TransactionError):
        next(first)
    with pytest.raises(shobj.TransactionError):
        next(second)
    root["after"] = 1
    assert root == {"after": 1}
