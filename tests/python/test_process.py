"""Several processes on one store: however they were started, and whenever they die."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
import shobj
from conftest import wait_for


def add_many(store, key, count):
    @store.atomic
    def add():
        store.root[key] = store.root.get(key, 0) + 1

    for _ in range(count):
        add()


def by_path(path, key, count):
    with shobj.open_store(path, "w") as store:
        add_many(store, key, count)


def by_proxy(shared, count):
    for i in range(count):
        shared["log"].append((os.getpid(), i))
    shared.update_with("done", lambda done: done + 1, 0)


def run_all(processes):
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_counting(store, path, method):
    context = multiprocessing.get_context(method)
    run_all([context.Process(target=by_path, args=(path, "n", 200)) for _ in range(3)])
    assert store.root == {"n": 600}
    if method != "fork":  # a forked child ends by os._exit(), without closing what it inherited
        assert store.stat()["processes"] == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_proxies_as_arguments(store, method):
    context = multiprocessing.get_context(method)
    store.root["shared"] = {"log": []}
    shared = store.root["shared"]
    run_all([context.Process(target=by_proxy, args=(shared, 50)) for _ in range(3)])
    assert shared["done"] == 3
    assert len(shared["log"]) == 150
    for pid in {pid for pid, _ in shared["log"]}:
        assert [i for p, i in shared["log"] if p == pid] == list(range(50))


def in_child(function):
    """Forks, runs the function in the child, and returns the child's exit code."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_fork_goes_on_with_what_it_has(store):
    root = store.root
    root["l"] = [1]
    shared = root["l"]

    def child():
        shared.append(2)
        assert root["l"] is shared
        add_many(store, "n", 10)

    assert in_child(child) == 0
    assert root == {"l": [1, 2], "n": 10}


@pytest.fixture
def two_dicts(store):
    """For the parent and the child, who would conflict in one."""
    store.root.update(parents={}, childs={})
    return store.root["parents"], store.root["childs"]


def test_open_transaction_stays_the_parents(store, two_dicts):
    parents, childs = two_dicts

    def child():
        assert parents == {}
        childs["n"] = 1
        with store.transaction():
            childs["n"] += 1

    with store.transaction():
        parents["n"] = 1
        assert in_child(child) == 0
        assert parents == {"n": 1}
    assert parents == {"n": 1}
    assert childs == {"n": 2}


def test_leaving_the_parents_block_in_the_child(store, two_dicts):
    parents, childs = two_dicts
    transaction = store.transaction()
    transaction.__enter__()
    parents["n"] = 1

    def child():
        with pytest.raises(shobj.TransactionError, match="parent"):
            transaction.__exit__(None, None, None)
        childs["n"] = 1

    assert in_child(child) == 0
    transaction.__exit__(None, None, None)
    assert (parents, childs) == ({"n": 1}, {"n": 1})


def test_fork_inside_an_atomic_function(store):
    root = store.root

    def fork_and_return():
        root["n"] = root.get("n", 0) + 1
        return os.fork()

    pid = None
    try:
        pid = store.run(fork_and_return)
    except shobj.TransactionError as error:
        os._exit(0 if "parent" in str(error) and root.get("n") in (None, 1) else 1)
    if pid == 0:
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert root == {"n": 1}


def test_fork_beside_busy_threads(store):
    root = store.root
    root["n"] = 0
    stop = threading.Event()

    def work():
        while not stop.is_set():
            root.update_with("n", lambda n: n + 1)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: add_many(store, "m", 5)) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert root["m"] == 50
    assert root["n"] > 0


def test_closing_in_the_child_leaves_the_parents_open(store):
    assert in_child(store.close) == 0
    store.root["a"] = 1
    assert store.root == {"a": 1}


def test_attaching_from_a_new_interpreter(store, path):
    store.root["words"] = {"a": [1]}
    code = f"import shobj\ns = shobj.open_store({path!r}, 'w')\ns.root['words']['a'].append(2)\nprint(s.root)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{'words': {'a': [1, 2]}}\n", done.stderr
    assert store.root == {"words": {"a": [1, 2]}}
    # It ended without close(): the end of the interpreter did it.
    assert store.stat()["processes"] == 1
    assert store.stat()["recoveries"] == 0


# ------------------------------------------------------------------------------------------------ death


TRANSFERS = """
import os, random, shobj, sys
store = shobj.open_store(sys.argv[1], "w")
accounts = store.root["accounts"]
random.seed(int(sys.argv[2]))

@store.atomic
def transfer(a, b, n):
    accounts[a]["balance"] -= n
    accounts[b]["balance"] += n
    accounts[a]["log"].append(n)

print("ready", flush=True)
while True:
    transfer(*random.sample(range(len(accounts)), 2), random.randrange(10))
"""


def test_killed_in_the_middle(store, path):
    count, balance = 10, 100
    store.root["accounts"] = [{"balance": balance, "log": []} for _ in range(count)]
    accounts = store.root["accounts"]

    @store.atomic
    def audit():
        return sum(account["balance"] for account in accounts)

    def start(seed):
        worker = subprocess.Popen(
            [sys.executable, "-c", TRANSFERS, path, str(seed)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout.readline() == "ready\n"
        return worker

    workers = [start(seed) for seed in range(3)]
    try:
        for seed in range(3, 9):
            busy = store.stat()["commits"]
            wait_for(lambda busy=busy: store.stat()["commits"] > busy + 20)
            victim = workers.pop(0)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            victim.stdout.close()
            assert audit() == count * balance
            workers.append(start(seed))
        before = store.stat()["commits"]
        wait_for(lambda: store.stat()["commits"] > before + 20)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            worker.stdout.close()
    assert audit() == count * balance
    for account in accounts:
        account["balance"] += 0
    assert store.check() == []


def test_killed_with_a_transaction_open(store):
    root = store.root
    root["l"] = [1]
    for number in range(20):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            with store.transaction():
                root["l"].append(2)
                root["new"] = {"x": number}
                os.write(write, b"x")
                time.sleep(60)
            os._exit(1)
        assert os.read(read, 1) == b"x"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
        assert root == {"l": [1]}
        root["l"][0] = number
        root["l"][0] = 1
    assert root == {"l": [1]}


# ------------------------------------------------------------------------------------------------ pickling


def test_pickle(store):
    root = store.root
    root["l"] = [1, {"a": 2}]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(root["l"], protocol)) is root["l"]
        assert pickle.loads(pickle.dumps([root, root["l"][1]], protocol)) == [root, {"a": 2}]
    assert len(pickle.dumps(root["l"], 5)) < 300
    again = pickle.loads(pickle.dumps(store))
    assert again.uuid == store.uuid
    assert again.root is root
    again.close()
    assert not store.closed


def test_pickle_opens_the_store(store, path):
    store.root["l"] = [1]
    code = (
        "import pickle, sys\nl = pickle.loads(sys.stdin.buffer.read())\n"
        "l.append(2)\nprint(type(l).__name__, l, l.store.path)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(store.root["l"]), capture_output=True, timeout=60
    )
    assert done.stdout.decode() == f"List [1, 2] {path}\n", done.stderr
    assert store.root["l"] == [1, 2]


def test_pickle_of_what_is_gone(path):
    with shobj.open_store(path, "n") as store:
        data = pickle.dumps(store.root)
    shobj.unlink(path)
    with pytest.raises(shobj.StoreNotFoundError):
        pickle.loads(data)
    with shobj.open_store(path, "n"):
        with pytest.raises(shobj.StaleObjectError, match="another"):
            pickle.loads(data)


# ------------------------------------------------------------------------------------------------ signals


class Alarm(BaseException):
    """Like KeyboardInterrupt: not taken for the consequence of a conflict."""


def ring(*_):
    raise Alarm


def test_interrupting_a_losing_loop(store):
    """A signal is served within and between the attempts of a transaction that has not won yet."""
    root = store.root
    root["n"] = 0
    pid = os.fork()
    if pid == 0:
        while True:
            root["n"] += 1

    def lose():
        n = root["n"]
        time.sleep(0.05)  # long enough for the child to be quicker
        root["n"] = n

    old = signal.signal(signal.SIGALRM, ring)
    try:
        wait_for(lambda: root["n"] > 0)
        signal.setitimer(signal.ITIMER_REAL, 0.12)
        with pytest.raises(Alarm):
            store.run(lose)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert root["n"] > 0
