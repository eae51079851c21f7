"""Why a pass with gradients failed, in words: PyTorch's own are about its insides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from reportgen.classifier.memory import out_of_memory
from reportgen.errors import NotApplicable, ReportgenError

_FAST = (
    "no gradient passes its transformer layers, which were traced in PyTorch's fast path; trace "
    "the network after torch.backends.mha.set_fastpath_enabled(False), or save it as .pt2 or as a "
    "state dict"
)
# What PyTorch says, and what it means; of several the first counts.
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"derivative for \S*(_transformer_encoder_layer_fwd|_native_multi_head_attention)",
        _FAST,
    ),
    (
        r"derivative for '?(?P<name>[\w:]+)'? is not implemented",
        "the network uses the operator {name}, of which PyTorch has no gradient; put one that has "
        "a gradient in its place",
    ),
    (
        r"does not have a derivative|must implement either the backward|backward\(\) not impl",
        "the network has a function of its own without a gradient; give that function a backward",
    ),
    (
        r"modified by an inplace operation|leaf Variable that requires grad .*in-place",
        "the network changes in place what its gradient needs; write that operation without the "
        "change in place (x = x + y for x += y)",
    ),
    (
        r"[Ii]nference tensors? ",
        "the network holds tensors made in torch.inference_mode, through which no gradient passes; "
        "make them under torch.no_grad",
    ),
)


def cause(error: Exception) -> str:
    """Return why a pass with gradients failed, as a clause."""
    words = str(error)
    for form, meaning in _CAUSES:
        found = re.search(form, words)
        if found:
            return meaning.format(**found.groupdict())
    lines = [line.strip().rstrip(".") for line in words.splitlines() if line.strip()]
    # A script repeats its own code first.
    said = (lines[-1] if "TorchScript" in lines[0] else lines[0]) if lines else ""
    kind = type(error).__name__
    told = said if said.startswith(kind) else ": ".join(filter(None, (kind, said)))
    return f"a computation with gradients fails in PyTorch or in the network ({told})"


@contextmanager
def in_words() -> Iterator[None]:
    """Raise NotApplicable, with the cause in words, where a pass with gradients fails inside.

    What is raised on purpose, and running out of memory, stays as it is.
    """
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, ReportgenError) or out_of_memory(error):
            raise
        raise NotApplicable(cause(error)) from error
