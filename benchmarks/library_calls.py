"""Maps and curves of one picture: each library's as its own documentation shows, and reportgen's.

The libraries get the network as it was opened, in float32 and in its own memory order, and pixels
in [0, 1]. What is theirs stays theirs: batch sizes, masking in numpy, pictures made tensors one by
one. Passes without gradients run under ``no_grad``, which not every example remembers. reportgen's
curves are those of ``reportgen.metrics.curves``, with the given maps as their only subjects:
control maps would cost passes that the libraries do not make.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from library_subject import Array, Subject, channels_last
from numpy.typing import NDArray
from torch import Tensor

from reportgen.attribution import METHODS, Request, layer_finder
from reportgen.attribution import integrated_gradients as own_gradients
from reportgen.attribution import shap as own_shap
from reportgen.attribution.coalitions import numpy_seeded
from reportgen.config import Baseline, Config
from reportgen.metrics import Context, Shared, curves
from reportgen.perturbation.removal import removal_counts, removal_ranks

# Of shap's examples on ImageNet: what hides pixels, and how many pictures run at once.
_BLUR, _BATCH = "blur(128,128)", 50


def gradcam(subject: Subject, config: Config) -> Array:
    """Return grad-cam's map, as in its README."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layers = [subject.plain.get_submodule(subject.module)]
    grid = subject.layer.grid
    reshape = None if grid.kind == "channels first" else grid.spatial
    with GradCAM(subject.plain, layers, reshape_transform=reshape) as cam:
        found = cam(subject.pixels[None], targets=[ClassifierOutputTarget(subject.target)])
    return np.asarray(found[0])


def lime(subject: Subject, config: Config) -> Array:
    """Return lime's map, as in its tutorial on images with PyTorch: bytes in batches of ten."""
    from lime.lime_image import LimeImageExplainer
    from torchvision.transforms.functional import to_tensor

    def batch_predict(images: NDArray[np.uint8]) -> Array:
        return subject.plain.probabilities(torch.stack(tuple(to_tensor(i) for i in images)))

    found = LimeImageExplainer(random_state=config.seed).explain_instance(
        np.rint(subject.picture * 255).astype(np.uint8),
        batch_predict,
        labels=(subject.target,),
        top_labels=None,
        hide_color=None,
        num_samples=config.lime_samples,
        segmentation_fn=lambda image: subject.segments,
        # Else the seed's first draw would be for a segmentation, and the maskings would be others.
        random_seed=config.seed,
    )
    weights = dict(found.local_exp[subject.target])
    return np.asarray([weights[index] for index in range(len(weights))])[subject.segments]


def shap_pixels(subject: Subject, config: Config) -> Array:
    """Return shap's map of single pixels, as in its examples on ImageNet."""
    import shap

    picture = subject.picture
    explainer = shap.Explainer(subject.predict, shap.maskers.Image(_BLUR, picture.shape))
    with numpy_seeded(config.seed):
        found = explainer(
            picture[None],
            max_evals=config.shap_evals,
            batch_size=_BATCH,
            outputs=[subject.target],
            silent=True,
        )
    return np.asarray(found.values[0, ..., 0].sum(axis=-1))


def shap_compiled() -> None:
    """Let shap compile its loops, by explaining eight by eight pixels of a constant."""
    import shap

    picture = np.zeros((8, 8, 3), dtype=np.float32)
    masker = shap.maskers.Image(_BLUR, picture.shape)
    explainer = shap.Explainer(lambda pictures: np.zeros((len(pictures), 2)), masker)
    explainer(picture[None], max_evals=10, batch_size=_BATCH, outputs=[1], silent=True)


class SegmentMasker:
    """What hides segments, by shap's page on custom maskers: in numpy, one picture a call."""

    def __init__(self, subject: Subject, config: Config) -> None:
        self.clustering = own_shap.segment_tree(subject.pixels, subject.segments)
        self.shape = (1, len(self.clustering) + 1)
        self._segments = subject.segments
        self._fill = channels_last(subject.fill(config.shap_fill, config))

    def __call__(self, mask: NDArray[np.bool_], picture: Array) -> Array:
        """Return the picture (1, H, W, 3) with the segments of ``mask`` alone."""
        return np.where(mask[self._segments][..., None], picture, self._fill)[None]

    def mask_shapes(self, picture: Array) -> list[tuple[int, ...]]:
        """Return how many segments there are, in the form that shap asks for."""
        return [self.shape[1:]]


def shap_segments(subject: Subject, config: Config) -> Array:
    """Return shap's map over reportgen's segments and tree, each picture masked by itself."""
    import shap

    masker = SegmentMasker(subject, config)
    explainer = shap.Explainer(subject.predict, masker, algorithm="partition")
    with numpy_seeded(config.seed):
        found = explainer(
            subject.picture[None],
            max_evals=config.shap_evals,
            # Which splits are refined depends on how many are looked at together.
            batch_size=own_shap._SPLITS_AT_ONCE,
            outputs=[subject.target],
            silent=True,
        )
    areas = np.bincount(subject.segments.ravel())
    return np.asarray((found.values[0, :, 0] / areas)[subject.segments])


def integrated_gradients(subject: Subject, config: Config) -> Array:
    """Return captum's map, as in its tutorials: all steps in one batch, and how far it is off."""
    from captum.attr import IntegratedGradients

    found, _ = IntegratedGradients(subject.plain).attribute(
        subject.pixels[None],
        baselines=subject.fill(config.ig_baseline, config)[None],
        target=subject.target,
        n_steps=config.ig_steps,
        return_convergence_delta=True,
    )
    return np.asarray(found[0].sum(dim=0).detach().cpu().numpy())


def deletion(subject: Subject, config: Config) -> Array:
    """Return RISE's probabilities (maps, fractions) while the picture goes."""
    return _curves(subject, config, subject.pixels, subject.fill(config.deletion_baseline, config))


def insertion(subject: Subject, config: Config) -> Array:
    """Return RISE's probabilities (maps, fractions) while the picture comes."""
    return _curves(subject, config, subject.fill(config.insertion_baseline, config), subject.pixels)


def _curves(subject: Subject, config: Config, start: Tensor, finish: Tensor) -> Array:
    size = subject.segments.size
    step = math.ceil(size / config.curve_steps)
    # Equal pixels have no order: both sides take them in reportgen's.
    order = removal_ranks(torch.stack(list(subject.maps.values())), config.seed).cpu().numpy()
    found = [_curve(subject, start[None].cpu(), finish[None].cpu(), -r, step) for r in order]
    at = np.minimum(np.arange(len(found[0])) * step, size)
    # Where the steps do not divide the pixels, RISE's last one is shorter.
    return np.stack([np.interp(removal_counts(size, config.curve_steps), at, f) for f in found])


def _curve(
    subject: Subject, start: Tensor, finish: Tensor, saliency: NDArray[np.int64], step: int
) -> Array:
    """Return one curve as ``CausalMetric.single_run`` of RISE's notebook makes it.

    One picture a pass, on the CPU in between, where numpy changes the next pixels.
    """
    current, last = (tensor.clone().numpy().reshape(1, 3, -1) for tensor in (start, finish))
    order = np.flip(np.argsort(saliency.reshape(1, -1), axis=1), axis=-1)
    steps = math.ceil(order.shape[1] / step)
    scores = np.empty(steps + 1)
    for done in range(steps + 1):
        pixels = torch.from_numpy(current.reshape(start.shape))
        scores[done] = subject.plain.probabilities(pixels)[0, subject.target]
        places = order[:, step * done : step * (done + 1)]
        current[0, :, places] = last[0, :, places]
    return scores


def own_map(method: str, subject: Subject, config: Config) -> Array:
    """Return reportgen's map by ``method``."""
    request = Request(
        classifier=subject.classifier,
        pixels=subject.pixels[None],
        target=subject.target,
        config=config,
        seed=config.seed,
        segments=subject.segments,
        layer=layer_finder(subject.classifier, subject.pixels, subject.target, config.layer),
    )
    return np.asarray(METHODS[method].explain(request).maps[0].cpu().numpy())


def own_integrated_gradients(subject: Subject, config: Config) -> Array:
    """Return the map of as many steps as asked for: without the rule that doubles them."""
    with patch.object(own_gradients, "ACCEPTED_GAP", math.inf):
        return own_map("integrated-gradients", subject, config)


def own_deletion(subject: Subject, config: Config) -> Array:
    """Return reportgen's probabilities (maps, fractions) while the picture goes."""
    return _own_curves(subject, config, curves.deletion_curves, config.deletion_baseline)


def own_insertion(subject: Subject, config: Config) -> Array:
    """Return reportgen's probabilities (maps, fractions) while the picture comes."""
    return _own_curves(subject, config, curves.insertion_curves, config.insertion_baseline)


def _own_curves(
    subject: Subject,
    config: Config,
    make: Callable[[Context, Baseline], curves.Curves],
    kind: Baseline,
) -> Array:
    context = Context(
        classifier=subject.classifier,
        pixels=subject.pixels,
        prediction=subject.prediction,
        maps=subject.maps,
        config=config,
        explain=_never,
        cards={},
        segments=torch.from_numpy(subject.segments).to(subject.pixels.device),
        mask=None,
        shared=Shared(subject.classifier.evaluator.counter),
    )
    with patch.object(curves, "subjects", lambda c: {key: m[None] for key, m in c.maps.items()}):
        found = make(context, kind)
    return np.concatenate([found.values[key] for key in subject.maps])


def _never(method: str, pixels: Tensor, config: Config) -> Tensor:
    raise NotImplementedError("curves make no maps")
