"""Networks of which only predictions can be had: no gradients, and nothing from inside."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from reportgen.errors import NotApplicable


class BlackBox(nn.Module):
    """A network that is run by something other than PyTorch, from NCHW float batches to outputs.

    ``reason`` says why only predictions can be had of it, to follow "because". ``devices`` are
    those that it can run on, the best first. ``weights`` are the number of parameters and the hash
    over them, None where nobody can know; they become ``parameter_count`` and ``weights_sha256``.
    """

    def __init__(
        self,
        run: Callable[[Tensor], object],
        reason: str,
        devices: tuple[str, ...] = ("cpu",),
        weights: tuple[int, str] | None = None,
    ) -> None:
        super().__init__()
        self._run = run
        self.reason = reason
        self.devices = devices
        self.parameter_count: int | None = weights[0] if weights else None
        self.weights_sha256: str | None = weights[1] if weights else None

    def forward(self, batch: Tensor) -> object:
        """Return what is said of a batch; NotApplicable where a gradient by the batch is wanted."""
        if batch.requires_grad:
            raise closed(self)
        return self._run(batch)


def closed(network: BlackBox) -> NotApplicable:
    """Return the error for a step that wants more of a black box than its predictions."""
    return without_gradients(f"the model gives predictions only, because {network.reason}")


def without_gradients(reason: str) -> NotApplicable:
    """Return the error for a step that wants more than predictions where, for a ``reason``, there
    is no more.
    """
    return NotApplicable(
        f"this step needs gradients, or what the network computes inside, and {reason}"
    )


def reason_of(network: nn.Module) -> str:
    """Return why only predictions can be had of a network, "" where more can."""
    return network.reason if isinstance(network, BlackBox) else ""
