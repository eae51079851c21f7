"""The parameters of a map can be taken out of a report and make the map again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from told_reports import report_of

import reportgen
from reportgen.attribution import METHODS
from reportgen.config import Config, load_config
from reportgen.errors import UsageError
from reportgen.parameters import parameters_of

SIGNS = Path(__file__).parents[1] / "examples" / "signs"
MODEL, PICTURE = SIGNS / "signs.pt2", SIGNS / "pictures" / "yield.png"


def explained(**options: object) -> reportgen.Explanation:
    return reportgen.explain(MODEL, PICTURE, {"metrics": "location", **options})


@pytest.mark.parametrize("method", ["lime", "shap"])
def test_the_parameters_give_the_same_map_again(method: str, tmp_path: Path) -> None:
    chosen = {"lime_samples": 40, "shap_evals": 60, "segments": 20, "seed": 5, "target": "2"}
    first = explained(methods=f"gradcam,{method}", lime_fill="black", shap_fill="mean", **chosen)
    file = tmp_path / "parameters.toml"
    file.write_text(parameters_of(first.report, method), encoding="utf-8")
    config = load_config(file, {"metrics": "location"})
    again = reportgen.explain(MODEL, PICTURE, config)
    assert [a.method for a in again.report.attributions] == [method]
    assert np.array_equal(first.arrays[f"map.{method}"], again.arrays[f"map.{method}"])
    assert first.report.attribution(method) == again.report.attribution(method)
    other = explained(methods=method, **{**chosen, "seed": 6})
    assert not np.array_equal(first.arrays[f"map.{method}"], other.arrays[f"map.{method}"])


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_a_method_is_written(method: str) -> None:
    config = Config().model_dump(mode="json")
    report = report_of(methods=(method,))
    provenance = report.provenance.model_copy(update={"config": config})
    text = parameters_of(report.model_copy(update={"provenance": provenance}), method)
    found = tomllib.loads(text)
    given = {name: config[name] for name in METHODS[method].options if config[name] is not None}
    assert found == {"methods": method, "seed": 0, "target": "0", **given}
    assert load_config(flags=found).methods == method


def test_hostile_names_stay_in_the_comment() -> None:
    report = report_of(name='x"\nseed = 9\nmethods = "all', methods=("saliency",))
    provenance = report.provenance.model_copy(update={"config": Config().model_dump(mode="json")})
    text = parameters_of(report.model_copy(update={"provenance": provenance}), "saliency")
    assert tomllib.loads(text) == {"methods": "saliency", "seed": 0, "target": "0"}


def test_a_method_without_a_map_is_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="Unknown method 'nonsense'; the known ones are"):
        parameters_of(report_of(), "nonsense")
    with pytest.raises(UsageError, match="has no map of 'lime'; it has gradcam"):
        parameters_of(report_of(), "lime")
