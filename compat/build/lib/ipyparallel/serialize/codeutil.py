"""Pickling of code objects by marshal, for those who register it (ipykernel.pickleutil does)."""
from __future__ import annotations

import copyreg
import marshal
import types


def code_ctor(data: bytes) -> types.CodeType:
    """A code object from `reduce_code`."""
    return marshal.loads(data)


def reduce_code(code: types.CodeType) -> tuple:
    """How a code object is pickled."""
    return code_ctor, (marshal.dumps(code, 2),)


copyreg.pickle(types.CodeType, reduce_code)
