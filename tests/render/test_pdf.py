"""The PDF: the same report on paper, with nothing fetched and the data inside."""

from __future__ import annotations

import base64
import gc
import hashlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from io import BytesIO
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np
import pytest
from html_page import Drawn
from PIL import Image
from pypdf import PdfReader
from sample_report import TWELVE, sample
from sample_sentences import Words

from reportgen.errors import OutputError
from reportgen.render.charts import colour_bar
from reportgen.render.html import to_html
from reportgen.render.pdf import pdf_obstacle, to_pdf
from reportgen.render.pictures import address, coloured

pytestmark = pytest.mark.skipif(pdf_obstacle() is not None, reason=str(pdf_obstacle()))


def read(content: bytes) -> PdfReader:
    return PdfReader(BytesIO(content), strict=True)


def words_of(text: str) -> str:
    return " ".join(text.split())


def pages_of(pdf: PdfReader) -> list[str]:
    return [words_of(page.extract_text()) for page in pdf.pages]


@pytest.fixture(scope="session")
def printed(five: Drawn) -> PdfReader:
    return read(to_pdf(five.html, five.report.run.created, b'{"a": 1}\n'))


def test_the_first_page_is_the_verdict(printed: PdfReader, five: Drawn) -> None:
    first, second, *_ = pages_of(printed)
    assert "tabby cat" in first
    assert "0.6238" in first
    for finding in five.report.findings:
        assert finding.statement in first
    assert "What the maps agree on" in first
    assert "1 Summary" not in first
    assert "1 Summary" in second


def test_every_section_is_printed_in_order(printed: PdfReader, five: Drawn) -> None:
    pages = pages_of(printed)
    sections = [entry for entry in printed.outline if not isinstance(entry, list)][1:-4]
    titles = [f"{i} {s.title}" for i, s in enumerate(five.report.sections, start=1)]
    assert [entry.title for entry in sections] == titles
    places = [printed.get_destination_page_number(entry) for entry in sections]
    assert places == sorted(places)
    for title, place in zip(titles, places, strict=True):
        assert title in pages[place]


def test_pages_are_numbered_and_named(printed: PdfReader) -> None:
    pages = pages_of(printed)
    assert 10 <= len(pages) <= 18
    for number, text in enumerate(pages, start=1):
        assert f"page {number} of {len(pages)}" in text
    assert all("resnet50-11ad3fa6.pth · chelsea.png" in text for text in pages[1:])


def test_no_page_is_nearly_empty(printed: PdfReader) -> None:
    assert min(len(text) for text in pages_of(printed)[:-1]) > 400


def test_contents_and_sentences_lead_to_pages(printed: PdfReader) -> None:
    names = printed.named_destinations
    assert "section-1" in names
    assert "fact-prediction.probability" in names
    links = [note.get_object() for note in printed.pages[0]["/Annots"]]
    assert {note["/Dest"] for note in links} <= set(names)
    assert len(links) == 9


def test_the_data_is_attached(printed: PdfReader) -> None:
    assert printed.attachments == {"report.json": [b'{"a": 1}\n']}


def test_the_file_is_made_for_archives(printed: PdfReader) -> None:
    metadata = printed.xmp_metadata
    assert metadata is not None
    content = metadata.stream.get_data().decode()
    assert 'pdfaid:part="3"' in content
    assert 'pdfaid:conformance="U"' in content
    assert printed.metadata is not None
    assert (
        printed.metadata.title == "Model Explainability Report: resnet50-11ad3fa6.pth, chelsea.png"
    )
    assert printed.metadata["/CreationDate"] == "D:20261122093000+00'00"


def test_all_fonts_are_embedded(printed: PdfReader) -> None:
    fonts = printed.pages[0]["/Resources"]["/Font"]
    assert len(fonts) >= 2
    for font in (entry.get_object() for entry in fonts.values()):
        (inner,) = font["/DescendantFonts"]
        files = {"/FontFile", "/FontFile2", "/FontFile3"}
        assert files & set(inner.get_object()["/FontDescriptor"])


def test_the_same_page_gives_the_same_bytes(small: Drawn) -> None:
    one, other = (to_pdf(small.html, small.report.run.created, b"{}") for _ in range(2))
    assert one == other
    assert one != to_pdf(small.html, small.report.run.created, b"[]")


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(small: Drawn) -> None:
    program = (
        "import hashlib, sys; from sample_report import sample; "
        "from reportgen.render.html import to_html; from reportgen.render.pdf import to_pdf; "
        "report, arrays = sample(('gradcam',), (48, 48)); html = to_html(report, arrays); "
        "pages = html.encode(), to_pdf(html, report.run.created, b'{}'); "
        "print(*(hashlib.sha256(page).hexdigest() for page in pages))"
    )
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests.parent), str(tests)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"}
    outcome = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    pages = small.html.encode(), to_pdf(small.html, small.report.run.created, b"{}")
    assert outcome.stdout.split() == [hashlib.sha256(page).hexdigest() for page in pages]


def test_a_date_that_is_none_is_no_obstacle(small: Drawn) -> None:
    run = small.report.run.model_copy(update={"created": "yesterday"})
    report = small.report.model_copy(update={"run": run})
    content = to_pdf("<p>x", report.run.created, b"{}")
    assert list(read(content).attachments) == ["report.json"]
    assert b"D:19700101000000Z" in content


def test_long_words_and_many_maps_keep_the_verdict_on_one_page() -> None:
    label = "Felis silvestris catus of the " + "very " * 40 + "long-" * 30
    report, arrays = sample(TWELVE, (32, 32), words=Words(f"{label}.pth", f"{label}.png", label))
    finding = report.findings[0].model_copy(update={"statement": "Too many words. " * 40})
    # The facts of pairs would only make many more pages at the end.
    facts = tuple(fact for fact in report.facts if "~" not in fact.name)
    report = report.model_copy(update={"findings": (finding,) * 12, "facts": facts})
    pages = pages_of(read(to_pdf(to_html(report, arrays), report.run.created, b"{}")))
    assert "What to distrust, and what held" in pages[0]
    assert "10 more findings in appendix C." in pages[0]
    assert "1 Summary" in pages[1]
    assert words_of(label).replace(" ", "") in "".join(pages).replace(" ", "")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.png"
    Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(path)
    return path


def test_only_what_is_inside_the_page_is_read(small: Drawn, secret: Path) -> None:
    inside = address("image/png", secret.read_bytes())
    for source, shown in ((inside, 1), (secret.as_uri(), 0), (str(secret), 0)):
        html = f"<p>x</p><img src='{source}' alt=''>"
        (page,) = read(to_pdf(html, small.report.run.created, b"{}")).pages
        assert len(page.images) == shown


def test_a_hostile_label_reads_no_file(secret: Path) -> None:
    label = f"<img src='{secret.as_uri()}'><link rel=attachment href='{secret.as_uri()}'>"
    report, arrays = sample((), (48, 48), words=Words(label, label, label, label))
    pdf = read(to_pdf(to_html(report, arrays), report.run.created, b"{}"))
    assert list(pdf.attachments) == ["report.json"]
    # The picture, the one rotated, and the three noisy ones; all pages share one list.
    assert len(pdf.pages[0].images) == 5
    assert label[:20].replace(" ", "") in pages_of(pdf)[0].replace(" ", "")


def test_the_libraries_say_nothing_and_keep_their_levels(
    small: Drawn, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    levels = [logging.getLogger(name).level for name in ("weasyprint", "fontTools")]
    with caplog.at_level(logging.DEBUG):
        to_pdf("<style>p { no-such: 1 }</style><p>x", small.report.run.created, b"{}")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert [logging.getLogger(name).level for name in ("weasyprint", "fontTools")] == levels


@pytest.mark.parametrize("collected", [True, False])
def test_the_garbage_collector_is_left_as_it_was(small: Drawn, collected: bool) -> None:
    found = gc.isenabled()
    (gc.enable if collected else gc.disable)()
    try:
        to_pdf("<p>x", small.report.run.created, b"{}")
        assert gc.isenabled() is collected
    finally:
        (gc.enable if found else gc.disable)()


def test_the_garbage_collector_waits_and_comes_back_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import weasyprint

    def broken(*_: object, **__: object) -> bytes:
        assert not gc.isenabled()
        raise MemoryError

    monkeypatch.setattr(weasyprint.HTML, "write_pdf", broken)
    with pytest.raises(MemoryError):
        to_pdf("<p>x", "", b"{}")
    assert gc.isenabled()


@pytest.mark.parametrize(("drawn", "shown"), [("colours", 1), ("colourless", 0)])
def test_the_colours_of_a_bar_are_printed(drawn: str, shown: int) -> None:
    values = np.tile(np.array([[0.25, -0.25]], np.float32), (10, 10))
    bar = colour_bar(coloured(values, signed=True))
    if drawn == "colourless":
        svg = base64.b64decode(bar.partition(",")[2]).decode()
        bar = address("image/svg+xml", re.sub("<image[^>]*/>", "", svg).encode())
    (page,) = read(to_pdf(f"<img src='{bar}' alt=''>", "", b"{}")).pages
    assert len(page.images) == shown
    for image in page.images:
        pixels = np.asarray(Image.open(BytesIO(image.data)).convert("RGB"), float)
        ends = [matplotlib.colormaps["RdBu_r"](end)[:3] for end in (0.0, 1.0)]
        assert np.abs(pixels[6, [0, -1]] - np.array(ends) * 255).max() < 2


class NoPango:
    """Fails as the import of WeasyPrint does where Pango is missing: it prints, then raises."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "weasyprint":
            sys.stdout.write("WeasyPrint could not import some external libraries.")
            raise OSError("cannot load library 'libpango-1.0-0'")
        return None


def test_without_pango_one_sentence_says_what_to_install(
    small: Drawn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pdf_obstacle() is None
    monkeypatch.delitem(sys.modules, "weasyprint")
    monkeypatch.setattr(sys, "meta_path", [NoPango(), *sys.meta_path])
    obstacle = pdf_obstacle()
    assert obstacle is not None
    assert all(name in obstacle for name in ("libpango-1.0-0", "libpangoft2-1.0-0", "Homebrew"))
    with pytest.raises(OutputError, match=r"libpango-1\.0-0"):
        to_pdf(small.html, small.report.run.created, b"{}")
    assert capsys.readouterr().out == ""
