"""Three steps of a real training on a real engine, for a test that runs this as a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from distillation import chat, client
from distillation.command import execute


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print where the state was saved."""
    from tinker import types

    base = client.base_model()
    row = chat.datum(chat.tokenizer_of(base), "What is music ?", "Ha ! storm")
    with client.connected() as service:
        training = service.create_lora_training_client(base, rank=4, seed=3).result(timeout=120)
        for _ in range(3):
            training.forward_backward([row], "cross_entropy").result(timeout=120)
            training.optim_step(types.AdamParams(learning_rate=0.01)).result(timeout=120)
        print(f"state: {training.save_state('best').result(timeout=120).path}")


if __name__ == "__main__":
    execute(main)
