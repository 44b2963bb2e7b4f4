"""How sequences are cut for engines and put together again."""
import numpy as np
import pytest

from covey.map import Map, RoundRobinMap, by_name, mappable


@pytest.mark.parametrize("how", [Map, RoundRobinMap])
@pytest.mark.parametrize("q", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 6, 7, 20])
def test_what_is_cut_comes_together_again(how, q, n):
    for whole in (list(range(n)), tuple(range(n)), np.arange(float(n)), np.arange(2 * n).reshape(n, 2)):
        parts = [how.get_partition(whole, p, q) for p in range(q)]
        assert all(type(p) is type(whole) for p in parts) and sum(map(len, parts)) == n
        assert max(map(len, parts)) - min(map(len, parts)) <= 1, "no engine has two items more than another"
        again = how.join_partitions(parts)
        assert np.array_equal(again, whole) and (not isinstance(whole, np.ndarray) or again.dtype == whole.dtype)


def test_the_first_items_only():
    for how in (Map, RoundRobinMap):
        parts = [how.get_partition(list(range(10)), p, 2, 5) for p in range(2)]
        assert how.join_partitions(parts) == list(range(5))


def test_parts_that_nobody_can_join():
    for how in (Map, RoundRobinMap):
        parts = [how.get_partition(range(4), p, 2) for p in range(2)]
        assert how.join_partitions(iter(parts)) == parts and all(isinstance(p, range) for p in parts)
        assert how.join_partitions([]) == []


def test_names_of_the_ways():
    assert by_name("b") is by_name("block") is Map and by_name("r") is by_name("round-robin") is RoundRobinMap
    for bad in ("x", None, []):
        with pytest.raises(ValueError, match="round robin"):
            by_name(bad)
    assert mappable([1]) and mappable((1,)) and mappable(np.arange(2)) and not mappable("text") and not mappable(5)
