"""What made the figures of a benchmark, and how much memory it takes: what every script prints.

Sizes are in bytes. A figure is worth nothing without its machine, versions and command.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import reportgen
from reportgen.classifier.device import describe
from reportgen.provenance import package_versions

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_UNITS = {"GiB": GIB, "MiB": MIB, "KiB": KIB}
_STATUS = Path("/proc/self/status")
_RESTART_PEAK = b"5"  # what the kernel takes for "the peak is what is resident now"


@dataclass(frozen=True)
class Machine:
    """The machine, the versions and the command; ``memory`` in bytes, None where not known."""

    processor: str
    cores: int
    memory: int | None
    device: str
    threads: int
    system: str
    python: str
    reportgen: str
    packages: dict[str, str]
    command: str

    def as_json(self) -> dict[str, object]:
        """Return all fields by name, of types that JSON has."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield Markdown: one line on what made the figures, one on the machine."""
        yield (
            f"Made by `{self.command}` with reportgen {self.reportgen}, "
            f"torch {self.packages.get('torch', 'unknown')}, Python {self.python}."
        )
        memory = "unknown" if self.memory is None else written(self.memory)
        yield (
            f"\nMachine: {self.processor}, {self.cores} cores, memory {memory}, {self.system}; "
            f"device {self.device}, {self.threads} threads."
        )


def this_machine(device: torch.device) -> Machine:
    """Return the machine that this process runs on, computing on ``device``."""
    return Machine(
        processor=_processor(),
        cores=cores(),
        memory=_memory(),
        device=describe(device),
        threads=torch.get_num_threads(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        reportgen=reportgen.__version__,
        packages=package_versions(),
        command=command(sys.argv),
    )


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def command(arguments: list[str]) -> str:
    """Return the command line; the script stands in its folder, of other files only the name."""
    script, *others = arguments
    shown = (Path(word).name if "/" in word or Path(word).exists() else word for word in others)
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *shown])


def written(size: int | None) -> str:
    """Return a number of bytes in the largest unit that fits it; "none" for None."""
    if size is None:
        return "none"
    fitting = (f"{size / unit:,.1f} {name}" for name, unit in _UNITS.items() if size >= unit)
    return next(fitting, f"{size} bytes")


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has done what it was given: before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def host_memory() -> int:
    """Return what is resident of this process now, garbage collected; the peak where unknown."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return host_peak()
    return pages * os.sysconf("SC_PAGE_SIZE")


def host_peak() -> int:
    """Return the most that was resident of this process, since ``restart_peaks`` where it can."""
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_peak(device: torch.device) -> int | None:
    """Return the most that tensors took on ``device`` since ``restart_peaks``; None on the host."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def restart_peaks(device: torch.device) -> bool:
    """Let peaks be measured from now on; return whether the host's could be.

    Without it the host's peak is that of the whole process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    gc.collect()
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_bytes(_RESTART_PEAK)
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Give memory that is free already back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
