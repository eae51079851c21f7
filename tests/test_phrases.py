from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from reportgen import phrases
from reportgen.errors import UsageError
from reportgen.phrases import FILES, counted, language, named, phrase, retold, speaking
from reportgen.resources import text_template
from reportgen.wording import read_wording


def folder(path: Path, **files: str) -> str:
    """Return a folder of the user's own templates, with ``files`` by their names without end."""
    path.mkdir(exist_ok=True)
    for name, sentences in files.items():
        (path / f"{name}.toml").write_text(f"[sentences]\n{sentences}\n", encoding="utf-8")
    return str(path)


def test_english_is_spoken_where_nothing_else_is() -> None:
    assert (language(), phrase("yes")) == ("en", "yes")
    with speaking("pt"):
        assert (language(), phrase("yes")) == ("pt", "sim")
        with speaking("en"):
            assert phrase("yes") == "yes"
        assert phrase("yes") == "sim"
    assert phrase("yes") == "yes"


def test_a_language_ends_with_its_block_also_after_an_error() -> None:
    with pytest.raises(KeyError), speaking("pt"):
        phrase("no.such.phrase")
    assert language() == "en"


def test_another_thread_speaks_its_own_language() -> None:
    heard: list[str] = []
    with speaking("pt"):
        thread = threading.Thread(target=lambda: heard.append(language()))
        thread.start()
        thread.join()
    assert heard == ["en"]


def test_values_are_filled_in_once() -> None:
    assert phrase("list", most="{last}", last="\\1") == "{last} and \\1"
    with pytest.raises(KeyError, match="last"):
        phrase("list", most="a")


def test_a_name_without_a_phrase_stays() -> None:
    assert named("picture", "black") == "a black picture"
    assert named("picture", "a stranger") == "a stranger"


def test_numbers_choose_their_phrase() -> None:
    assert [counted("problem", n, str(n)) for n in (0, 1, 2)] == [
        "no problems", "1 problem", "2 problems",
    ]  # fmt: skip
    with speaking("pt"):
        assert [counted("caution", n, str(n)) for n in (0, 1, 2)] == [
            "nenhuma reserva", "1 reserva", "2 reservas",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("group", "english", "portuguese"),
    [
        ("resolution", "pixels", "pixels"),
        ("resolution", "7x9 feature map", "mapa de características de 7x9"),
        ("note", "no change up to 180 degrees", "nenhuma mudança até 180 graus"),
        (
            "evidence",
            "for 8 probe pictures all outputs lie in [0, 1]; the last operation is a softmax",
            "em 8 imagens de teste, todas as saídas estão em [0, 1]; a última operação é softmax",
        ),
        ("note", "CUDA error: nothing known", "CUDA error: nothing known"),
    ],
)
def test_what_was_written_down_in_english_is_told_by_its_form(
    group: str, english: str, portuguese: str
) -> None:
    assert retold(group, english) == english
    with speaking("pt"):
        assert retold(group, english) == portuguese


HOLDS = 'holds = "{rotation.step}, {rotation.limit}!"'


class TestOwnTemplates:
    def test_a_sentence_replaces_ours_and_the_others_stay(self, tmp_path: Path) -> None:
        own = folder(tmp_path / "own", words='yes = "aye"', sections=HOLDS)
        with speaking("en", own):
            assert (phrase("yes"), phrase("no")) == ("aye", "no")
            sentences = read_wording("sections.toml", {}).sentences
            assert sentences["holds"] == "{rotation.step}, {rotation.limit}!"
            assert sentences["no-map"].startswith("No method")

    @pytest.mark.parametrize(
        ("file", "sentences", "message"),
        [
            ("wordz", 'yes = "aye"', r"Unknown text template 'wordz\.toml'; .*words\.toml"),
            ("words", 'yess = "aye"', r"Unknown sentence in words\.toml 'yess'; .*yes"),
            ("words", 'degrees = "{value} {turn}"', r"'degrees' in words\.toml uses .*'turn'"),
            ("words", 'degrees = "degrees"', r"'degrees' in words\.toml drops .*'value'"),
            ("words", 'yes = "{value}"', r"'yes' in words\.toml uses .*'value'.* not given"),
            ("words", "yes = 3", r"Expected a text for 'yes' in words\.toml, not 3"),
            ("words", "yes = ", r"words\.toml is not valid TOML"),
            ("sections", 'holds = "No {rotation.lim}."', r"'holds' in sections\.toml uses"),
            ("findings", 'skipped = "Not done."', r"'skipped' in findings\.toml drops .*skipped"),
        ],
    )
    def test_what_does_not_fit_is_named(
        self, tmp_path: Path, file: str, sentences: str, message: str
    ) -> None:
        own = folder(tmp_path / "own", **{file: sentences})
        with pytest.raises(UsageError, match=message), speaking("en", own):
            pass

    def test_a_sentence_may_use_other_facts_that_its_file_lists(self, tmp_path: Path) -> None:
        own = folder(tmp_path, sections='no-map = "No map of {image.name}."')
        with speaking("en", own):
            assert "image.name" in read_wording("sections.toml", {}).sentences["no-map"]

    def test_a_folder_that_is_none_is_refused(self, tmp_path: Path) -> None:
        with (
            pytest.raises(UsageError, match="Expected a folder"),
            speaking("en", str(tmp_path / "x")),
        ):
            pass

    def test_an_unknown_language_names_those_there_are(self) -> None:
        with pytest.raises(UsageError, match=r"Unknown language 'tlh'; .*en, pt"):
            phrases.speech_of("tlh")

    def test_a_complete_folder_is_a_new_language(self, tmp_path: Path) -> None:
        for file in FILES:
            (tmp_path / file).write_text(text_template("en", file), encoding="utf-8")
        with speaking("en-x", str(tmp_path)):
            assert (language(), phrase("yes")) == ("en-x", "yes")
            assert retold("note", "constant map") == "constant map"
        words = tmp_path / "words.toml"
        words.write_text(words.read_text(encoding="utf-8").replace('yes = "yes"\n', ""))
        with pytest.raises(UsageError, match=r"lack 'yes' in words\.toml"):
            phrases.speech_of("en-x", str(tmp_path))

    def test_a_report_drawn_again_keeps_the_folder_in_use(self, tmp_path: Path) -> None:
        own = folder(tmp_path, words='yes = "pois"')
        with speaking("en", own), phrases.speaking_of("pt"):
            assert (phrase("yes"), phrase("no")) == ("pois", "não")

    def test_the_digest_is_of_names_and_contents(self, tmp_path: Path) -> None:
        own = folder(tmp_path, words='yes = "aye"')
        content = b'[sentences]\nyes = "aye"\n'
        expected = hashlib.sha256(f"words.toml {len(content)}\n".encode() + content).hexdigest()
        assert phrases.templates_digest(own) == expected
        assert phrases.templates_digest("") == ""
