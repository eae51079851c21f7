"""`reportgen layers` and its Python call: what is listed, kept and refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn
from toys import FunctionalRelu, pictures, seeded

import reportgen
from reportgen.cli import main
from reportgen.errors import UsageError
from reportgen.facts import layer_failings
from reportgen.layer_records import LayerCandidate, LayerCheck, LayerChoice
from reportgen.listings import print_layers

SIGNS = Path(__file__).parents[1] / "examples" / "signs"
STOP = ["reportgen", "layers", str(SIGNS / "signs.pt2"), str(SIGNS / "pictures" / "stop.png")]


def candidate(name: str, removal: LayerCheck, prefix: int = 0) -> LayerCandidate:
    checks = (LayerCheck(key="positive", outcome="passes", value=0.5), removal)
    return LayerCandidate(
        name=name, height=6, width=9, layout="tokens", prefix=prefix, channels=8, checks=checks
    )


def check(outcome: str, value: float | None) -> LayerCheck:
    return LayerCheck.model_validate({"key": "removal", "outcome": outcome, "value": value})


def test_the_version_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["reportgen", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr().out == f"reportgen {reportgen.__version__}\n"


def test_each_layer_is_listed_with_what_came_of_its_checks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_layers(
        LayerChoice(
            source="detected",
            chosen="last",
            runner_up="first",
            candidates=(
                candidate("last", check("passes", 2.345), prefix=1),
                candidate("middle", check("fails", -1.0)),
                candidate("first", check("undecided", 0.75)),
            ),
            noise_maps=10,
            noise_mean=0.0,
            noise_sd=0.5,
        )
    )
    assert capsys.readouterr().out.splitlines() == [
        "last (chosen)",
        "    6x9 places, 8 channels, tokens behind 1 token of no place",
        "    passes; removal score 2.35",
        "middle",
        "    6x9 places, 8 channels, tokens",
        "    fails: its highest places matter no more than those of smooth random maps; "
        "removal score -1.00",
        "first (runner-up)",
        "    6x9 places, 8 channels, tokens",
        "    cannot be told: removal; removal score 0.75",
        "Removal scores of 10 smooth random maps: 0.00 ± 0.50; a layer passes with more than twice "
        "that spread.",
    ]


def test_a_reason_is_listed_where_no_layer_passes(capsys: pytest.CaptureFixture[str]) -> None:
    print_layers(
        LayerChoice(
            source="detected", chosen="", runner_up="", candidates=(), reason="none is left"
        )
    )
    assert capsys.readouterr().out == "Class activation maps do not apply: none is left.\n"


def listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, list[str], str]:
    """Return the exit code of the command, the lines that it printed, and what it complained of."""
    monkeypatch.setattr(sys, "argv", [*STOP, *more])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    return int(str(stop.value.code or 0)), printed.out.splitlines(), printed.err


def test_the_command_lists_the_layer_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, _ = listed(monkeypatch, capsys)
    assert code == 0
    assert lines[0] == "features.4 (chosen)"
    assert lines[2].startswith("    passes; removal score ")
    assert any(line.endswith("(runner-up)") for line in lines)


def test_a_layer_that_is_named_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, _ = listed(monkeypatch, capsys, "--layer", "features.0.conv")
    assert (code, lines[0], len(lines)) == (0, "features.0.conv (chosen)", 4)


def test_close_names_are_given_for_an_unknown_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, told = listed(monkeypatch, capsys, "--layer", "features.4.cnv")
    assert (code != 0, lines) == (True, [])
    assert "Unknown layer 'features.4.cnv'" in told
    assert "features.4.conv" in told


def many() -> nn.Module:
    layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(21)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))


def test_of_many_names_the_nearest_are_given() -> None:
    picture = pictures(1)[0].permute(1, 2, 0).numpy()
    with pytest.raises(UsageError, match=r"of 26 the nearest are: 20, 2,") as error:
        reportgen.layers(seeded(many), picture, {"layer": "200", "size": "16"})
    assert "`reportgen layers`" in str(error.value)


def test_the_call_returns_what_a_report_says_of_its_layer() -> None:
    network, picture = seeded(FunctionalRelu), pictures(1)[0].permute(1, 2, 0).numpy()
    options = {"methods": "gradcam", "metrics": "", "device": "cpu", "size": "16"}
    choice = reportgen.layers(network, picture, options)
    report = reportgen.explain(network, picture, options).report
    assert report.layer == choice
    facts = {fact.name: fact.text for fact in report.facts}
    chosen = choice.candidate(choice.chosen)
    assert chosen is not None
    assert layer_failings(chosen) == []
    assert facts["layer.name"] == choice.chosen
    assert facts["layer.grid"] == "4x4"
    assert facts["layer.candidates"] == str(len(choice.candidates))
