"""Tell weights of transformers' image classifiers by the names of their tensors."""

from __future__ import annotations

from collections.abc import Collection

from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.classifier.transformers_library import quiet

_HEAD = "classifier"
# What transformers calls the parts right below a network's name.
_PARTS = ("embeddings", "embedder", "patch_embeddings", "encoder", "stages", "layer", "layers")


def look_alike(names: Collection[str]) -> str:
    """Return the image classifier of transformers whose tensors seem to have these ``names``.

    "" where there is none, or without transformers. Its networks lie under a name of their kind
    ("vit.embeddings. ..."), beside the head. No network is built.
    """
    tops = {name.partition(".")[0] for name in names}
    below = {tuple(name.split(".")[:2]) for name in names}
    likely = {top for top, *rest in below if rest and rest[0] in _PARTS} - {_HEAD}
    return _of_prefix(likely) if likely and _HEAD in tops else ""


def _of_prefix(tops: Collection[str]) -> str:
    ensure_torchvision()
    try:
        import transformers
        from transformers.models.auto import modeling_auto
    except ImportError:
        return ""
    with quiet():
        for known in modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values():
            name = known if isinstance(known, str) else known[0]
            try:
                prefix = getattr(transformers, name).base_model_prefix
            except Exception:  # of a kind that needs another library still
                continue
            if prefix in tops:
                return str(name)
    return ""
