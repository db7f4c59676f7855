"""What nothing refers to any more is freed; what somebody has a proxy of, or an open transaction has, is not."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest
import shobj
from conftest import wait_for


@pytest.fixture
def quiet(store):
    """A store in which no collection begins by itself."""
    store.gc_growth = None
    return store


def ring(store, size):
    """Dicts in a ring that leads to nothing else; the first one, which nothing in the store refers to."""
    first = store.dict()
    at = first
    for _ in range(size - 1):
        at["next"] = {}
        at = at["next"]
    at["next"] = first
    return first


def objects(store):
    store.gc()
    return store.stat()["objects"]


def is_there(store, oid):
    try:
        store.get(oid)
    except shobj.StaleObjectError:
        return False
    return True


# ---------------------------------------------------------------------------------------------- what is freed


def test_cycles_are_freed(quiet):
    for size in (1, 2, 3, 50, 1000):
        ring(quiet, size)
    before = quiet.stat()
    assert before["objects"] >= 1056
    result = quiet.gc()
    after = quiet.stat()
    assert after["objects"] == 1
    assert result["freed"] == before["blocks"] - after["blocks"] >= 1055
    assert result["freed_bytes"] == before["used_bytes"] - after["used_bytes"] > 0
    assert result["seconds"] > 0
    assert after["gc_freed_ever"] - before["gc_freed_ever"] == result["freed"]


def test_what_the_root_leads_to_stays(quiet):
    root = quiet.root
    root["ring"] = ring(quiet, 20)
    root["list"] = [[i, {"i": (i, str(i) * 100, [i])}] for i in range(500)]
    expected = shobj.to_native(root["list"])
    root["gone"] = [{"a": i} for i in range(500)]
    del root["gone"]
    for threads in (1, 3):
        quiet.gc(threads)
        assert root["list"] == expected
        at = root["ring"]
        for _ in range(20):
            at = at["next"]
        assert at is root["ring"]
    del at
    assert quiet.stat()["objects"] == 1 + 20 + 1 + 3 * 500
    root.clear()
    assert objects(quiet) == 1


def test_threads_as_keyword(quiet):
    quiet.gc(threads=2)
    for wrong in (0, -1, 65):
        with pytest.raises(ValueError, match="threads"):
            quiet.gc(wrong)
    with pytest.raises(TypeError):
        quiet.gc("2")
    with pytest.raises(TypeError):
        quiet.gc(wait=True)


def test_stale_ids(quiet):
    shared = quiet.dict(a=1)
    oid = shared.oid
    assert quiet.get(oid) is shared
    del shared
    quiet.gc()
    for again in (oid, f"{oid:016x}"):
        with pytest.raises(shobj.StaleObjectError):
            quiet.get(again)
    quiet.root["new"] = [{"a": i} for i in range(200)]  # takes the place of the old one
    with pytest.raises(shobj.StaleObjectError):
        quiet.get(oid)


# ---------------------------------------------------------------------------------------------- what keeps


def test_a_proxy_keeps_all_below_it(quiet):
    quiet.root["a"] = {"b": {"c": [1, 2, {"d": 3}]}}
    b = quiet.root["a"]["b"]
    a_oid = quiet.root["a"].oid
    del quiet.root["a"]
    assert objects(quiet) == 1 + 3
    assert not is_there(quiet, a_oid)
    assert b == {"c": [1, 2, {"d": 3}]}
    assert quiet.stat()["pins"] >= 1
    del b
    assert objects(quiet) == 1


def test_an_iterator_and_a_view_keep_their_object(quiet):
    quiet.root["l"] = [[i] for i in range(100)]
    quiet.root["d"] = {str(i): i for i in range(100)}
    iterator, view = iter(quiet.root["l"]), quiet.root["d"].items()
    assert next(iterator) == [0]
    quiet.root.clear()
    quiet.gc()
    assert [x[0] for x in iterator] == list(range(1, 100))
    assert dict(view) == {str(i): i for i in range(100)}
    del iterator, view
    assert objects(quiet) == 1


def test_a_proxy_in_another_process(quiet, child):
    quiet.root["mine"] = ring(quiet, 10)
    oid = quiet.root["mine"].oid
    other = child(
        """
mine = root["mine"]
say("got it")
sys.stdin.readline()
del mine
say("gone")
sys.stdin.readline()
""",
    )
    other.expect("got it")
    del quiet.root["mine"]
    assert objects(quiet) == 1 + 10
    assert is_there(quiet, oid)
    others = [s for s in quiet.sessions() if s["pid"] == other.pid]
    assert others
    assert all(s["pins"] == 2 for s in others)  # the root, and ours
    other.tell()
    other.expect("gone")
    assert objects(quiet) == 1
    assert not is_there(quiet, oid)


def test_a_killed_process_keeps_nothing(quiet, child):
    quiet.root["mine"] = ring(quiet, 10)
    other = child("mine = root['mine']\nsay('got it')\nsys.stdin.readline()\n")
    other.expect("got it")
    del quiet.root["mine"]
    assert objects(quiet) == 1 + 10
    os.kill(other.pid, signal.SIGKILL)
    other.process.wait()
    assert objects(quiet) == 1


def test_a_forked_child_keeps_what_its_parent_drops(quiet):
    shared = quiet.list([[1], [2]])
    oid = shared.oid
    to_child, from_child = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(to_child[1])
            os.read(to_child[0], 1)  # its parent has collected
            right = shared == [[1], [2]]
            shared.append(3)
            os.write(from_child[1], b"y" if right and shared[2] == 3 else b"n")
            os.read(to_child[0], 1)
        finally:
            os._exit(0)
    os.close(to_child[0])
    try:
        del shared
        assert objects(quiet) == 1 + 3
        os.write(to_child[1], b"x")
        assert os.read(from_child[0], 1) == b"y"
        assert is_there(quiet, oid)
        assert objects(quiet) == 1 + 3
    finally:
        os.close(to_child[1])
        os.waitpid(pid, 0)
        for end in from_child:
            os.close(end)
    assert objects(quiet) == 1


def test_an_open_transaction_keeps_what_it_has_made(quiet, child):
    other = child(
        """
@store.atomic
def make():
    root["made"] = [{"i": i} for i in range(50)]
    say("made")
    sys.stdin.readline()
make()
say("committed")
sys.stdin.readline()
""",
    )
    other.expect("made")
    for _ in range(3):
        quiet.gc()
    assert "made" not in quiet.root
    other.tell()
    other.expect("committed")
    assert quiet.root["made"] == [{"i": i} for i in range(50)]
    quiet.gc()
    assert quiet.root["made"] == [{"i": i} for i in range(50)]


def test_what_a_transaction_has_taken_out(quiet):
    """An object that is nowhere but in a transaction, while another process collects."""
    quiet.root["from"] = {"x": [1, 2, 3]}
    collect = [sys.executable, "-c", "import shobj, sys\nshobj.open_store(sys.argv[1], 'w').gc()", quiet.path]

    @quiet.atomic
    def move():
        taken = quiet.root["from"].pop("x")
        subprocess.run(collect, check=True)
        quiet.root["to"] = taken

    move()
    quiet.gc()
    assert quiet.root == {"from": {}, "to": [1, 2, 3]}


# ---------------------------------------------------------------------------------------------- who may collect


def test_not_inside_a_transaction(quiet):
    with pytest.raises(shobj.TransactionError), quiet.transaction():
        quiet.gc()


def test_not_on_a_store_for_reading(path):
    shobj.open_store(path, "n").close()
    with shobj.open_store(path, "r") as store:
        with pytest.raises(shobj.ReadOnlyError) as caught:
            store.gc()
        assert path in str(caught.value)
        with pytest.raises(shobj.ReadOnlyError):
            store.gc_growth = 50
        assert store.stat()["gc_phase"] == "idle"


def test_growth(store, path):
    assert 1 <= store.gc_growth <= 100
    store.gc_growth = 50
    assert store.gc_growth == 50
    program = "import shobj, sys\nprint(shobj.open_store(sys.argv[1], 'r').gc_growth)"
    assert subprocess.check_output([sys.executable, "-c", program, path], text=True) == "50\n"
    store.gc_growth = None
    assert store.gc_growth is None
    for wrong in (0, -1, 1 << 40):
        with pytest.raises(ValueError, match="gc_growth"):
            store.gc_growth = wrong
    with pytest.raises(TypeError):
        store.gc_growth = "50"
    with pytest.raises(AttributeError):
        del store.gc_growth
    assert store.gc_growth is None


def test_collections_begin_by_themselves(store):
    """As the heap grows, without anybody's asking; and none does when that is turned off."""
    root = store.root

    def churn():
        root["x"] = [{"a": [i, i + 1], "b": str(i) * 20} for i in range(2000)]
        return store.stat()["collections"]

    wait_for(lambda: churn() >= 3, 120)
    store.gc_growth = None
    store.gc()
    before = store.stat()
    for _ in range(30):
        churn()
    after = store.stat()
    assert after["used_bytes"] > 2 * before["used_bytes"] + (8 << 20)
    assert after["collections"] == before["collections"]
    store.gc()
    assert store.stat()["used_bytes"] < before["used_bytes"] + (8 << 20)


def test_two_processes_collect_at_once(quiet, child):
    script = """
for _ in range(30):
    ring = store.dict()
    ring["self"] = [ring]
    del ring
    store.gc()
say("done")
sys.stdin.readline()
"""
    quiet.root["kept"] = expected = {str(i): [i, [i]] for i in range(2000)}
    others = [child(script) for _ in range(2)]
    for i in range(30):
        quiet.root["kept"][str(i)] = expected[str(i)] = [i, [i]]
        quiet.gc(2)
    for other in others:
        other.expect("done")
    assert quiet.root["kept"] == expected
    assert objects(quiet) == 2 + 2 * 2000


def test_other_threads_run_meanwhile(quiet):
    quiet.root["x"] = [[i] for i in range(20000)]
    stop = threading.Event()
    ran = [0]

    def count():
        while not stop.is_set():
            ran[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        wait_for(lambda: ran[0] > 0)

        def collect():
            before = ran[0]
            quiet.gc()
            return ran[0] > before + 1000

        wait_for(collect)
    finally:
        stop.set()
        thread.join()


def test_a_signal_ends_it(quiet):
    quiet.root["x"] = [[{"a": i}] for i in range(60000)]

    class Interrupted(Exception):
        pass

    def handler(number, frame):
        raise Interrupted

    def is_interrupted():
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        try:
            quiet.gc()
        except Interrupted:
            return True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return False

    old = signal.signal(signal.SIGALRM, handler)
    try:
        wait_for(is_interrupted)
    finally:
        signal.signal(signal.SIGALRM, old)
    quiet.gc()
    assert quiet.stat()["gc_phase"] == "idle"
    assert quiet.root["x"][59999] == [{"a": 59999}]


def test_closed(path):
    store = shobj.open_store(path, "n")
    store.close()
    for operation in (store.gc, lambda: store.gc_growth, lambda: setattr(store, "gc_growth", 5)):
        with pytest.raises(shobj.StoreClosedError):
            operation()


def test_proxies_that_python_collects(quiet):
    """Proxies in a cycle of Python's keep their objects until Python's collector comes by."""

    class Box:
        pass

    box = Box()
    box.me, box.shared = box, quiet.list([[1]])
    gone = weakref.ref(box)
    gc.disable()
    try:
        del box
        assert objects(quiet) == 1 + 2
    finally:
        gc.enable()
    gc.collect()
    assert gone() is None
    assert objects(quiet) == 1


def test_figures(quiet):
    quiet.root["x"] = [[i] for i in range(1000)]
    quiet.gc()
    stat = quiet.stat()
    assert stat["gc_marked"] >= stat["objects"] == 1 + 1 + 1000
    assert stat["live_bytes"] == stat["gc_marked_bytes"]
    assert 0 < stat["gc_began_ns"] <= stat["gc_ended_ns"]
    assert stat["gc_held_slabs"] == 0
    assert stat["kept_bytes"] == sum(s["kept_bytes"] for s in quiet.sessions())
    assert stat["slabs"] > 0
    assert stat["pins"] == 0
    kept = [quiet.root["x"], quiet.root["x"][5]]
    assert quiet.stat()["pins"] == len(kept)
