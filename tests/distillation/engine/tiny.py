"""A language model of a few thousand random weights, and a tokenizer that has one token per byte."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END = 2

SLEEPING = 8
"""Units of the brittle model that must not wake."""

TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ m['content'] + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)


def make_model(folder: Path, tie: bool = False, seed: int = 0) -> Path:
    """Write a Qwen3 model with two layers into ``folder`` and return it."""
    tokenizers, torch = importlib.import_module("tokenizers"), importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    plain = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain,
        eos_token=SPECIAL[END],
        pad_token=SPECIAL[0],
        additional_special_tokens=[SPECIAL[1]],
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = transformers.Qwen3Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
        tie_word_embeddings=tie,
        eos_token_id=END,
        pad_token_id=0,
        bos_token_id=None,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.Qwen3ForCausalLM(config).float().save_pretrained(folder)
    return folder


def make_brittle_model(folder: Path) -> Path:
    """Write a model that is as good as ``make_model``'s, until training at too high a rate breaks it.

    Its second layer has units that sleep: one number that all tokens have in common holds them below the
    threshold. A student that drowns out this number wakes them, and what they say then no float can hold.
    """
    make_model(folder)
    safetensors = importlib.import_module("safetensors.torch")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    weights = safetensors.load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][:, 0] = 20.0
    for name in ("layers.0.self_attn.o_proj", "layers.0.mlp.down_proj", "layers.1.self_attn.o_proj"):
        weights[f"model.{name}.weight"][0] = 0.0
    mlp = "model.layers.1.mlp"
    weights[f"{mlp}.gate_proj.weight"][:SLEEPING, 0] = -1.0
    weights[f"{mlp}.up_proj.weight"][:SLEEPING] = 0.0
    weights[f"{mlp}.up_proj.weight"][:SLEEPING, 0] = 1e37
    weights[f"{mlp}.down_proj.weight"][:, :SLEEPING] = 1e3
    safetensors.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
