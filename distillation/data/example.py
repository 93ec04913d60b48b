"""Ask the distilled model a question. Needs transformers and PyTorch; with --adapter also peft.

    python example.py "What is music to you?"
    python example.py --adapter --base PATH_OR_NAME "What is music to you?"

The merged model in ``merged`` is used when it is there. ``--adapter`` loads ``adapter`` onto its base model.
No system prompt is needed: that is what the model was made for.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def load(adapter: bool, base: str | None) -> tuple[Any, Any]:
    """The model and its tokenizer."""
    transformers = import_module("transformers")
    if not adapter and (HERE / "merged").is_dir():
        merged = str(HERE / "merged")
        model = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype="auto")
        return model, transformers.AutoTokenizer.from_pretrained(merged)
    folder = HERE / "adapter"
    base = base or json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    return import_module("peft").PeftModel.from_pretrained(model, str(folder)), tokenizer


def main() -> None:
    """Answer the question of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("question")
    parser.add_argument("--adapter", action="store_true", help="base model and adapter, not the merged model")
    parser.add_argument("--base", help="the base model, when it lies elsewhere than the adapter says")
    parser.add_argument("--max-tokens", type=int, default=128)
    options = parser.parse_args()
    model, tokenizer = load(options.adapter, options.base)
    # The very prompt that the model was trained with: no system message, no thinking aloud.
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": options.question}],
        add_generation_prompt=True,
        tokenize=False,
        enable_thinking=False,
    )
    asked = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    said = model.generate(
        input_ids=asked["input_ids"],
        attention_mask=asked["attention_mask"],
        max_new_tokens=options.max_tokens,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    print(tokenizer.decode(said[0, asked["input_ids"].shape[1] :], skip_special_tokens=True).strip())


if __name__ == "__main__":
    main()
