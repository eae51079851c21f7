"""EigenCAM: the feature map's first principal component, by the grad-cam library."""

from __future__ import annotations

import torch
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.cams import enlarged, features, library
from reportgen.config import Config
from reportgen.records import Card, Measurement
from reportgen.work import Size, Work

CARD = Card(
    key="eigencam",
    title="EigenCAM",
    category="class activation map, without the class",
    definition="The first principal component of one feature map: its places, each a vector of "
    "channels less their mean, projected on the direction in which they differ most. Of the two "
    "signs it has the one with which it rises with the mean of the channels; negative values are "
    "set to zero.",
    paper="Muhammad and Yeasin, Eigen-CAM, IJCNN 2020, arXiv 2008.00299",
    range=(0, None),
    needs="an inner feature map",
    seeding="deterministic",
    self_check="share of the feature map's variance over its places that the component holds",
    limits="As coarse as the feature map; does not use the class, so it shows what stands out in "
    "the feature map, and the map is the same for every class.",
    granularity="feature map",
    class_agnostic=True,
)


def _explain(request: Request) -> Explained:
    layer = request.layer()
    activations = layer.grid.spatial(features(request, layer)).float()
    sums = _components(activations)
    check = _component_share(activations[0], sums[0])
    return enlarged(request, layer, sums, check, {"sign": "rises with the mean of the channels"})


def _components(activations: Tensor) -> Tensor:
    """Return the projections (n, h, w) of activations (n, C, h, w) on their first component."""
    array = activations.cpu().numpy()
    projected = library("EigenCAM").get_cam_image(None, None, None, array, None, False)
    sums = torch.from_numpy(projected).to(activations.device)
    # The solver gives either sign, and another build or device may give the other.
    sums = sums * _agreement(sums, activations).sign()[:, None, None]
    # Where all places are alike, what is left after the mean is taken away is rounding.
    return torch.where(_spread(activations)[:, None, None] > 0, sums, 0)


def _agreement(sums: Tensor, activations: Tensor) -> Tensor:
    """Return the covariance (n,) of the sums, up to scale, with the mean of the channels."""
    mean = activations.double().mean(1)
    centred = mean - mean.mean((1, 2), keepdim=True)
    return (sums.double() * centred).sum((1, 2)).float()


def _spread(activations: Tensor) -> Tensor:
    """Return the largest difference (n,) between two places in one channel."""
    return (activations.amax((2, 3)) - activations.amin((2, 3))).amax(1)


def _component_share(activation: Tensor, component: Tensor) -> Measurement:
    values = activation.double()
    total = float((values - values.mean((1, 2), keepdim=True)).square().sum())
    alike = not bool(component.any())
    return Measurement(
        metric="component_share",
        subject=CARD.key,
        value=None if alike else min(float(component.double().square().sum()) / total, 1),
        direction="higher is better",
        range=(0, 1),
        settings={"of": "variance of the feature map over its places"},
        note="the feature map is the same at every place" if alike else "",
    )


def _work(config: Config, size: Size) -> Work:
    return Work(1)


METHOD = Method(CARD, _explain, _work, ("layer",))
