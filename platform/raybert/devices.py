"""Where computation runs: device, precision and threads."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raybert.errors import SettingsError

if TYPE_CHECKING:
    import torch

Function = TypeVar("Function", bound=Callable[..., Any])

DTYPES = ("auto", "float32", "bfloat16", "float16")

TILES = frozenset({"amx_tile", "amx_bf16", "avx512_bf16"})
"""The instruction sets that multiply tiles of bfloat16, as Linux names them."""
TILE_WIDTH = 32
"""Numbers in a row of such a tile; the width of a layer on tiles is a multiple of it."""
_ARCH_PRCTL, _ASK, _TILE_DATA = 158, 0x1023, 18
"""The call of Linux by which a process asks to use tiles (Documentation/arch/x86/xstate.rst)."""


def pick_device(device: str = "auto") -> torch.device:
    """Return the device to use; `auto` takes the first GPU, else the CPU.

    Raises:
        SettingsError: `device` is no torch device, or is not present on this machine.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise SettingsError(f"device {device!r}: allowed are auto, cpu, cuda, cuda:N") from error
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"device {device!r}: this machine has no CUDA device; use cpu or auto")
    return picked


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the number format to compute in.

    `auto` is float32 on a CPU, bfloat16 on a GPU that has it, else float16.
    """
    import torch

    if dtype not in DTYPES:
        raise SettingsError(f"dtype {dtype!r}: allowed are {', '.join(DTYPES)}")
    if dtype != "auto":
        return getattr(torch, dtype)  # type: ignore[no-any-return]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def cpu_count() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_features() -> frozenset[str]:
    """Return the names of the CPU's instruction sets, as Linux tells them; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        return frozenset()
    found = (line for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(found, "").partition(":")[2].split())


@functools.cache
def tiles_work() -> bool:
    """Tell whether this CPU multiplies tiles of bfloat16 (AMX) and Linux lets this process.

    Asking also gets the permission, for this process and those it forks.
    """
    if not (cpu_features() >= TILES and platform.machine() == "x86_64"):
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ASK, _TILE_DATA) == 0)


def set_threads(threads: int) -> None:
    """Give torch `threads` threads in this process (one operation at a time uses them all)."""
    import torch

    torch.set_num_threads(max(1, threads))


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Return Numba's decorator: compiled when first called, run without Python's lock.

    What it compiled is kept on disk; where nothing can be written (a container without a home of
    its own), every process compiles anew.

    Args:
        options: of `numba.njit`.
    """
    import numba

    def decorate(function: Function) -> Function:
        found: Any = numba.njit(nogil=True, **options)(function)
        try:
            found.enable_caching()
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
        return found  # type: ignore[no-any-return]

    return decorate
