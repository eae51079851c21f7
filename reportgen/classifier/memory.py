"""How much memory passes through a network need, and how many pictures fit into what there is.

"Memory" is what PyTorch's allocator hands out on the device, beyond the program itself.
"""

from __future__ import annotations

import gc
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig

from reportgen.errors import NotApplicable, UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([kmg]i?b|b?)\s*", re.IGNORECASE)
# Blocks that were freed are not all used again: in MobileNetV2 and ResNet-50, batches of 8 and 16,
# the process grew by 1.04 to 1.28 times what the allocator had handed out at one time.
_SPARE_PERCENT = 30
_ROOT = Path("/")


@dataclass(frozen=True)
class Footprint:
    """Bytes that a network needs: its ``weights``, and those of a pass.

    A pass needs ``constant``, and for each picture ``forward`` without gradients or ``backward``
    with the gradient by the picture. ``smallest`` is the number of pictures of its smallest pass.
    """

    weights: int
    constant: int
    forward: int
    backward: int
    smallest: int = 1

    def needed(self, pictures: int) -> int:
        """Return the bytes of weights and the larger kind of pass, with what is lost by freeing."""
        one_pass = self.constant + pictures * max(self.forward, self.backward)
        return self.weights + one_pass * (100 + _SPARE_PERCENT) // 100


def parse_memory(text: str) -> int:
    """Return a size such as "4GB", "800 MB", "1.5GiB" or "2000000000" in bytes.

    Raises UsageError for anything else, and for sizes below one byte.
    """
    found = _SIZE.fullmatch(text)
    size = round(float(found[1]) * _UNITS[found[2].lower().removesuffix("b")]) if found else 0
    if size < 1:
        raise UsageError(
            f"The memory cannot be '{text}'; give a size above zero with its unit, such as 800MB, "
            "4GB or 1.5GiB."
        )
    return size


def spelled(size: int) -> str:
    """Return a number of bytes in words, such as "2.1 GB" or "800 MB"."""
    for unit, name, digits in ((10**9, "GB", 1), (10**6, "MB", 0), (10**3, "kB", 0)):
        if size >= 0.9995 * unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size} B"


def largest_batch(footprint: Footprint, limit: int, wanted: int) -> int:
    """Return the largest batch size up to ``wanted`` whose passes need at most ``limit`` bytes.

    Passes with gradients are included. Raises UsageError where not even the smallest pass fits.
    """
    smallest = footprint.smallest
    if footprint.needed(smallest) > limit:
        raise UsageError(f"A pass of {shortage(footprint, limit)}.")
    passes = range(1, ceil(wanted / smallest) + 1)
    fitting = bisect_right(passes, limit, key=lambda n: footprint.needed(n * smallest))
    return min(wanted, fitting * smallest)


def shortage(footprint: Footprint, limit: int) -> str:
    """Return what the smallest pass needs beside the ``limit`` in bytes, and what to do."""
    least = footprint.needed(footprint.smallest)
    return (
        f"{footprint.smallest} picture(s) needs about {spelled(least)} with the model's weights, "
        f"more than the {spelled(limit)} allowed; allow {ceil(least / 10**6)}MB or more with "
        "--max-memory, or use a smaller --size"
    )


def out_of_memory(error: Exception) -> bool:
    """Return whether an error is that of too little memory, on the CPU or on a device."""
    words = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in words
        or "can't allocate memory" in words
    )


def footprint(
    forward: Callable[[Tensor], Tensor],
    pixels: Tensor,
    weights: int,
    fixed: bool = False,
    graded: bool = True,
) -> Footprint:
    """Return what passes of ``forward`` need, measured on ``pixels`` (n, C, H, W) and on the first.

    ``forward`` gives outputs (n, ...). It is run on n pictures and on one, without gradients and
    with (and back where it can be differentiated): 2 (n + 1) pictures forward, n + 1 backward. A
    ``fixed`` network accepts n pictures only, and is run on these: 2 n forward, n backward.
    ``weights`` is in bytes. Of a network that is not to be ``graded``, only passes without
    gradients are made and counted. Raises NotApplicable as ``peak_memory``.
    """
    gc.collect()  # rubbish of before, freed during a pass, would be taken off what the pass needs
    one, forth = _peaks(partial(_without_gradient, forward), pixels, fixed)
    other, back = (
        _peaks(partial(_with_gradient, forward), pixels, fixed) if graded else (one, forth)
    )
    constant = max(0, max(one, other) - max(forth, back))
    return Footprint(weights, constant, forth, back, len(pixels) if fixed else 1)


def weight_bytes(network: nn.Module) -> int:
    """Return the bytes of the tensors that a network holds, those in shared memory once."""
    storages = (tensor.untyped_storage() for tensor in _held(network))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes allocated at one time while ``run`` runs, beyond those of before.

    On CUDA the allocator's own peak is read, and so set back. On the CPU its events are summed up:
    tensors and the buffers of oneDNN's convolutions, whatever the network's format; not NumPy's
    arrays, what libraries take from the system themselves (packed matrices, compiled kernels), or
    what threads that are not PyTorch's allocate. Raises NotApplicable for other devices, while
    another profiler is at work, and where this PyTorch has no such events.
    """
    if device.type == "cuda":
        return _peak_on_cuda(run, device)
    if device.type != "cpu":
        raise NotApplicable(f"the memory of a pass cannot be measured on '{device.type}'")
    return _peak_on_cpu(run)


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that can be allocated on the device now, or None where that is not known.

    On the CPU (Linux) this is what the system can give, within the limits of the control groups.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if device.type != "cpu":
        return None
    free = _entry(_ROOT / "proc/meminfo", "MemAvailable:")
    return None if free is None else max(0, min([free * 1024, *_group_rooms()]))


def _peaks(run: Callable[[Tensor], None], pixels: Tensor, fixed: bool) -> tuple[int, int]:
    """Return the bytes of a pass of the first picture, and those of a picture in larger batches.

    At each moment of a pass the bytes are a + b m for m pictures, at another moment another line:
    the peak is convex in m. So the slope between two small batches can be too small for larger
    ones, but a + b m <= m (a + b n) / n for all m >= n: the mean over n bounds them.
    """
    # The larger batch first: what is allocated once and kept must not be missed.
    mean = ceil(peak_memory(lambda: run(pixels), pixels.device) / len(pixels))
    return 0 if fixed else peak_memory(lambda: run(pixels[:1]), pixels.device), mean


def _without_gradient(forward: Callable[[Tensor], Tensor], pixels: Tensor) -> None:
    with torch.inference_mode():
        forward(pixels.clone())  # a copy, so that the pictures themselves are measured as well


def _with_gradient(forward: Callable[[Tensor], Tensor], pixels: Tensor) -> None:
    leaf = pixels.clone().requires_grad_()
    with torch.enable_grad():
        output = forward(leaf)
    if output.requires_grad:
        torch.autograd.grad(output.sum(), leaf, allow_unused=True)


def _held(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()
    if isinstance(network, torch.jit.ScriptModule):
        graph: Any = network.inlined_graph  # frozen weights are constants in it
        constants = (n.output() for n in graph.findAllNodes("prim::Constant", recurse=True))
        yield from (c.toIValue() for c in constants if isinstance(c.toIValue(), Tensor))


def _peak_on_cuda(run: Callable[[], object], device: torch.device) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(run: Callable[[], object]) -> int:
    # The newer torch.profiler sees the same events, but writes two lines to stderr at every use.
    try:
        from torch._C._autograd import (
            _disable_profiler_legacy,
            _enable_profiler_legacy,
            _enable_record_function,
        )
    except ImportError:
        raise NotApplicable("this PyTorch does not say what a pass allocates") from None
    if torch._C._autograd._profiler_enabled():
        raise NotApplicable("the memory of a pass cannot be measured inside another profiler")
    _enable_profiler_legacy(_only_memory())
    _enable_record_function(False)  # operations would be nine of ten events, and take the time
    try:
        run()
    finally:
        _enable_record_function(True)
        threads = _disable_profiler_legacy()
    events = list(chain.from_iterable(threads))
    events.sort(key=events[0].cpu_elapsed_us)
    return max(accumulate((event.cpu_memory_usage() for event in events), initial=0))


def _only_memory() -> ProfilerConfig:
    # No shapes, but memory; no stacks, no operations, no modules.
    flags = (False, True, False, False, False)
    return ProfilerConfig(ProfilerState.CPU, *flags, _ExperimentalConfig())


def _group_rooms() -> Iterator[int]:
    """Yield what each memory limit of this process' control groups, version 2 and 1, leaves."""
    try:
        lines = (_ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _rooms(_ROOT / "sys/fs/cgroup", path, names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _rooms(_ROOT / "sys/fs/cgroup/memory", path, names)


def _rooms(top: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    # A group is bound by those above it; inside a container only the topmost can be seen.
    group = top / path.lstrip("/")
    for folder in (group, *group.parents):
        if folder.is_relative_to(top):
            limit, used = _entry(folder / names[0]), _entry(folder / names[1])
            if limit is not None and used is not None:
                # Cached files count as used, but give way to whoever needs memory.
                yield limit - used + (_entry(folder / "memory.stat", names[2]) or 0)


def _entry(file: Path, name: str = "") -> int | None:
    """Return the number after ``name`` in a file of lines "name number"; None without one."""
    try:
        words = file.read_text().split()
        return int(words[words.index(name) + 1 if name else 0])
    except (OSError, ValueError, IndexError):
        return None
