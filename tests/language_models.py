"""Language models small enough for a test: random weights, and a tokenizer made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reportgen.classifier.torchvision_operators import ensure_torchvision

CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def save_language_model(folder: Path, chat: str | None = CHAT, context: int = 16384) -> Path:
    """Save a Llama of one layer, whose tokens are bytes, as ``save_pretrained`` does."""
    pytest.importorskip("transformers")
    ensure_torchvision()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: index for index, letter in enumerate(sorted(letters))}
    end = "<end>"
    vocabulary[end] = len(vocabulary)
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end, pad_token=end)
    if chat:
        tokenizer.chat_template = chat
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=vocabulary[end],
    )
    before = torch.get_rng_state()
    torch.manual_seed(0)
    network = LlamaForCausalLM(config)
    torch.set_rng_state(before)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
