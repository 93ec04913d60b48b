"""A base model with random weights and an adapter on it, made with transformers and PEFT in a second."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

WORDS = ["<pad>", "<end>", "user", "assistant", "What", "is", "music", "to", "you", "?", "Ha", "!", "storm"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def make_base(folder: Path) -> str:
    """Write a model of some thousand weights; every one of them random, the seed fixed."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
        initializer_range=0.3,
    )
    save(LlamaForCausalLM(config), folder)
    return str(folder)


def make_adapter(base: str, folder: Path) -> None:
    """Write an adapter on all linear layers, with random numbers where training would begin at zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save(model, folder)


def logprobs(base: str, adapter: Path, tokens: list[int]) -> list[float]:
    """What an engine would say: log probabilities of all tokens but the first, the update added by hand."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    tensors = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for name, down in tensors.items():
            if name.endswith(".lora_A.weight"):
                up = tensors[name.replace(".lora_A.", ".lora_B.")]
                layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                model.get_submodule(layer).weight += 32 / down.shape[0] * (up @ down)
        logits = model(torch.tensor([tokens[:-1]])).logits[0]
    picked = logits.log_softmax(-1).gather(-1, torch.tensor(tokens[1:])[:, None])
    return [float(value) for value in picked[:, 0]]


def save(model: Any, folder: Path) -> None:
    """Write a model, without what transformers warns itself of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
