"""Products of float32 on AMX tiles, as exact as float32's own, compiled by Numba.

Every float32 is the sum of three bfloat16; of their nine products the three smallest, each below
2^-26 of the whole, are left out. The six others are summed in float32, as a product of float32 is
(Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype For
Higher-Precision Computations").

A tile is a register of 16 rows of 64 bytes: 16 x 32 bfloat16, or 16 x 16 float32 (Intel 64 and
IA-32 Architectures Software Developer's Manual, volume 1, "Programming with Intel AMX"). Numba has
no name for them, so LLVM's instructions are written here, in the file of what uses them: Numba
compiles anew when this file changes, and for no other. They take addresses and steps in bytes and
check nothing; memory of tiles is aligned to 64 bytes, or loading one takes six times as long.

Shapes: N rows, D width, O outputs; D and O are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from raybert.devices import TILE_WIDTH, compiled

Array = npt.NDArray[Any]

ROWS = 16
"""Rows of a tile, and float32 in each of them."""
BLOCK = TILE_WIDTH
"""Rows and columns that `multiply` computes at once, and bfloat16 in a row of a tile."""
LINE = 64
"""Bytes of a tile's row, and of a line of the cache."""
TILE = ROWS * LINE
"""Bytes of a tile."""
PARTS = 3
"""Parts of a float32."""
STEP = PARTS * TILE
"""Bytes that hold all parts of 16 rows and 32 columns."""

BIAS, GELU, NORM = range(3)
"""What follows a product: the bias alone, GELU, or a residual sum and its layer norm."""

_NUMBERS_AT_ONCE, _ROWS_AT_ONCE = 98_304, 256
"""How much of the rows is split and multiplied together: a quarter of a core's cache."""

CONFIGURATION = np.zeros(64, np.uint8)
"""What the CPU is told of its eight tiles: palette 1, 64 bytes a row, 16 rows."""
CONFIGURATION[0] = 1
CONFIGURATION[16:32].view(np.uint16)[:] = 64
CONFIGURATION[48:56] = ROWS

_ERF = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_BELOW = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
    -1.42647390514189e-02,
)  # fmt: skip
"""Erf(z) = z · P(z²) / Q(z²) for |z| < 4: the coefficients that Eigen and XLA use too."""


class _Bfloat(ir.types.Type):
    """LLVM's bfloat16, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __hash__(self) -> int:
        return hash(_Bfloat)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)


_INT8, _INT16, _INT32, _INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FLOATS, _WORDS = ir.VectorType(ir.FloatType(), ROWS), ir.VectorType(_INT32, ROWS)
_BFLOATS, _HALVES = ir.VectorType(_Bfloat(), ROWS), ir.VectorType(_INT16, ROWS)
_POINTER, _NOTHING = _INT8.as_pointer(), ir.VoidType()


def _call(builder: Any, name: str, gives: Any, arguments: Sequence[Any]) -> Any:
    """Call one of LLVM's functions."""
    kind = ir.FunctionType(gives, [each.type for each in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _tile(builder: Any, name: str, *arguments: Any) -> None:
    """Emit one instruction on tiles; a number is that of a tile."""
    taken = [ir.Constant(_INT8, each) if isinstance(each, int) else each for each in arguments]
    _call(builder, f"llvm.x86.{name}", _NOTHING, taken)


def _at(builder: Any, address: Any, offset: int = 0, kind: Any = _POINTER) -> Any:
    """Return the pointer to an address."""
    return builder.inttoptr(builder.add(address, ir.Constant(_INT64, offset)), kind)


def _floats(builder: Any, address: Any) -> Any:
    """Load 16 float32."""
    found = builder.load(_at(builder, address, 0, _FLOATS.as_pointer()))
    found.align = 4
    return found


def _store(builder: Any, value: Any, address: Any, offset: int = 0) -> None:
    """Store 16 numbers."""
    builder.store(value, _at(builder, address, offset, value.type.as_pointer())).align = 2


def _all(kind: Any, value: float) -> Any:
    """Return 16 times one number."""
    return ir.Constant(kind, [value] * ROWS)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a · b + c."""
    return _call(builder, "llvm.fma.v16f32", _FLOATS, (a, b, c))


def _polynomial(builder: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Return a polynomial by Horner's scheme, the highest power's coefficient first."""
    found = _all(_FLOATS, coefficients[0])
    for each in coefficients[1:]:
        found = _fma(builder, found, x, _all(_FLOATS, each))
    return found


@intrinsic  # type: ignore[untyped-decorator]
def set_up(_: Any, configuration: Any) -> Any:
    """Give this thread its tiles, by the address of `CONFIGURATION`."""

    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        _tile(builder, "ldtilecfg", _at(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def give_back(_: Any) -> Any:
    """Take this thread's tiles from it."""

    def code(context: Any, builder: Any, _: Any, __: Any) -> Any:
        _tile(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic  # type: ignore[untyped-decorator]
def split(_: Any, numbers: Any, out: Any) -> Any:
    """Write 16 float32 as three times 16 bfloat16, a tile apart, whose sum they are."""

    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        numbers, out = arguments
        rest = _floats(builder, numbers)
        for part in range(PARTS):
            name = "llvm.x86.avx512bf16.cvtneps2bf16.512"
            bits = builder.bitcast(_call(builder, name, _BFLOATS, (rest,)), _HALVES)
            _store(builder, bits, out, part * TILE)
            wide = builder.shl(builder.zext(bits, _WORDS), _all(_WORDS, 16))
            rest = builder.fsub(rest, builder.bitcast(wide, _FLOATS))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


_ORDER = ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0))
"""Which parts of rows and of columns are multiplied, small ones first; each pair but the last keeps
a tile of the one before it. The three other pairs are below 2^-26 of the product."""
_FETCHES = STEP // LINE // 4 // len(_ORDER)
"""Lines of the next columns fetched with every pair: all of them in eight blocks of rows."""


@intrinsic  # type: ignore[untyped-decorator]
def multiply(_: Any, rows: Any, columns: Any, panel: Any, out: Any, stride: Any, ahead: Any) -> Any:
    """Multiply 32 rows with 32 columns into float32 at `out`, whose rows are `stride` bytes apart.

    The first 16 rows, or columns, take `panel` bytes, a multiple of `STEP`, and the others as many.
    Meanwhile a quarter of that memory is fetched from `ahead` on.
    """

    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        rows, columns, panel, out, stride, ahead = arguments
        for tile in range(4):
            _tile(builder, "tilezero", tile)
        line, none = ir.Constant(_INT64, LINE), ir.Constant(_INT64, 0)
        step = ir.Constant(_INT64, STEP)
        with cgutils.for_range_slice(builder, none, panel, step, _INT64) as (done, _):
            sides = [builder.add(side, done) for side in (rows, columns)]
            soon = builder.add(ahead, builder.lshr(done, ir.Constant(_INT64, 2)))
            held: list[int | None] = [None, None]
            for turn, pair in enumerate(_ORDER):
                for side, part in enumerate(pair):
                    if held[side] == part:
                        continue
                    held[side] = part
                    for half in range(2):
                        start = builder.add(sides[side], panel) if half else sides[side]
                        where = _at(builder, start, part * TILE)
                        _tile(builder, "tileloadd64", 4 + 2 * side + half, where, line)
                for each in range(turn * _FETCHES, (turn + 1) * _FETCHES):
                    how = [ir.Constant(_INT32, value) for value in (0, 2, 1)]
                    where = _at(builder, soon, each * LINE)
                    _call(builder, "llvm.prefetch.p0", _NOTHING, (where, *how))
                for tile in range(4):
                    _tile(builder, "tdpbf16ps", tile, 4 + tile // 2, 6 + tile % 2)
        below = builder.mul(stride, ir.Constant(_INT64, ROWS))
        for tile in range(4):
            start = builder.add(out, below) if tile // 2 else out
            _tile(builder, "tilestored64", tile, _at(builder, start, tile % 2 * LINE), stride)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), code


@intrinsic  # type: ignore[untyped-decorator]
def gelu(_: Any, numbers: Any, bias: Any) -> Any:
    """Add 16 float32 of a bias to others and take GELU of them, in place.

    GELU(x) = x/2 · (1 + erf(x/√2)), Hendrycks and Gimpel 2016.
    """

    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        x = builder.fadd(*(_floats(builder, each) for each in arguments))
        z = builder.fmul(x, _all(_FLOATS, 0.5**0.5))
        square = builder.fmul(z, z)
        above, below = (_polynomial(builder, square, each) for each in (_ERF, _ERF_BELOW))
        erf = builder.fdiv(builder.fmul(z, above), below)
        for end, beyond in ((1, ">"), (-1, "<")):
            past = builder.fcmp_ordered(beyond, z, _all(_FLOATS, 4 * end))
            erf = builder.select(past, _all(_FLOATS, end), erf)
        half = builder.fmul(x, _all(_FLOATS, 0.5))
        _store(builder, _fma(builder, half, erf, half), arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


_compiled = compiled(error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
"""Sums may be taken in another order; what is no number stays so."""


def multiply_rows(
    x: Array, tiles: Array, bias: Array, y: Array, after: int, more: Array, norm: Array, eps: float
) -> None:
    """Fill y = f(x Wᵀ + b), without holding Python's lock.

    Args:
        x: [N, D] float32, contiguous.
        tiles: W by `tiled.pack_tiles`.
        bias: [O] float32.
        y: [N, O] float32, contiguous, aligned to 64 bytes.
        after: `BIAS`, `GELU` or `NORM`.
        more: [N, O], added before the norm; not read otherwise.
        norm: [2, O], the norm's weight and bias; not read otherwise.
        eps: added to the norm's variance.
    """
    width = x.shape[1]
    most = max(BLOCK, min(_ROWS_AT_ONCE, _NUMBERS_AT_ONCE // width // BLOCK * BLOCK))
    room = torch.empty(most // ROWS, width // BLOCK, PARTS, ROWS, BLOCK, dtype=torch.int16)
    last = torch.empty(BLOCK, BLOCK)
    sides, places = (x, tiles), (y, room.numpy(), last.numpy())
    _multiply_rows(sides, places, after, bias, more, norm, np.float32(eps))


@_compiled
def _multiply_rows(
    sides: Any, places: Any, after: Any, bias: Any, more: Any, norm: Any, eps: Any
) -> None:
    """Do as `multiply_rows`; `places` has room for rows split and for a last block of results."""
    (x, tiles), (y, room, last) = sides, places
    outputs, panel = y.shape[1], x.shape[1] // BLOCK * STEP
    most = len(room) * ROWS
    set_up(CONFIGURATION.ctypes.data)
    for start in range(0, len(x), most):
        count = min(most, len(x) - start)
        _split_rows(x, start, count, room)
        for column in range(0, outputs, BLOCK):
            weights = tiles.ctypes.data + column // ROWS * panel
            ahead = weights + 2 * panel if column + BLOCK < outputs else tiles.ctypes.data
            for row in range(0, count, BLOCK):
                rows = room.ctypes.data + row // ROWS * panel
                soon = ahead + row // BLOCK * panel // 4
                if row + BLOCK <= count:
                    at = y.ctypes.data + ((start + row) * outputs + column) * 4
                    multiply(rows, weights, panel, at, outputs * 4, soon)
                else:
                    multiply(rows, weights, panel, last.ctypes.data, BLOCK * 4, soon)
                    for each in range(count - row):
                        for at in range(BLOCK):
                            y[start + row + each, column + at] = last[each, at]
        for row in range(start, start + count):
            _finish(y[row], bias, after, more[row], norm, eps)
    give_back()


@_compiled
def _split_rows(x: Any, start: Any, count: Any, room: Any) -> None:
    """Write rows as tiles of their parts."""
    steps = room.shape[1]
    for row in range(count):
        numbers = x.ctypes.data + (start + row) * steps * BLOCK * 4
        out = room.ctypes.data + (row // ROWS * steps * STEP + row % ROWS * BLOCK * 2)
        for step in range(steps):
            for half in range(2):
                at = (step * 2 + half) * ROWS * 4
                split(numbers + at, out + step * STEP + half * ROWS * 2)


@_compiled
def _finish(line: Any, bias: Any, after: Any, more: Any, norm: Any, eps: Any) -> None:
    """Do in place what follows the product of a row."""
    size = np.float32(len(line))
    if after == GELU:
        for at in range(0, len(line), ROWS):
            gelu(line.ctypes.data + at * 4, bias.ctypes.data + at * 4)
    elif after == NORM:
        total = np.float32(0)
        for at in range(len(line)):
            value = line[at] + bias[at] + more[at]
            line[at] = value
            total += value
        mean, spread = total / size, np.float32(0)
        for at in range(len(line)):
            spread += (line[at] - mean) * (line[at] - mean)
        inverse = np.float32(1) / np.sqrt(spread / size + eps)
        for at in range(len(line)):
            line[at] = (line[at] - mean) * inverse * norm[0, at] + norm[1, at]
    else:
        for at in range(len(line)):
            line[at] += bias[at]
