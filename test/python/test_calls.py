"""Calls whose function is a buffer of its own, so that it can be sent once; tasks must not see that (M2)."""
import pickle
from functools import partial

import numpy as np
import pytest

from covey import _remote, serialize
from covey._calls import APPLY, CALL, SHARED_MAX, _known, pack_call, unpack_call


@pytest.fixture(autouse=True)
def nothing_known():
    _known.clear()


def with_table(n):
    table = [f"row {i}" for i in range(n)]

    def look_up(i, seen=[]):  # noqa: B006
        seen.append(table[i])
        return seen

    look_up.__module__ = "__main__"
    return look_up


def received(buffers):
    """What an engine has: one copy of the first buffer for all tasks, the others in memory of their own."""
    return [memoryview(bytearray(buffers[0])), *map(bytearray, buffers[1:])]


def run(buffers):
    f, args, kwargs = unpack_call(buffers, {})
    return f(*args, **kwargs)


def test_small_functions_travel_in_one_piece():
    f = with_table(3)
    kind, packed = pack_call(f, (1,))
    assert (kind, len(packed), packed.shared) == (APPLY, 1, 0)
    assert pack_call(f, (list(range(5000)),))[0] == APPLY, "it is the argument that is large"
    assert pack_call(len, (b"x" * 50_000,))[0] == APPLY


def test_a_large_function_is_a_buffer_of_its_own_with_equal_bytes_each_time():
    f = with_table(2000)
    calls = [pack_call(f, (i,), {}) for i in range(3)]
    assert {kind for kind, _ in calls} == {CALL}
    assert all(p.shared == 1 and p.by_value for _, p in calls)
    assert len({p[0] for _, p in calls}) == 1 and len({p[1] for _, p in calls}) == 3
    assert all(sum(map(len, p[1:])) < 200 for _, p in calls)


def test_each_task_unpickles_its_own():
    _, packed = pack_call(with_table(2000), (5,))
    task = received(packed)
    before = bytes(task[0])
    assert [run(task) for _ in range(3)] == [["row 5"]] * 3
    assert bytes(task[0]) == before


def test_arrays_in_a_closure_are_writable_and_each_tasks_own():
    a = np.arange(3000.0)
    frozen = np.arange(3000.0)
    frozen.flags.writeable = False

    def change(i):
        a[0] += 1
        frozen[1] += 1
        return a[0], frozen[1]

    change.__module__ = "__main__"
    kind, packed = pack_call(change, (1,))
    assert kind == CALL
    task = received(packed)
    assert [run(task) for _ in range(2)] == [(1.0, 2.0)] * 2
    a[0] = 7  # sent again, it is what it is now
    assert run(received(pack_call(change, (1,))[1])) == (8.0, 2.0)


def test_what_function_and_arguments_share_is_one_object():
    common = list(range(3000))

    def same(x, *, y):
        return x is common and y is common

    same.__module__ = "__main__"
    kind, packed = pack_call(same, (common,), {"y": common})
    assert kind == CALL and len(packed[1]) < 200
    assert run(received(packed)) is True


def test_large_arguments_stay_beside_the_stream():
    f = with_table(2000)
    array = np.arange(20_000)
    kind, packed = pack_call(f, (1, [array]))
    assert kind == CALL and [len(p) for p in packed[2:]] == [array.nbytes]
    _, args, _ = unpack_call(received(packed), {})
    args[1][0][0] = 9  # writable
    assert args[1][0][1] == 1


def test_a_function_that_grows_is_found_out():
    assert pack_call(with_table(300), ("x" * 5000,))[0] == APPLY
    assert pack_call(with_table(2000), ("x" * 5000,))[0] == CALL
    assert pack_call(with_table(3), ("x" * 5000,))[0] == APPLY
    assert pack_call(with_table(2000), (1,))[0] == CALL


def test_chunks_partials_and_methods():
    f = with_table(2000)
    kind, packed = pack_call(_remote.map_chunk, (f, [[1, 2]]))
    assert kind == CALL and run(received(packed)) == [["row 1", "row 2"]] * 2
    assert packed[0] == pack_call(_remote.map_chunk, (f, [[3]]))[1][0]
    kind, packed = pack_call(partial(f, 4))
    assert kind == CALL and run(received(packed)) == ["row 4"]
    many = {"a": list(range(3000))}
    kind, packed = pack_call(many.get, ("a",))
    assert kind == CALL and run(received(packed)) == many["a"]


def test_what_is_too_large_to_be_kept_is_not_copied_into_the_stream():
    a = np.zeros(SHARED_MAX // 8 + 1)

    def f():
        return a.sum()

    f.__module__ = "__main__"
    with pytest.warns(UserWarning, match="carries 'a'"):
        kind, packed = pack_call(f)
    assert kind == APPLY and len(packed) == 2


def test_what_cannot_travel_is_named_all_the_same():
    import threading

    f = with_table(2000)
    pack_call(f, (1,))
    with pytest.raises((TypeError, pickle.PicklingError), match=r"args\[1\]\['lock'\]"):
        pack_call(f, (1, {"lock": threading.Lock()}))


def test_a_maps_function_is_shared_too():
    packed = serialize.pack_map(with_table(2000), [(1,), (2,)])
    assert packed.shared == 1 and len(packed[0]) > 4096
