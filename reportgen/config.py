"""Every option, once: its name, its default, its limits and its help.

The same table serves the Python call, the TOML file (``--config``) and the command line. Later
sources win: defaults, then the profile, then the file, then the flags.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from reportgen.errors import UsageError

Baseline = Literal["black", "mean", "image-mean", "blur", "noise"]
Positive = Annotated[int, Field(ge=1)]

ALL = "all"
STANDARD_METRICS = (
    "deletion,insertion,confidence,localisation,complexity,agreement,location,randomisation,"
    "random-logit,rotation,noise,sensitivity"
)
PROFILES: Mapping[str, Mapping[str, int | float | str]] = {
    "quick": {
        "metrics": "deletion,insertion,confidence,localisation,complexity,agreement,location,"
        "random-logit,rotation,noise,sensitivity",
        "lime_samples": 100,
        "shap_evals": 100,
        "ig_steps": 20,
        "curve_steps": 8,
        "control_draws": 2,
        "rotation_step": 6.0,
        "noise_draws": 1,
        "sensitivity_draws": 2,
        "sensitivity_samples": 20,
        "sensitivity_steps": 5,
    },
    "standard": {},
    "full": {
        "metrics": ALL,
        "null_maps": 50,
        "lime_samples": 1000,
        "shap_evals": 1000,
        "ig_steps": 200,
        "curve_steps": 56,
        "control_draws": 20,
        "rotation_step": 0.5,
        "noise_draws": 20,
        "sensitivity_draws": 10,
        "sensitivity_samples": 200,
        "sensitivity_steps": 20,
        "occlusion_cells": 28,
        "rise_masks": 4000,
        "smoothgrad_draws": 50,
        "gradient_shap_draws": 200,
        "fidelity_samples": 1000,
        "sanity_stages": 16,
        "road_shares": "0.1,0.2,0.3,0.4,0.5,0.7,0.9",
    },
}


def _shares(text: str) -> str:
    try:
        known = all(0 < float(part) < 1 for part in text.split(","))
    except ValueError:
        known = False
    if not known:
        raise ValueError("expected shares above 0 and below 1, such as 0.2,0.5,0.8")
    return text


class Config(BaseModel):
    """All options of one run. Frozen; unknown names and impossible values are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    profile: Literal["quick", "standard", "full"] = Field(
        "standard", description="Sample counts: a first look, a report, or an audit."
    )
    seed: int = Field(0, ge=0, description="Seed of everything that is drawn at random.")

    arch: str = Field(
        "",
        description="Architecture of a state dict: torchvision:NAME, timm:NAME or "
        "package.module:factory. Recognised from the file when not given.",
    )
    labels: str = Field("", description="Class labels: a text file, one a line, or a JSON index.")
    size: str = Field(
        "", description="Input size the network sees: 224 or 224x320 (height x width)."
    )
    resize: Positive | None = Field(
        None, description="Short side before the centre crop; the input size when not given."
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = Field(
        None, description="Interpolation of the resize."
    )
    mean: str = Field("", description="Mean of each channel in [0, 1], for example 0.5,0.5,0.5.")
    std: str = Field("", description="Standard deviation of each channel, for example 0.2,0.2,0.2.")
    channel_order: Literal["rgb", "bgr"] | None = Field(
        None, description="Order of the colours that the network was trained on; rgb if not known."
    )
    head: Literal[
        "auto",
        "softmax",
        "sigmoid",
        "multilabel",
        "probabilities",
        "multilabel-probabilities",
        "log-probabilities",
    ] = Field("auto", description="How outputs become probabilities.")
    temperature: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Temperature by which logits are divided before softmax or sigmoid."
    )
    output: str = Field(
        "",
        description="Which of several outputs holds the class scores: its name or number. Found by "
        "its shape if not given.",
    )
    weights: str = Field(
        "",
        description="Entry of a checkpoint to read the weights from, such as model_ema. Chosen if "
        "not given.",
    )
    allow_download: bool = Field(
        False, description="Fetch a model from its hub where it is not in the local cache."
    )
    trust_pickle: bool = Field(
        False,
        description="Open a pickled model. It can run any code: only if you trust its author.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32",
        description="Number format of passes without gradients; tf32 and bf16 are coarser and "
        "faster, and used for a picture only where they rank its changed copies as float32 does.",
    )
    folding: bool = Field(
        True,
        description="Fold batch normalisation into convolutions for passes without gradients.",
    )
    batch_size: Positive | None = Field(
        None,
        description="Images a pass; halved when memory runs out. Chosen by device if not given.",
    )

    max_memory: str = Field(
        "",
        description="Memory that passes through the network may take, for example 4GB; bounds the "
        "batch. What is free if not given.",
    )

    target: str = Field(
        "",
        description="Class to explain: an index, a label, top:K, or contrast:A,B (why A and not "
        "B). The top class if not given; with several labels a picture, each above the threshold.",
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Probability from which on a label holds, with several labels a picture."
    )
    methods: str = Field(
        "gradcam,shap,lime,integrated-gradients,saliency",
        description="Methods to run, separated by commas; all for every one.",
    )
    metrics: str = Field(
        STANDARD_METRICS, description="Metrics to measure, separated by commas; all for every one."
    )
    layer: str = Field(
        "",
        description="Layer that class activation maps look at. Chosen by a self-test if not given.",
    )
    mask: str = Field(
        "",
        description="Where the object is: a picture of the same size, not black there; or boxes "
        "left,top,right,bottom in pixels, separated by semicolons; or, for several pictures, a "
        "folder with one mask for each, of the same name and ending in .png.",
    )

    segmentation: Literal["slic", "quickshift", "grid"] = Field(
        "slic", description="How the picture is cut into the segments of LIME and SHAP."
    )
    segments: Positive = Field(50, description="Segments to aim for (slic and grid).")
    lime_samples: Annotated[int, Field(ge=10)] = Field(
        250, description="Masked pictures LIME looks at."
    )
    lime_features: Positive | None = Field(
        None, description="Segments that LIME's surrogate keeps; all when not given."
    )
    lime_fill: Literal["segment-mean", "black", "mean", "image-mean", "blur", "noise"] = Field(
        "segment-mean", description="What LIME puts in place of a hidden segment."
    )
    shap_evals: Annotated[int, Field(ge=10)] = Field(
        160, description="Masked pictures that SHAP, and Kernel SHAP at least, looks at."
    )
    shap_fill: Baseline = Field("blur", description="What SHAP puts in place of a hidden segment.")
    ig_steps: Annotated[int, Field(ge=2)] = Field(50, description="Steps of Integrated Gradients.")
    ig_doublings: Annotated[int, Field(ge=0, le=6)] = Field(
        2,
        description="How often Integrated Gradients doubles its steps while its sum is off by more "
        "than 5%.",
    )
    ig_baseline: Baseline = Field(
        "black", description="Where the path of Integrated Gradients starts."
    )
    ig_postprocessing: Literal["none", "smooth-equalise-otsu"] = Field(
        "none",
        description="What is done to the map of Integrated Gradients: nothing, or Gaussian "
        "smoothing, adaptive histogram equalisation and Otsu's threshold.",
    )
    smoothgrad_draws: Positive = Field(20, description="Noisy copies that SmoothGrad averages.")
    smoothgrad_sigma: Annotated[float, Field(gt=0, le=1)] = Field(
        0.15, description="Standard deviation of SmoothGrad's noise, as a share of the value range."
    )
    gradient_shap_draws: Positive = Field(
        50, description="Points on the way from the baselines at which Gradient SHAP looks."
    )
    occlusion_cells: Annotated[int, Field(ge=2)] = Field(
        14, description="Positions of the occluding patch down and across the picture."
    )
    occlusion_fill: Baseline = Field("mean", description="What the occluding patch shows.")
    rise_masks: Annotated[int, Field(ge=10)] = Field(
        500, description="Random masks that RISE looks through."
    )
    rise_cells: Annotated[int, Field(ge=2)] = Field(
        7, description="Cells of RISE's masks down and across the picture."
    )
    rise_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Share of the cells that RISE shows."
    )

    curve_steps: Annotated[int, Field(ge=2)] = Field(
        10, description="Steps of the deletion and insertion curves."
    )
    deletion_baseline: Baseline = Field("mean", description="What deleted pixels become.")
    insertion_baseline: Baseline = Field(
        "blur", description="The picture that insertion starts from."
    )
    null_maps: Annotated[int, Field(ge=20)] = Field(
        20, description="Smooth random maps among which every value is placed."
    )
    control_draws: Positive = Field(3, description="Control maps of random pixels.")
    road_shares: Annotated[str, AfterValidator(_shares)] = Field(
        "0.2,0.5,0.8", description="Shares of pixels that ROAD removes, separated by commas."
    )
    fidelity_samples: Annotated[int, Field(ge=20)] = Field(
        200,
        description="Random removals behind infidelity, and each kind of faithfulness correlation.",
    )
    stability_seeds: Annotated[int, Field(ge=2)] = Field(
        10, description="Seeds under which sampled methods are repeated."
    )
    sanity_stages: Positive = Field(
        4, description="Stages in which the cascading randomisation destroys the model."
    )
    rotation_step: Annotated[float, Field(gt=0, le=45)] = Field(
        3.0, description="Grid of the rotation search, in degrees."
    )
    noise_draws: Positive = Field(2, description="Noisy copies at each kind and severity.")
    sensitivity_radius: Annotated[float, Field(gt=0, le=1)] = Field(
        4 / 255, description="Largest change of a pixel in max-sensitivity, pixels in [0, 1]."
    )
    sensitivity_draws: Positive = Field(
        2, description="Noisy copies behind max-sensitivity and the other stability metrics."
    )
    sensitivity_samples: Annotated[int, Field(ge=10)] = Field(
        30, description="LIME samples, SHAP evaluations and RISE masks where maps are made again."
    )
    sensitivity_steps: Annotated[int, Field(ge=2)] = Field(
        8, description="Steps and draws of gradient methods where maps are made again."
    )

    language: str = Field("en", description="Language of the report: a folder of templates/text.")
    templates: str = Field(
        "", description="Folder with text templates of your own, which replace those of their name."
    )
    narrator: str = Field(
        "",
        description="Language model that words the sections: llm:PATH_OR_ID for one on this "
        "machine, openai:URL#MODEL for a server. Templates alone if not given.",
    )
    narrator_seconds: Annotated[float, Field(gt=0)] = Field(
        300.0, description="Time that the language model may take for a whole report, in seconds."
    )
    narrator_tokens: Annotated[int, Field(ge=16)] = Field(
        120, description="Longest sentence that the language model may write, in tokens."
    )
    allow_remote: bool = Field(
        False, description="Let the narrator be a server on another machine; facts leave this one."
    )


def names_asked(text: str, table: Collection[str]) -> tuple[str, ...]:
    """Return the names in a comma-separated list; all of ``table`` for "all"."""
    return tuple(table) if text.strip() == ALL else split_names(text)


def load_config(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """Return the options of a run: defaults, profile, TOML ``file``, then ``flags``.

    Raises UsageError for a file that cannot be read, an unknown name, or an impossible value.
    """
    chosen = {**(_read_toml(file) if file else {}), **(flags or {})}
    profile = PROFILES.get(str(chosen.get("profile", "standard")), {})
    try:
        return Config(**{**profile, **chosen})
    except ValidationError as error:
        raise UsageError(_sentence(error)) from None


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list, in order, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the configuration '{file}': {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration '{file}' is not valid TOML: {error}.") from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"Unknown option '{name}'; the known ones are: {', '.join(Config.model_fields)}."
    reason = first["msg"].removeprefix("Value error, ")
    return f"Option '{name}' cannot be {first['input']!r}: {reason}."
