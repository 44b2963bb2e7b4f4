# SPDX-License-Identifier: BSD-3-Clause
"""How a sequence is cut into parts for engines, and put together again.

'b': contiguous blocks, the first ones longer. 'r': round robin.
"""
from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import chain, islice
from typing import Any

__all__ = ["Map", "RoundRobinMap", "mappable", "dists", "by_name"]


def is_array(obj: Any) -> bool:
    """Whether this is a NumPy array; NumPy is not imported for the question."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(obj, numpy.ndarray)


class Map:
    """Contiguous blocks.

    >>> [Map.get_partition(list(range(5)), p, 2) for p in range(2)]
    [[0, 1, 2], [3, 4]]
    """

    @staticmethod
    def get_partition(seq: Sequence, p: int, q: int, maxlen: int | None = None) -> Any:
        """Part p of q of seq's first maxlen items, as a slice of seq's own type."""
        n = len(seq) if maxlen is None else min(len(seq), maxlen)
        size, longer = divmod(n, q)
        start = p * size + min(p, longer)
        return seq[start:start + size + (p < longer)]

    @staticmethod
    def join_partitions(parts: Sequence) -> Any:
        """All parts as one: arrays concatenated, lists and tuples chained, others as a list of the parts."""
        parts = list(parts)
        if not parts:
            return parts
        if is_array(parts[0]):
            import numpy

            return numpy.concatenate(parts)
        if isinstance(parts[0], (list, tuple)):
            return list(chain.from_iterable(parts))
        return parts

    getPartition = get_partition
    joinPartitions = join_partitions


class RoundRobinMap(Map):
    """Every q-th item.

    >>> [RoundRobinMap.get_partition(list(range(5)), p, 2) for p in range(2)]
    [[0, 2, 4], [1, 3]]
    """

    @staticmethod
    def get_partition(seq: Sequence, p: int, q: int, maxlen: int | None = None) -> Any:
        n = len(seq) if maxlen is None else min(len(seq), maxlen)
        return seq[p:n:q]

    @staticmethod
    def join_partitions(parts: Sequence) -> Any:
        parts = [p for p in parts]
        if not parts:
            return parts
        if is_array(parts[0]):
            import numpy

            whole = numpy.empty((sum(len(p) for p in parts), *parts[0].shape[1:]), dtype=parts[0].dtype)
            for i, part in enumerate(parts):
                whole[i::len(parts)] = part
            return whole
        if isinstance(parts[0], (list, tuple)):
            return [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]
        return parts

    getPartition = get_partition
    joinPartitions = join_partitions


dists: dict[str, type[Map]] = {"b": Map, "r": RoundRobinMap, "block": Map, "round-robin": RoundRobinMap}


def by_name(dist: str) -> type[Map]:
    """The way of cutting of that name; ValueError names what there is."""
    try:
        return dists[dist]
    except (KeyError, TypeError):
        raise ValueError(f"dist is 'b' (blocks) or 'r' (round robin), not {dist!r}") from None


def _can_be_cut(obj: Any) -> bool:
    """By slices, that is."""
    return hasattr(obj, "__len__") and hasattr(obj, "__getitem__") and not isinstance(obj, (Mapping, deque))


def sliceable(sequences: Sequence[Iterable], to_shortest: bool) -> list[Any]:
    """The sequences as what can be cut by slices; iterators, dicts and deques as lists of their items.

    to_shortest : takes no more items of these than the shortest of all sequences has: an endless one may stand beside another
    """
    loose = [s for s in sequences if not _can_be_cut(s)]
    if to_shortest and loose:
        most = min([len(s) for s in sequences if isinstance(s, Sized)], default=None)
        rows = list(zip(*[islice(s, most) for s in loose]))
        lists = iter([[row[i] for row in rows] for i in range(len(loose))])
    else:
        lists = iter([list(s) for s in loose])
    return [s if _can_be_cut(s) else next(lists) for s in sequences]


def mappable(obj: Any) -> bool:
    """Can be cut: a list, a tuple or an array."""
    return isinstance(obj, (list, tuple)) or is_array(obj)
