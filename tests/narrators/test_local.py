"""Language models in folders are opened by transformers itself, without running code of theirs."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import run

import pytest
import torch
from language_models import save_language_model

from reportgen.config import Config
from reportgen.errors import ModelError, NotApplicable
from reportgen.narrators import find_narrator, local
from reportgen.narrators.base import Narrator, Question, Ready

QUESTION = Question("Rules.", "1. A sentence.", seed=0, tokens=24, seconds=60.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of a language model's folder, to be spoiled."""
    return Path(shutil.copytree(saved, tmp_path / "tiny-llama"))


def found(folder: Path | str) -> Narrator:
    narrator = find_narrator(Config(narrator=f"llm:{folder}", device="cpu"))
    assert narrator is not None
    return narrator


@pytest.fixture(scope="module")
def ready(saved: Path) -> Iterator[Ready]:
    with found(saved).opened() as opened:
        yield opened


def test_the_report_is_told_no_folder(saved: Path) -> None:
    narrator = found(saved)
    assert (narrator.asked, narrator.model) == ("llm:tiny-llama", "tiny-llama")
    assert (narrator.address, narrator.remote) == ("", False)


def test_the_same_question_has_the_same_answer(ready: Ready) -> None:
    before = torch.get_rng_state()
    first = ready.ask(QUESTION)
    assert first
    torch.manual_seed(5)
    assert ready.ask(QUESTION) == first
    torch.set_rng_state(before)


def test_an_answer_ends_with_its_tokens(ready: Ready) -> None:
    short = ready.ask(Question("Rules.", "1. A sentence.", 0, tokens=4, seconds=60.0))
    assert 0 < len(short) <= 4
    assert ready.ask(QUESTION).startswith(short.rstrip("\ufffd"))


def test_an_answer_ends_when_its_time_is_up(ready: Ready) -> None:
    whole = Question("Rules.", "1. A sentence.", 0, tokens=16000, seconds=0.0)
    assert len(ready.ask(whole)) < 10


def test_a_question_too_long_is_a_sentence(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32}))
    with found(folder).opened() as ready, pytest.raises(NotApplicable, match="takes 32"):
        ready.ask(QUESTION)


def test_the_digest_is_that_of_the_files(saved: Path, ready: Ready) -> None:
    script = "LC_ALL=C sha256sum $(ls | LC_ALL=C sort) | sha256sum"
    told = run(["sh", "-c", script], cwd=saved, capture_output=True, text=True, check=True)
    assert told.stdout.split()[0] == ready.digest()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_digest_changes_with_each_file(folder: Path, ready: Ready, name: str) -> None:
    content = (folder / name).read_bytes()
    # White space at the end of JSON, and the last bytes of the weights, change nothing else.
    (folder / name).write_bytes(content + b" " if name.endswith("json") else content[:-1] + b"\1")
    with found(folder).opened() as changed:
        assert changed.digest() != ready.digest()


def test_the_folders_own_settings_of_an_answer_do_not_count(folder: Path, ready: Ready) -> None:
    wild = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 3.0, "min_length": 20}
    (folder / "generation_config.json").write_text(json.dumps({**wild, "eos_token_id": 256}))
    with found(folder).opened() as changed:
        assert changed.ask(QUESTION) == ready.ask(QUESTION)


def test_memory_is_freed_behind_the_block(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = []
    load = local._loaded

    def loaded(*arguments: object) -> object:
        made = load(*arguments)  # type: ignore[arg-type]
        networks.append(weakref.ref(made.network))
        return made

    monkeypatch.setattr(local, "_loaded", loaded)
    with found(saved).opened() as ready:
        ready.ask(QUESTION)
        assert networks[0]() is not None
    gc.collect()
    assert networks[0]() is None


def _asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the network of a folder is shown, as text."""
    shown: list[str] = []
    tokens = local._tokens

    def noting(tokenizer: object, question: Question) -> torch.Tensor:
        given = tokens(tokenizer, question)
        shown.append(tokenizer.decode(given[0]))  # type: ignore[attr-defined]
        return given

    monkeypatch.setattr(local, "_tokens", noting)
    with found(folder).opened() as ready:
        ready.ask(QUESTION)
    return shown


def test_a_chat_template_is_used(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _asked(saved, monkeypatch) == ["<system>Rules.<user>1. A sentence.<assistant>"]


def test_without_a_chat_template_the_prompt_is_plain(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "chat_template.jinja").unlink()
    assert _asked(folder, monkeypatch) == ["Rules.\n\n1. A sentence.\n"]


def test_a_template_without_system_gets_one_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}"
        "{% endif %}[{{ m['content'] }}]{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(refusing)
    assert _asked(folder, monkeypatch) == ["[Rules.\n\n1. A sentence.]"]


def test_half_precision_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for found, dtype in (({"avx512_bf16": True}, torch.bfloat16), ({}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert local._number_format(cpu) is dtype


def _without(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def _with_config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def _as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_without("config.json"), "is a folder without config.json"),
        (_without("tokenizer.json"), r"holds no tokenizer \(tokenizer.json\)"),
        (_without("model.safetensors"), "holds no weights as safetensors"),
        (_as_pickle, "holds no weights as safetensors"),
        (_with_config(auto_map={"AutoModelForCausalLM": "code.Mine"}), "brings its own code"),
        (_with_config(model_type="vit", architectures=None), "not a language model that writes"),
        (_with_config(architectures=["LlamaForSequenceClassification"]), "not a language model"),
        (_with_config(quantization_config={"bits": 4}), "quantised"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "safetensors"),
    ],
)
def test_a_folder_that_lacks_something_is_refused_at_once(
    folder: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=sentence):
        found(folder)


def test_a_path_that_is_not_there_is_refused(saved: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", saved / "config.json"):
        with pytest.raises(ModelError, match="Expected a folder with a language model"):
            found(place)


def test_nothing_is_fetched_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="fetch it with --allow-download"):
        found("owner/name")


def test_weights_that_lack_a_tensor_are_not_used(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(NotApplicable, match="not complete"), found(folder).opened():
        pass


def test_without_transformers_one_sentence(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"install it with: pip install 'reportgen\[llm\]'\."):
        found(saved)
