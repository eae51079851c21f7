"""Language models on this machine, through transformers: safetensors only, and no code of theirs.

The most probable token is taken each time, so the same model on the same machine writes the same.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reportgen.classifier.device import choose_device, describe
from reportgen.classifier.hub import find_copy
from reportgen.classifier.model_folders import ModelFolder, read_folder, weight_files
from reportgen.classifier.transformers_library import quiet, require_transformers
from reportgen.config import Config
from reportgen.errors import ModelError, NotApplicable
from reportgen.narrators.base import Narrator, Question, Ready

_TOKENIZER = "tokenizer.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_DESCRIPTIONS = (
    "config.json", "generation_config.json", _TOKENIZER, "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json",
    "merges.txt", "tokenizer.model",
)  # fmt: skip
_PATTERNS = [*_DESCRIPTIONS, "model*.safetensors", "model*.index.json"]
_FAST_HALVES = ("amx_bf16", "avx512_bf16")
_SHORTEST = 16


@dataclass(frozen=True)
class _Loaded:
    """A language model in memory; ``context`` is how many tokens it takes, None if not stated."""

    network: Any
    tokenizer: Any
    device: torch.device
    context: int | None


def find_local(place: str, config: Config) -> Narrator:
    """Return the language model in the folder or the repository ``place``.

    A repository that is not in the hub's cache is fetched only with ``allow_download``. Raises
    ModelError for what is no causal language model with its tokenizer and its weights as
    safetensors, or where transformers is missing.
    """
    require_transformers(f"llm:{place}", "llm")
    folder = _folder(place, config.allow_download)
    _check_kind(folder)
    files = _files(folder)
    name = folder.name if folder.on_hub else folder.path.resolve().name
    device = choose_device(config.device)
    return Narrator(asked=f"llm:{name}", model=name, opened=partial(_opened, folder, files, device))


def _folder(place: str, allow_download: bool) -> ModelFolder:
    path = Path(place).expanduser()
    if path.is_dir():
        folder = read_folder(path, place)
    elif path.exists() or place.startswith((".", "/", "~")):
        raise ModelError(
            f"Expected a folder with a language model, but '{place}' is none; give a folder that "
            "save_pretrained has written, or a name on the Hugging Face hub."
        )
    else:
        folder = find_copy(place, _PATTERNS, _complete, allow_download)
    if not folder.has(_TOKENIZER):
        raise ModelError(
            f"'{place}' holds no tokenizer ({_TOKENIZER}); save it into the same folder with its "
            "save_pretrained."
        )
    return folder


def _complete(path: Path) -> bool:
    """Return whether a folder has all that a language model needs."""
    needed = ("config.json", _TOKENIZER)
    return all((path / name).is_file() for name in needed) and _has_weights(path)


def _has_weights(path: Path) -> bool:
    return any((path / name).is_file() for name in _WEIGHTS)


def _check_kind(folder: ModelFolder) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    kind = str(folder.config.get("model_type") or "")
    listed = folder.config.get("architectures")
    architecture = str(listed[0]) if listed and isinstance(listed, list) else ""
    if kind not in KNOWN or (architecture and architecture not in KNOWN.values()):
        raise ModelError(
            f"'{folder.name}' holds a {architecture or f'model of the type {kind!r}'}, not a "
            "language model that writes text; expected one of transformers' ...ForCausalLM."
        )


def _files(folder: ModelFolder) -> tuple[Path, ...]:
    """Return the files that make the language model, by name; raises ModelError as find_local."""
    if not _has_weights(folder.path):
        raise ModelError(
            f"'{folder.name}' holds no weights as safetensors; expected {_WEIGHTS[0]}, or "
            f"{_WEIGHTS[1]} with the files that it names."
        )
    named = [folder.path / name for name in (*_DESCRIPTIONS, _WEIGHTS[1])]
    there = [path for path in named if path.is_file()]
    return tuple(sorted({*there, *weight_files(folder, trust_pickle=False).paths}))


@contextmanager
def _opened(folder: ModelFolder, files: tuple[Path, ...], device: torch.device) -> Iterator[Ready]:
    """Load the language model, and free its memory behind the block."""
    dtype = _number_format(device)
    held = [_loaded(folder, device, dtype)]
    try:
        yield Ready(
            ask=lambda question: _answer(held[0], question),
            digest=cache(partial(_digest, files)),
            precision=f"{str(dtype).removeprefix('torch.')} on {describe(device)}",
        )
    finally:
        held.clear()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _number_format(device: torch.device) -> torch.dtype:
    """Return half precision where the device computes in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    found = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(found.get(name) for name in _FAST_HALVES) else torch.float32


def _loaded(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> _Loaded:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        network, found = AutoModelForCausalLM.from_pretrained(
            folder.path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            weights_only=True,
            dtype=dtype,
            # Fixed, because a configuration may name an implementation that is fetched and run.
            attn_implementation="eager",
            output_loading_info=True,
        )
    if found["missing_keys"]:
        raise NotApplicable("The weights of the language model are not complete.")
    network.generation_config = _settings(network, tokenizer)
    context = getattr(network.config, "max_position_embeddings", None)
    return _Loaded(network.to(device).eval(), tokenizer, device, context)


def _answer(loaded: _Loaded, question: Question) -> str:
    """Return what the language model writes behind the question; raises NotApplicable."""
    from transformers import GenerationConfig

    with quiet():
        tokens = _tokens(loaded.tokenizer, question).to(loaded.device)
        asked = tokens.shape[1]
        room = question.tokens if loaded.context is None else loaded.context - asked
        if room < _SHORTEST:
            raise NotApplicable(
                f"The question has {asked} tokens, and the language model takes {loaded.context}."
            )
        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=min(room, question.tokens),
            max_time=question.seconds,
        )
        written = loaded.network.generate(
            tokens, attention_mask=torch.ones_like(tokens), generation_config=settings
        )
    return str(loaded.tokenizer.decode(written[0, asked:], skip_special_tokens=True))


def _tokens(tokenizer: Any, question: Question) -> Tensor:
    """Return the question as tokens (1, n), in the form of the model's own chats if it has one."""
    if not tokenizer.chat_template:
        text = f"{question.system}\n\n{question.user}\n"
        return torch.as_tensor(tokenizer(text, return_tensors="pt")["input_ids"])
    system = {"role": "system", "content": question.system}
    user = {"role": "user", "content": question.user}
    both = {"role": "user", "content": f"{question.system}\n\n{question.user}"}
    try:
        return _chat(tokenizer, [system, user])
    except Exception:  # a template is the model's own program; some refuse the role "system"
        return _chat(tokenizer, [both])


def _chat(tokenizer: Any, messages: list[dict[str, str]]) -> Tensor:
    found = tokenizer.apply_chat_template(
        messages,
        add_generation_prompt=True,
        enable_thinking=False,
        return_dict=True,
        return_tensors="pt",
    )
    return torch.as_tensor(found["input_ids"])


def _settings(network: Any, tokenizer: Any) -> Any:
    """Return the settings that count beside an answer's own: where a text ends, and no others."""
    from transformers import GenerationConfig

    stated = network.generation_config.eos_token_id
    end = tokenizer.eos_token_id if stated is None else stated
    first = end[0] if isinstance(end, list) else end
    pad = first if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return GenerationConfig(eos_token_id=end, pad_token_id=pad)


def _digest(files: tuple[Path, ...]) -> str:
    """Return the SHA-256 of what ``sha256sum`` prints of the files, in the order of names."""
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
