"""Methods that look at the gradient at the picture itself, by captum: saliency, input x gradient.

The other gradient methods take their gradients from here.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request, in_batches
from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.records import Card
from reportgen.work import Size, Work

SALIENCY = Card(
    key="saliency",
    title="Saliency",
    category="gradient",
    definition="The largest absolute gradient of the class score over the channels of each pixel.",
    paper="Simonyan et al., Deep Inside Convolutional Networks, 2013, arXiv 1312.6034",
    range=(0, None),
    needs="gradients of the input",
    seeding="deterministic",
    limits="Says how strongly the score reacts to a small change of a pixel, not how much the "
    "pixel contributed, and not in which direction.",
    granularity="pixels",
)
INPUT_X_GRADIENT = Card(
    key="input-x-gradient",
    title="Input x Gradient",
    category="gradient",
    definition="Each pixel's difference from black, times the gradient of the class score by it; "
    "summed over channels.",
    paper="Shrikumar et al., Not Just a Black Box: Learning Important Features Through Propagating "
    "Activation Differences, 2016, arXiv 1605.01713",
    needs="gradients of the input",
    seeding="deterministic",
    limits="What each pixel adds if the score were linear between black and the picture; where it "
    "is not, the map does not add up. Black parts of the picture get nothing.",
    granularity="pixels",
)


def differentiable(request: Request) -> Callable[[Tensor], Tensor]:
    """Return a function from pixels (n, C, H, W) to class scores (n, classes) with a gradient.

    The function raises NotApplicable where the scores have no gradient by the picture.
    """

    def scores(pixels: Tensor) -> Tensor:
        found = request.classifier.evaluator.scores(pixels)
        if not found.requires_grad:
            raise NotApplicable("the class scores have no gradient by the picture")
        return found

    return scores


def gradients(request: Request, pixels: Tensor) -> Tensor:
    """Return the gradient (n, C, H, W) of the target's score by pixels (n, C, H, W), in one pass.

    Raises NotApplicable where the scores have no gradient by the picture.
    """
    # Imported late: captum brings matplotlib's pyplot.
    from captum.attr import Saliency

    method = Saliency(differentiable(request))
    found: Tensor = method.attribute(
        pixels.clone().requires_grad_(), target=request.target, abs=False
    )
    return found.detach()


def largest(gradient: Tensor) -> Tensor:
    """Return the largest absolute value (..., H, W) over the channels of (..., C, H, W)."""
    return gradient.abs().amax(dim=-3).float()


def _saliency(request: Request) -> Explained:
    return Explained(
        maps=in_batches(request, lambda pixels: largest(gradients(request, pixels))),
        signed=False,
        resolution="pixels",
        settings={
            "score": request.classifier.evaluator.head.score,
            "channels": "largest absolute value",
        },
    )


def _input_x_gradient(request: Request) -> Explained:
    from captum.attr import InputXGradient

    method = InputXGradient(differentiable(request))

    def run(pixels: Tensor) -> Tensor:
        leaf = pixels.clone().requires_grad_()
        found: Tensor = method.attribute(leaf, target=request.target).detach()
        return found.sum(dim=1).float()

    return Explained(
        maps=in_batches(request, run),
        signed=True,
        resolution="pixels",
        settings={
            "score": request.classifier.evaluator.head.score,
            "baseline": "black",
            "channels": "sum",
        },
    )


def _work(config: Config, size: Size) -> Work:
    return Work(1, 1)


SALIENCY_METHOD = Method(SALIENCY, _saliency, _work)
INPUT_X_GRADIENT_METHOD = Method(INPUT_X_GRADIENT, _input_x_gradient, _work)
