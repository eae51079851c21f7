"""What the pages say is explained: a class, a contrast of two, or one of several labels."""

from __future__ import annotations

import re

import pytest
from sample_report import sample, written

from reportgen.records import ClassScore, Contrast, Prediction, Report, Sourced
from reportgen.render.html import to_html

CLASSES = tuple(
    ClassScore(index=index, label=label, probability=probability, score=3.0 - index)
    for index, (label, probability) in enumerate({"newt": 0.8, "toad": 0.6, "frog": 0.1}.items())
)
PLAIN = Prediction(top=CLASSES, target=CLASSES[0], target_source="top class")
BETWEEN = ClassScore(index=3, label="toad rather than frog", probability=6 / 7, score=1.0)
CONTRAST = PLAIN.model_copy(
    update={
        "target": BETWEEN,
        "target_source": "option",
        "contrast": Contrast(first=CLASSES[1], second=CLASSES[2]),
    }
)
LABEL = PLAIN.model_copy(update={"threshold": 0.5, "target_source": "threshold"})


def page(prediction: Prediction, **model: object) -> str:
    report, arrays = sample(("gradcam",), (32, 32))
    changed = report.model.model_copy(update=model)
    updated: Report = report.model_copy(update={"prediction": prediction, "model": changed})
    return re.sub(r"\s+", " ", to_html(written(updated), arrays))


@pytest.mark.parametrize(
    ("prediction", "kicker"),
    [
        (PLAIN, "Prediction"),
        (PLAIN.model_copy(update={"target_source": "option"}), "Explained class, chosen by option"),
        (CONTRAST, "Explained contrast, chosen by option"),
        (LABEL, "Explained label"),
        (LABEL.model_copy(update={"target_source": "option"}), "Explained label, chosen by option"),
    ],
)
def test_the_first_page_says_what_is_explained_and_who_chose_it(
    prediction: Prediction, kicker: str
) -> None:
    assert f">{kicker}<" in page(prediction)


def test_a_contrast_shows_both_classes_and_the_top_one() -> None:
    text = page(CONTRAST)
    for words in ("toad rather than frog", "toad, 0.6000", "frog, 0.1000", "newt, 0.8000"):
        assert words in text
    assert ">and not<" in text
    assert ">explained class<" not in text
    assert ">explained class<" in page(PLAIN)


def test_labels_are_no_classes_of_which_one_wins() -> None:
    text = page(LABEL)
    assert "Labels that hold" in text
    assert "“newt” (0.8000) and “toad” (0.6000)" in text
    assert "The labels with the highest probability." in text
    assert "New answer" in text
    for words in ("Runner-up", "New top class", "Probability of the top class"):
        assert words not in text
        assert words in page(PLAIN)


def test_the_evidence_for_the_head_stands_beside_its_source() -> None:
    head = Sourced(value="softmax of logits", source="assumed", evidence="all outputs are equal")
    assert "all outputs are equal" in page(PLAIN, head=head)
    assert "how outputs become probabilities" in page(PLAIN, head=head)
