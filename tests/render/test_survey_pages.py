"""A survey as its reader sees it: every number from the record, links that lead somewhere."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pypdf
import pytest
from html_page import offences, parse
from sample_report import sample
from survey_toys import Numbers, placed, report_of, tally_of

from reportgen.errors import OutputError
from reportgen.records import Run
from reportgen.render.html import to_html
from reportgen.render.survey_html import to_survey_html
from reportgen.render.survey_pictures import looked_at, printed_entries, shown_places
from reportgen.render.survey_reader import is_survey, read_entry, read_survey
from reportgen.render.survey_writer import fill_survey, render_survey
from reportgen.render.table import COLUMNS, failed_row, rows_of, table_of
from reportgen.render.writer import write_report
from reportgen.surveys.records import Entry, Survey
from reportgen.surveys.survey import survey_of
from reportgen.surveys.tally import Tally

RUN = Run(created="2026-01-01T00:00:00+00:00", seconds={"total": 1.0})
HOSTILE = "<script>alert(1)</script>.png"


def numbers(index: int) -> Numbers:
    return {
        ("deletion", "gradcam"): placed(0.1 + 0.01 * index, -2.0 + index / 10, 1 / 21),
        ("deletion", "saliency"): placed(0.3 + 0.02 * index, -1.0, 0.5),
        ("insertion", "gradcam"): 0.8,
        ("area", "gradcam"): 0.25,
        ("iou", "gradcam~saliency"): 0.4 - 0.01 * index,
        ("rotation_flip", "positive"): 20.0 + index,
    }


def tally(count: int, *models: str) -> Tally:
    found = tally_of({model: [numbers(i) for i in range(count)] for model in models})
    found.fail(
        Entry(number=count + 1, image=HOSTILE, model=models[0], reason="It is <b>broken</b>.")
    )
    return found


def survey(count: int, *models: str) -> Survey:
    return survey_of(tally(count, *(models or ("a",))), 2, RUN)


def drawn(found: Survey, printed: bool = False) -> str:
    return to_survey_html(found, {}, printed)


class TestPage:
    def test_it_loads_and_runs_nothing(self) -> None:
        html = drawn(survey(8, "a", "b"))
        assert set(offences(html)) == {"a href"}
        assert all(link.startswith(("#", "images/")) for link in parse(html).having("href"))
        assert HOSTILE not in html and "&lt;b&gt;broken" in html

    def test_every_picture_has_a_row_that_leads_to_its_report(self) -> None:
        found = survey(8)
        links = parse(drawn(found)).having("href")
        for entry in found.reported:
            assert f"{entry.folder}/report.html" in links
        assert not any("0009" in link for link in links)

    def test_the_summary_says_what_failed(self) -> None:
        text = parse(drawn(survey(8))).text
        assert "8 pictures were explained with 1 model (a) and 2 methods" in text
        assert "1 of 9 pictures could not be explained" in text
        assert "2 other files were passed over" in text

    def test_medians_stand_with_quartiles_and_their_place(self) -> None:
        text = parse(drawn(survey(5))).text
        assert "0.120 0.110 to 0.130; better on 5 of 5" in text
        assert "0.340 0.320 to 0.360; better on 0 of 5" in text
        assert "25%" in text  # a share is written as one

    def test_pictures_without_a_value_are_counted(self) -> None:
        pictures = [dict(numbers(i)) for i in range(4)]
        pictures[0]["deletion", "gradcam"] = None
        text = parse(drawn(survey_of(tally_of({"a": pictures}), 0, RUN))).text
        assert "0.115 to 0.125; on 3 of 4; better on 3 of 3" in text

    def test_comparisons_are_tested_from_six_pictures_on(self) -> None:
        few, enough = (parse(drawn(survey(count))).text for count in (5, 8))
        assert "No paired comparison between methods could be tested: for 1 of 1 fewer" in few
        assert "1 of 1 paired comparisons between methods could be tested; in 1 of them" in enough
        assert "-0.235" in enough  # the mean difference: -0.2 - 0.01 * 3.5

    def test_equal_models_are_doubted_in_their_cells(self) -> None:
        page = parse(drawn(survey(8, "a", "b")))
        doubted = [cell.text for cell in page.of_class("assumed")]
        assert len(doubted) >= 6
        assert all(
            "same in all models" in text or "same in all pictures" in text for text in doubted
        )

    def test_several_models_stand_side_by_side(self) -> None:
        page = parse(drawn(survey(8, "first.pt", "second.pt")))
        heads = [element.text for element in page.all("th")]
        assert {"first.pt", "second.pt"} <= set(heads)
        assert "explain the same class on 8 of 8 pictures" in page.text

    def test_refused_rows_say_why(self) -> None:
        pictures = [
            {("deletion", "gradcam"): {"value": 0.1 * i, "settings": {"steps": i}}}
            for i in range(3)
        ]
        text = parse(drawn(survey_of(tally_of({"a": pictures}), 0, RUN))).text
        assert "not added up: the pictures were measured under 3 different settings" in text

    def test_the_same_survey_gives_the_same_page(self) -> None:
        assert drawn(survey(4)) == drawn(survey(4))


class TestNumbers:
    @staticmethod
    def check_known(found: Survey, html: str) -> None:
        """Check that every decimal in the tables of medians stands in the record."""
        values = {
            f"{value:.3f}"
            for one in found.summaries
            for value in (one.median, *(one.quartiles or ()))
            if value is not None
        }
        shown = re.findall(r"<td[^>]*>(-?\d+\.\d{3})(?= <span|<)", html.split('id="section-3"')[0])
        assert shown
        assert set(shown) <= values

    def test_they_are_those_of_the_record(self) -> None:
        found = survey(5)
        self.check_known(found, drawn(found))

    def test_another_number_is_seen(self) -> None:
        found = survey(5)
        with pytest.raises(AssertionError):
            self.check_known(found, drawn(found).replace(">0.120 <", ">0.121 <"))


class TestPrint:
    def test_few_reports_have_a_page_each(self) -> None:
        assert len(printed_entries(survey(20))) == 20

    def test_of_many_only_the_named_ones(self) -> None:
        found = survey(21)
        named = {one.number for one in found.named}
        assert {entry.number for entry in printed_entries(found)} == named
        assert "more than 20 reports has pages for the pictures" in drawn(found, printed=True)

    def test_links_lead_to_pages_inside(self) -> None:
        report, arrays = sample(("gradcam", "saliency"), (48, 48))
        found = survey(3)
        seen = looked_at(report, arrays)
        verdicts = {(e.number, e.model): seen for e in shown_places(found, printed=True)}
        page = parse(to_survey_html(found, verdicts, printed=True))
        inside = [link[1:] for link in page.having("href") if link.startswith("#")]
        assert set(inside) <= set(page.having("id"))
        assert len(page.of_class("page")) == 3
        assert not any("report.html" in link for link in page.having("href"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a written survey of two pictures, one of them broken."""
    place = tmp_path_factory.mktemp("survey")
    report, arrays = sample(("gradcam", "saliency"), (48, 48))
    made = report_of(numbers(0)).model_copy(update={"image": report.image})
    write_report(made, arrays, place / "images" / "0001-x", ("json",))
    fill_survey(survey(1), place, ("html", "pdf"))
    return place


class TestFiles:
    def test_the_pdf_holds_the_record_and_a_page_for_the_picture(self, folder: Path) -> None:
        reader = pypdf.PdfReader(folder / "report.pdf")
        assert reader.attachments["report.json"][0] == (folder / "report.json").read_bytes()
        text = " ".join(page.extract_text() for page in reader.pages)
        assert "Model Explainability Survey" in text
        assert reader.metadata is not None

    def test_it_is_read_back(self, folder: Path) -> None:
        assert is_survey(folder / "report.json")
        assert read_survey(folder / "report.json") == survey(1)
        assert not is_survey(folder / "images" / "0001-x" / "report.json")

    def test_it_is_drawn_again(self, folder: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / "report.html").unlink()
        written = render_survey(copy / "report.json", ("html",))
        assert [path.name for path in written] == ["report.html", "manifest.json"]
        assert (copy / "report.html").read_bytes() == (folder / "report.html").read_bytes()

    def test_a_changed_record_is_refused(self, folder: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        text = (copy / "report.json").read_text("utf-8")
        (copy / "report.json").write_text(text.replace("broken", "whole"), "utf-8")
        with pytest.raises(OutputError, match="changed since"):
            render_survey(copy / "report.json", ("html",))

    def test_a_report_elsewhere_is_not_read(self, folder: Path) -> None:
        entry = Entry(number=1, image="x", model="a", folder="../elsewhere")
        with pytest.raises(OutputError, match="not inside"):
            read_entry(folder, entry)

    def test_what_is_no_json_is_no_survey(self, tmp_path: Path) -> None:
        (tmp_path / "report.json").write_text("nothing")
        assert not is_survey(tmp_path / "report.json")
        with pytest.raises(OutputError, match="cannot be read"):
            is_survey(tmp_path / "gone.json")


class TestTable:
    def test_numbers_are_read_back_as_they_were(self) -> None:
        report = report_of({("deletion", "gradcam"): placed(1 / 3, -0.1, 0.25), ("x", "y"): None})
        header, first, second = csv.reader(io.StringIO(table_of(report).decode()))
        row = dict(zip(header, first, strict=True))
        assert tuple(header) == COLUMNS
        assert (float(row["value"]), float(row["z"]), float(row["p"])) == (1 / 3, -0.1, 0.25)
        assert row["direction"] == "lower is better"
        assert dict(zip(header, second, strict=True))["value"] == ""

    def test_settings_are_json(self) -> None:
        report = report_of({("deletion", "gradcam"): {"value": 1.0, "settings": {"a": "b,\nc"}}})
        *_, row = csv.reader(io.StringIO(table_of(report).decode(), newline=""))
        assert json.loads(row[COLUMNS.index("settings")]) == {"a": "b,\nc"}

    @pytest.mark.parametrize("name", ["=1", "+1", "-1", "@a", "\ta", "\ra"])
    def test_no_text_is_a_formula(self, name: str) -> None:
        (row,) = rows_of(report_of({("deletion", "gradcam"): 1.0}), name, name)
        assert row[:2] == (f"'{name}", f"'{name}")
        assert failed_row("m", name, name)[-1] == f"'{name}"
        assert len(failed_row("m", name, name)) == len(COLUMNS) == len(row)


def test_a_single_report_is_no_survey_and_its_page_stays_its_own() -> None:
    report, arrays = sample(("gradcam",), (48, 48))
    assert "Model Explainability Survey" not in to_html(report, arrays)
