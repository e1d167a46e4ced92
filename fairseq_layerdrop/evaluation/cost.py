"""What a model costs to run: time, multiply-adds and memory, and the machine on which they were measured."""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


@dataclass(frozen=True)
class Spread:
    """Some measurements in short.

    Attributes:
        median: half of them are below.
        low: a tenth of them is below.
        high: a tenth of them is above.
        count: how many there are.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        tenths = statistics.quantiles(values, n=10, method="inclusive")
        return cls(statistics.median(values), tenths[0], tenths[-1], len(values))


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call of *function* takes, with all that it leaves for a GPU to do."""
    _wait(device)
    start = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _sdpa_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Of shapes; the CPU's kernel is one that torch's counter doesn't know."""
    return sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]


def multiply_adds(function: Callable[[], object]) -> int:
    """Multiply-adds of the matrix products in a call of *function*; norms, softmax and look-ups don't count."""
    known = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa_flops}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        function()
    return int(counter.get_total_flops()) // 2


def forget_peak_memory(device: torch.device) -> None:
    """Let :func:`peak_memory` begin anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Bytes that were allocated on a GPU at most; on a CPU, those of the whole process, with Python and PyTorch."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def machine(device: torch.device) -> str:
    """What computes, in words: the GPU, or the processor with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of *tensors*, those that share their memory counted once."""
    return sum({tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors}.values())
