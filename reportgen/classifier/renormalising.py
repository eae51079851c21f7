"""Whether GoogLeNet and Inception v3 of torchvision re-normalise their input: no weights tell.

The published weights come from another library, whose pictures were normalised otherwise; with
``transform_input`` these networks turn the usual normalisation into that one before all else.
"""

from __future__ import annotations

from torch import nn

from reportgen.classifier.metadata import Known
from reportgen.classifier.opened import Opened
from reportgen.errors import UsageError

RENORMALISING = ("googlenet", "inception_v3")
SWITCH = "transform_input"


def switched(opened: Opened, stated: Known[bool] | None) -> Opened:
    """Return the network with ``transform_input`` as a user states it beside the file.

    Raises UsageError where the network has no such switch.
    """
    if stated is None:
        return opened
    if not _has_switch(opened.network):
        raise UsageError(
            f"The description of '{opened.name}' has an entry '{SWITCH}', but only GoogLeNet and "
            "Inception v3 of torchvision, opened from a state dict, can be told so; leave it out."
        )
    setattr(opened.network, SWITCH, stated.value)
    return opened


def renormalising_note(opened: Opened, known: Known[bool] | None) -> str:
    """Return what to do where re-normalising was only assumed, "" where it was not."""
    if known is None or known.source != "assumed":
        return ""
    note = (
        f"The network re-normalises its input ({SWITCH}), as torchvision's published weights of "
        "its kind need; whether these weights do is not known, and was assumed"
    )
    if not _has_switch(opened.network):
        return f"{note}."
    return (
        f"{note}. If they were trained without it, write {SWITCH} = false into model.toml beside "
        "the file, or save the network as .pt2."
    )


def _has_switch(network: nn.Module) -> bool:
    return isinstance(getattr(network, SWITCH, None), bool)
