"""What numba lacks for the decoding step: bfloat16, arrays at an address, prefetching, and threads that meet.

A bfloat16 is the upper half of a float32: in NumPy's eyes an unsigned integer of 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.np.numpy_support import carray

# Sums may be reordered (that is what vectors are), but infinities and NaN keep their meaning. Numba's cache looks at
# the file of the outermost function alone: after a change here, touch ``kernels.py``. Its own annotations
# know nothing of what a decorated function takes.
compiled: Callable[[Callable[..., Any]], Any] = njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"}
)
intrinsic: Callable[[Callable[..., Any]], Any] = extending.intrinsic

_yield_processor = types.ExternalFunction("sched_yield", types.int32())
# Rounds of looking before a waiting thread offers its core to others: some ten microseconds.
_SPINS = 5_000


# -- numbers ----------------------------------------------------------------------------------


@intrinsic
def widened(_: Any, stored: types.Type) -> Any:
    """A stored weight, float32 or bfloat16, as float32."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
        if signature.args[0] == types.float32:
            return args[0]
        bits = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(stored), generate


@intrinsic
def _bits(_: Any, value: types.Type) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@intrinsic
def _as_float(_: Any, bits: types.Type) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@compiled
def exp(x: Any) -> Any:
    """e^x within 2 units in the last place, in vectors where ``np.exp`` is one call a number (Cephes' expf).

    2^-126 is the least it gives, 2^127 about the most; NaN stays NaN.
    """
    x = np.float32(-87.3) if x < np.float32(-87.3) else x
    x = np.float32(88.0) if x > np.float32(88.0) else x
    power = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    rest = x - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    series = series * rest * rest + rest + np.float32(1.0)
    return series * _as_float((np.int32(power) + np.int32(127)) << np.int32(23))


def store(row: Any, i: Any, value: Any) -> None:
    """Write a float32 into an array of float32, or rounded to nearest even into one of bfloat16."""
    raise NotImplementedError("compiled code alone calls this")


@extending.overload(store)
def _store(row: Any, i: Any, value: Any) -> Any:
    def as_it_is(row: Any, i: Any, value: Any) -> None:
        row[i] = value

    def rounded(row: Any, i: Any, value: Any) -> None:
        bits = _bits(value)
        if value != value:
            row[i] = np.uint16(0x7FC0)
        else:
            row[i] = np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    return rounded if row.dtype == types.uint16 else as_it_is


# -- arrays at an address ---------------------------------------------------------------------


@intrinsic
def _pointer(_: Any, address: types.Type, like: types.Array) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), generate


@compiled
def vector(address: int, length: int, like: Any) -> Any:
    """The array of that length at ``address``, with numbers of the type of ``like``."""
    return carray(_pointer(address, like), (length,))


@compiled
def matrix(address: int, rows: int, columns: int, like: Any) -> Any:
    """The same in two dimensions."""
    return carray(_pointer(address, like), (rows, columns))


@intrinsic
def _prefetch(_: Any, array: types.Array, i: types.Type, j: types.Type) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], fnty=kind)
        # To be read, into the nearest cache, as data.
        place = builder.bitcast(_place(context, builder, signature, args), byte)
        builder.call(function, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


@intrinsic
def _numbers_of_a_line(_: Any, array: types.Array) -> Any:
    """How many fill a line of the cache."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
        return ir.Constant(ir.IntType(64), 64 * 8 // signature.args[0].dtype.bitwidth)

    return types.int64(array), generate


@compiled
def prefetch(array: Any, first: int, last: int) -> None:
    """Ask for rows first to last of a matrix, which some later line reads."""
    step, width = _numbers_of_a_line(array), array.shape[1]
    for i in range(first, last):
        j = 0
        while j < width:
            _prefetch(array, i, j)
            j += step


# -- threads ----------------------------------------------------------------------------------


@intrinsic
def _add(_: Any, counters: types.Array, index: types.Type, amount: types.Type) -> Any:
    """Add to a counter at once for all threads; what it was before."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
        place = _place(context, builder, signature, args)
        return builder.atomic_rmw("add", place, args[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), generate


@intrinsic
def _look(_: Any, counters: types.Array, index: types.Type) -> Any:
    """A counter as other threads have left it."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", 8)

    return types.int64(counters, types.int64), generate


def _place(context: Any, builder: ir.IRBuilder, signature: Signature, args: Any) -> Any:
    """The address of an item: ``args`` are an array, its indices, and perhaps more."""
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, kind, array, args[1 : 1 + kind.ndim])


@compiled
def claim(counters: Any, index: int) -> int:
    """The next number of a counter: 0, 1, 2, …, each to one thread alone."""
    return _add(counters, index, 1)


@compiled
def meet(meeting: Any, num_threads: int) -> bool:
    """Wait until every thread has come here. False when one has called ``give_up``: what it should have done is missing.

    ``meeting``: int64 [3], zeros at first: who has come, how often all have met, whether somebody gave up.
    """
    if num_threads == 1:
        return True
    met = _look(meeting, 1)
    if _add(meeting, 0, 1) == num_threads - 1:
        _add(meeting, 0, -num_threads)
        _add(meeting, 1, 1)
        return _look(meeting, 2) == 0
    spins = 0
    while _look(meeting, 1) == met and _look(meeting, 2) == 0:
        spins += 1
        if spins > _SPINS:
            _yield_processor()
    return _look(meeting, 2) == 0


def give_up(meeting: Any) -> None:
    """Let nobody wait for this thread any more."""
    meeting[2] = 1
