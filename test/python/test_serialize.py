# SPDX-License-Identifier: BSD-3-Clause
"""Values and functions survive the trip; caches change nothing; errors name what can't travel."""
import functools
import pickle
import subprocess
import sys
import textwrap
import threading
import types
import warnings

import numpy as np
import pytest

from covey import _byvalue, canning, serialize
from covey.serialize import Reference, interactive, pack_apply, pack_map, pack_value, unpack_apply, unpack_map, unpack_value


def over_the_wire(packed):
    """What a receiver has: the stream read-only, buffers in memory of their own."""
    return [bytes(packed[0]), *map(bytearray, packed[1:])]


def trip(obj, ns=None):
    return unpack_value(over_the_wire(pack_value(obj)), ns)


def in_main(source):
    """Functions as if typed into __main__, with globals of their own."""
    ns = {"__name__": "__main__"}
    exec(textwrap.dedent(source), ns)
    return ns


@pytest.mark.parametrize("value", [
    None, 1, 1.5, "x", b"y", [1, {"a": (2, 3)}], {1, 2}, range(3), 1 + 2j, b"z" * 100_000, bytearray(b"z" * 100_000)])
def test_plain_values(value):
    got = trip(value)
    assert got == value and type(got) is type(value)


ARRAYS = {
    "small": np.arange(10), "large": np.arange(100_000), "fortran": np.arange(100_000).reshape(100, 1000).T,
    "strided": np.arange(100_000)[::2], "broadcast": np.broadcast_to(np.arange(5.0), (3000, 5)),
    "record": np.zeros(2000, dtype=[("a", "i4"), ("b", "M8[ns]")]), "empty": np.zeros((0, 3)),
    "object": np.array([{"a": 1}, None], dtype=object), "scalar": np.array(3.0)}


@pytest.mark.parametrize("value", [None, True, 7, 10**40, 1.5, 1j, "text", "x" * 100_000])
def test_simple_values_have_the_stream_that_the_pickler_writes(value):
    quick, full = pack_value(value), serialize._dump_default(value)
    assert (quick, quick.shared, quick.by_value) == (full, full.shared, full.by_value)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("writable", [True, False])
def test_s17_received_arrays_are_writable(name, writable):
    array = ARRAYS[name]
    if array.flags.owndata:
        array = array.copy()
        array.flags.writeable = writable
    got = trip(array)
    assert got.dtype == array.dtype and got.shape == array.shape
    assert (got == array).all()
    assert got.flags.writeable


def test_large_buffers_travel_beside_the_stream():
    array = np.ones(100_000)
    packed = pack_apply(len, ({"deep": [array]}, b"x" * 20_000))
    assert [memoryview(b).nbytes for b in packed[1:]] == [20_000, array.nbytes] or \
        [memoryview(b).nbytes for b in packed[1:]] == [array.nbytes, 20_000]
    assert len(packed[0]) < 1000
    assert len(pack_value(np.ones(10))) == 1


def test_memoryviews():
    got = trip([memoryview(b"abc"), memoryview(np.arange(6.0).reshape(2, 3)), memoryview(b"abcdef")[::2]])
    assert bytes(got[0]) == b"abc" and got[1].shape == (2, 3) and got[1].format == "d" and bytes(got[2]) == b"ace"


def test_m1_functions_get_the_receivers_globals():
    f = in_main("def f(x, *, y=2): return a + x + y")["f"]
    g, args, kwargs = unpack_apply(over_the_wire(pack_apply(f, (1,), {"y": 3})), {"a": 5})
    assert g(*args, **kwargs) == 9


def test_m1_at_any_depth():
    f = in_main("def f(): return a")["f"]
    got = trip({"list": [functools.partial(f)]}, {"a": 7})
    assert got["list"][0]() == 7


def test_closures_and_recursion():
    ns = in_main("""
        def outer(n):
            later = lambda: defined_later
            def fact(n): return 1 if n < 2 else n * fact(n - 1)
            def unset(): return nowhere
            defined_later = n
            if n < 0: nowhere = 1
            return fact, later, unset
        """)
    fact, later, unset = trip(ns["outer"](3))
    assert fact(5) == 120 and later() == 3
    with pytest.raises(NameError):
        unset()


def test_function_attributes_survive():
    f = in_main("""
        def f(a: int, b=2, *, c=3) -> str:
            "doc"
        f.mark = 1
        """)["f"]
    g = trip(f)
    assert (g.__doc__, g.__defaults__, g.__kwdefaults__, g.mark, g.__name__) == ("doc", (2,), {"c": 3}, 1, "f")
    assert g.__annotations__ == {"a": int, "return": str}


def test_module_functions_go_by_name():
    assert trip(textwrap.dedent) is textwrap.dedent
    assert not pack_apply(textwrap.dedent, ("x",)).by_value
    assert pack_apply(lambda: 1).by_value


def test_nested_functions_of_local_modules_bring_their_globals():
    def uses_module_global():
        return HELPER_VALUE
    packed = over_the_wire(pack_value(uses_module_global))
    module = sys.modules.pop(__name__)
    try:
        assert unpack_value(packed)() == 42
    finally:
        sys.modules[__name__] = module


HELPER_VALUE = 42


def test_interactive():
    f = interactive(test_module_functions_go_by_name)
    assert f.__module__ == "__main__" and pack_apply(f).by_value


MAIN_SCRIPT = """
import sys
from covey.serialize import pack_value, unpack_value, pack_apply, unpack_apply

class Foo:
    def __init__(self): self.x = 1
    def m(self, y): return self.x + y
    def __repr__(self): return "Foo " + super().__repr__()[:1]

class Bar(Foo):
    pass

if sys.argv[1] == "send":
    sys.stdout.buffer.write(pack_value([Foo().m, Bar(), {"Foo": Foo}, Foo])[0])
"""


def run_main(tmp_path, *argv, data=b"", script=MAIN_SCRIPT):
    path = tmp_path / "main.py"
    path.write_text(script)
    return subprocess.run([sys.executable, str(path), *argv], input=data, stdout=subprocess.PIPE, check=True).stdout


def test_m1_classes_of_main_travel_by_value(tmp_path):
    sent = run_main(tmp_path, "send")
    out = run_main(tmp_path, "x", data=sent, script="""
import sys
from covey.serialize import pack_value, unpack_value
m, bar, d, Foo = unpack_value([sys.stdin.buffer.read()])
assert m(3) == 4 and repr(bar) == "Foo <" and isinstance(bar, Foo) and d["Foo"] is Foo
sys.stdout.buffer.write(pack_value(bar)[0])
""")
    out = run_main(tmp_path, "back", data=out, script=MAIN_SCRIPT + """
back = unpack_value([sys.stdin.buffer.read()])
assert type(back) is Bar, type(back)
print("same class")
""")
    assert out.strip() == b"same class"


def test_m2_each_task_unpickles_its_own_defaults():
    f = in_main("def f(x, acc=[]):\n    acc.append(x)\n    return acc")["f"]
    packed = pack_map(f, [(i,) for i in range(3)])
    assert [g(*a) for g, a in unpack_map(over_the_wire(packed), {})] == [[0], [1], [2]]
    one = over_the_wire(pack_apply(f, (1,)))
    assert [g(*a) for g, a, _ in (unpack_apply(one, {}) for _ in range(2))] == [[1], [1]]


def test_m2_changed_closures_and_defaults_are_sent_anew():
    ns = in_main("""
        def make():
            n = [0]
            def get(): return n[0]
            return n, get
        def f(x=[1]): return x
        """)
    n, get = ns["make"]()
    assert trip(get)() == 0
    n[0] = 5
    assert trip(get)() == 5
    f = ns["f"]
    trip(f)
    f.__defaults__ = ([2],)
    assert trip(f)() == [2]


def test_m2_arrays_changed_in_place_are_sent_anew():
    a = np.zeros(10_000)
    trip(a)
    a[:] = 7
    assert trip(a)[0] == 7


def test_map_with_buffers_and_errors_of_items():
    items = [(np.full(5000, i), i) for i in range(3)] + [("x", None)]
    got = [(f, a) for f, a in unpack_map(over_the_wire(pack_map(max, items)), {})]
    assert [f for f, _ in got] == [max] * 4
    assert [a[0][0] for _, a in got] == [0, 1, 2, "x"] and got[1][1][0].flags.writeable
    with pytest.raises(TypeError, match="item 1, argument 0"):
        pack_map(max, [(1,), (threading.Lock(),)])


def test_map_function_with_large_buffers():
    big = np.arange(5000)
    f = in_main("def make(big):\n    return lambda i: big[i]")["make"](big)
    assert [g(*a) for g, a in unpack_map(over_the_wire(pack_map(f, [(1,), (2,)])), {})] == [1, 2]


def test_values_of_a_range():
    packed = serialize.pack_values([pack_value(v) for v in (1, np.arange(5000), None)])
    one, two, three = serialize.unpack_values(over_the_wire(packed))
    assert one == 1 and (two == np.arange(5000)).all() and three is None


def test_the_path_of_what_cannot_travel():
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"can't send args\[1\]\['lock'\]: cannot pickle .*Send what it is made from"):
        pack_apply(len, (1, {"lock": lock}))
    with pytest.raises(TypeError, match=r"kwargs\['x'\]\[2\]"):
        pack_apply(len, (), {"x": [1, 2, lock]})
    f = in_main("def make(v):\n    return lambda: v")["make"](lock)
    with pytest.raises(TypeError, match="the function's variable 'v'"):
        pack_apply(f)
    thing = types.SimpleNamespace(inner=types.SimpleNamespace(handle=lock))
    with pytest.raises(TypeError, match=r"args\[0\]\.inner\.handle"):
        pack_apply(len, (thing,))


def test_a_large_capture_warns_with_its_name():
    f = in_main("def make(data):\n    return lambda: data")["make"](np.zeros(1 << 20))
    with pytest.warns(UserWarning, match="'data' \\(8 MiB\\)"):
        pack_apply(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack_apply(in_main("def make(data):\n    return lambda: data")["make"]([1]))


def test_references():
    f, args, kwargs = unpack_apply(over_the_wire(pack_apply(
        Reference("g"), (Reference("a[0]"), [Reference("a")]), {"k": {"x": Reference("a")}})), {"g": max, "a": [5]})
    assert f is max and args == (5, [[5]]) and kwargs == {"k": {"x": [5]}}
    assert trip(Reference("a")) == Reference("a")
    assert serialize.resolve_references((Reference("a"), 1), {"k": Reference("a")}, {"a": 3}) == ([3, 1], {"k": 3})
    with pytest.raises(TypeError):
        Reference(5)
    with pytest.raises(NameError):
        unpack_apply(over_the_wire(pack_apply(len, (Reference("missing"),))), {})


def test_m18_code_of_another_python_is_refused_in_words():
    f = in_main("def f(): pass")["f"]
    make, args = _byvalue.reduce_function(f)[:2]
    with pytest.raises(TypeError, match="travelled as Python 3.2 code"):
        make((3 << 8) | 2, *args[1:])


def test_switching_the_serializer():
    f = in_main("k = 5\ndef f(): return k")["f"]
    try:
        for use in (serialize.use_cloudpickle, serialize.use_dill):
            if use is serialize.use_dill:
                pytest.importorskip("dill", reason="dill is optional")
            use()
            g, _, _ = unpack_apply(over_the_wire(pack_apply(f)), {})
            assert g() == 5
    finally:
        serialize.use_pickle()
    g, _, _ = unpack_apply(over_the_wire(pack_apply(f)), {"k": 6})
    assert g() == 6


class Celsius:
    """A type that a program packs its own way."""

    def __init__(self, degrees):
        self.degrees = degrees


class CannedCelsius(canning.CannedObject):
    def __init__(self, obj):
        self.buffers, self.text = [], f"{obj.degrees} C"

    def get_object(self, g=None):
        return Celsius(int(self.text.split()[0]))


def test_types_of_one_s_own():
    canning.can_map[Celsius] = CannedCelsius
    try:
        assert b"20 C" in bytes(serialize.pack_value(Celsius(20))[0]), "tasks pack it that way"
        assert trip([Celsius(20)])[0].degrees == 20 and canning.uncan(canning.can({"t": Celsius(3)}))["t"].degrees == 3
        canning.uncan_map[CannedCelsius] = lambda canned, g: canned.text
        assert trip(Celsius(4)) == "4 C"
    finally:
        canning.can_map.clear()
        canning.uncan_map.clear()


@pytest.mark.parametrize("value", [b"x" * 2000, bytearray(b"y" * 10), memoryview(b"z" * 2000), np.arange(6.).reshape(2, 3), np.array([], "i4"),
                                   np.array(["a", None], object), np.zeros(3, [("a", "i4"), ("b", "S2")]), {"k": [1, (2, b"w" * 5000)]}, 5, "text"])
def test_canned_values_come_back(value):
    for back in (canning.uncan(pickle.loads(pickle.dumps(canning.can(value)))),
                 serialize.deserialize_object([bytes(b) for b in serialize.serialize_object(value)])[0]):
        assert type(back) is type(value) and (np.array_equal(back, value) if isinstance(value, np.ndarray) else back == value)


def test_buffers_beside_the_stream():
    assert [len(serialize.serialize_object({"a": b"x" * n})) for n in (1024, 1025)] == [1, 2]
    assert len(serialize.serialize_object(np.ones(200), 4096)) == 1
    f = functools.partial(max, b"a" * 20000, key=memoryview(b"b"))
    canned = canning.can(f)
    assert isinstance(canned, canning.CannedPartial) and len(canned.buffers) == 1
    assert canning.uncan(canned).args == f.args


def test_names_of_stock():
    assert len(serialize.serialize_object(np.ones(9999))) == 2
    obj, left = serialize.deserialize_object(serialize.serialize_object({"a": np.ones(9999)}))
    assert (obj["a"] == 1).all() and left == []
    assert serialize.uncan(serialize.can([1])) == [1]
    assert serialize.uncan("not packed") == "not packed"
    assert serialize.unpack_apply_message(serialize.pack_apply_message(max, (1, 2), {}))[0] is max
    pre = serialize.PrePickled({"x": np.ones(5000)})
    assert (trip([pre])[0]["x"] == 1).all()


def test_what_pickle_refuses_goes_to_cloudpickle():
    class Local:
        value = 3
    assert trip(Local()).value == 3
    assert trip(types) is types


def test_pickle_is_not_asked_twice_for_simple_calls():
    """A call with nothing special does not go through the pickler's hook: the price of a no-op."""
    calls = []
    original = serialize._dump
    serialize._dump = lambda kind, obj, head: calls.append(kind) or original(kind, obj)
    try:
        plain = [pack_apply(max, (1, "a")), pack_apply(textwrap.dedent, ("a",))]
        assert calls == []
        pack_apply(max, ([1],)), pack_apply([].append, (1,)), pack_apply(lambda: 1), pack_apply(max, (1,), {"key": abs})
    finally:
        serialize._dump = original
    assert calls == [serialize._Pickler] * 4
    assert [unpack_apply(over_the_wire(p), {})[:2] for p in plain] == [(max, (1, "a")), (textwrap.dedent, ("a",))]


def test_received_streams_are_standard_pickle():
    assert pickle.loads(pack_value([1, 2])[0]) == [1, 2]


def test_m2_a_plain_call_is_what_the_pickler_writes():
    ns = in_main('''
        def f(x, y=3): return x, y
        def g(x, acc=[]): acc.append(x); return acc
        def h(x, *, k=1): return x + k
        def annotated(x: int): return x
        def outer(n):
            return lambda x: x + n
        ''')
    for f in (*(ns[n] for n in "fgh"), ns["annotated"], ns["outer"](5)):
        for args in ((), (1,), (1.5,), (True,), (None,), ("text",), ("é" * 900,), (2 ** 80,), (-1,)):
            packed = pack_apply(f, args)
            got, got_args, kwargs = unpack_apply(over_the_wire(packed), {})
            assert packed.by_value and got_args == args and kwargs == {} and got.__code__ == f.__code__
            assert got.__name__ == f.__name__ and got.__defaults__ == f.__defaults__ and got is not f
    many = unpack_apply(over_the_wire(pack_apply(ns["f"], ("a", "a", 1, "b"))), {})
    assert many[1] == ("a", "a", 1, "b")


def test_m2_a_plain_call_follows_changes_of_its_function():
    f = in_main("def f(x=1): return x")["f"]

    def sent():
        got, args, kwargs = unpack_apply(over_the_wire(pack_apply(f, ())), {})
        return got, got(*args, **kwargs)
    assert sent()[1] == 1
    f.__defaults__ = (2,)
    assert sent()[1] == 2
    f.__defaults__ = ([],)  # from now on each task needs its own
    assert sent()[1] == [] and sent()[0].__defaults__[0] is not f.__defaults__[0]
    f.__defaults__, f.__doc__, f.__name__ = (3,), "said", "g"
    got, value = sent()
    assert (value, got.__doc__, got.__name__) == (3, "said", "g")
    f.mark = "kept"
    assert sent()[0].mark == "kept"
    f.__code__ = in_main("def f(x=1): return x * 100")["f"].__code__
    assert sent()[1] == 300
    f.__kwdefaults__ = {}
    f.__annotations__ = {"x": "int"}
    assert sent()[0].__annotations__ == {"x": "int"}
