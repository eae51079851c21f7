"""How many images a step will send through the network, known before it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Images sent through the network, ``forward`` and ``backward``."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: Work) -> Work:
        """Return the work of both."""
        return Work(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: int) -> Work:
        """Return the work done ``times`` times."""
        return Work(self.forward * times, self.backward * times)


@dataclass(frozen=True)
class Size:
    """What the work depends on beside the options.

    ``height`` and ``width`` are those of the network's input in pixels, ``segments`` the number of
    segments that the picture is cut into, ``channels`` the channels of the layer that class
    activation maps look at.
    """

    height: int
    width: int
    segments: int
    channels: int
