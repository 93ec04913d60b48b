"""What goes over the wire: the SDK's protobuf messages and JSON bodies, as plain data and back.

Sources: ``tinker.proto.tinker_public_pb2`` for the messages, ``tinker.types`` for the JSON fields.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from distillation.engine.refusals import Refused

Floats: TypeAlias = npt.NDArray[np.float32]
Tokens: TypeAlias = npt.NDArray[np.int64]

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a batch: ``tokens[i]`` is followed by ``targets[i]``, whose loss counts ``weights[i]``."""

    tokens: Tokens
    targets: Tokens
    weights: Floats


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A ``forward_backward`` request. ``refusal`` says why its data cannot be used, if they cannot.

    The addressing is kept apart from the data because a request that is refused still consumes its id.
    """

    model_id: str
    seq_id: int
    examples: tuple[Example, ...]
    backward: bool
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample.

    Attributes:
        max_tokens: at most so many tokens are made, the stop token included.
        temperature: 0 takes the likeliest token each time.
        top_k: only the so many likeliest tokens; 0 for all.
        top_p: only the likeliest tokens that together have this probability.
        seed: of the random numbers; ``None`` for different ones each time.
        stop_tokens: tokens that end the answer, besides the model's end token.
        stop_strings: texts that end the answer.
        ends: whether the model's own end token ends the answer.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    stop_tokens: frozenset[int] = frozenset()
    stop_strings: tuple[str, ...] = ()
    ends: bool = True


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """An ``asample`` request: ``count`` answers to one prompt."""

    prompt: tuple[int, ...]
    count: int
    sampling: Sampling
    prompt_logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer, its tokens' log probabilities, and why it ended."""

    tokens: Sequence[int]
    logprobs: Sequence[float]
    stop: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What an ``asample`` request is answered.

    Attributes:
        sequences: the answers.
        prompt_logprobs: of the prompt's tokens; the first is not a number, because nothing precedes it.
        cached: tokens of the prompt that were not read anew.
    """

    sequences: tuple[Answer, ...]
    prompt_logprobs: Floats | None = None
    cached: int = 0


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a ``forward_backward`` request is answered: per row the target's log probability and the loss."""

    logprobs: tuple[Floats, ...]
    losses: tuple[Floats, ...]
    metrics: Mapping[str, float]


def _pb() -> Any:
    return importlib.import_module("tinker.proto.tinker_public_pb2")


def parse_batch(body: bytes) -> BatchRequest:
    """Read a ``forward_backward`` request.

    Raises:
        Refused: it is no such message, so that not even its id is known.
    """
    pb = _pb()
    message = pb.ForwardBackwardRequest()
    try:
        message.ParseFromString(body)
    except Exception as cause:
        raise Refused(400, f"not a ForwardBackwardRequest: {cause}") from cause
    refusal, examples = "", []
    if message.loss_fn != "cross_entropy":
        refusal = f"loss {message.loss_fn!r} is not offered by the local engine; use cross_entropy"
    else:
        try:
            examples = [_example(datum, number) for number, datum in enumerate(message.data)]
        except ValueError as cause:
            refusal = str(cause)
        if not refusal and not examples:
            refusal = "the batch is empty"
    return BatchRequest(
        message.model_id, int(message.seq_id), tuple(examples), not message.forward_only, refusal
    )


def _example(datum: Any, number: int) -> Example:
    chunks = []
    for chunk in datum.model_input:
        if chunk.WhichOneof("chunk") != "encoded_text":
            raise ValueError(f"datum {number}: the local engine takes text tokens only")
        chunks.append(np.frombuffer(chunk.encoded_text.tokens, dtype=np.int32))
    tokens = np.concatenate(chunks).astype(np.int64) if chunks else np.zeros(0, np.int64)
    if not tokens.size:
        raise ValueError(f"datum {number}: no tokens")
    inputs = {name: _tensor(value, name, number) for name, value in datum.loss_fn_inputs.items()}
    if "target_tokens" not in inputs:
        raise ValueError(f"datum {number}: target_tokens are missing")
    unknown = inputs.keys() - {"target_tokens", "weights"}
    if unknown:
        raise ValueError(f"datum {number}: {min(unknown)} is not an input of cross_entropy")
    targets = inputs["target_tokens"].astype(np.int64)
    weights = inputs.get("weights", np.ones(tokens.size)).astype(np.float32)
    for name, value in (("target_tokens", targets), ("weights", weights)):
        if value.shape != tokens.shape:
            raise ValueError(f"datum {number}: {value.size} {name} for {tokens.size} tokens")
    return Example(tokens, targets, weights)


def _tensor(tensor: Any, name: str, number: int) -> npt.NDArray[Any]:
    pb = _pb()
    kinds = {pb.DTYPE_FLOAT32: np.float32, pb.DTYPE_INT64: np.int64, pb.DTYPE_INT32: np.int32}
    if tensor.WhichOneof("encoding") == "sparse_csr" or tensor.dtype not in kinds or len(tensor.shape) > 1:
        raise ValueError(f"datum {number}: {name} must be a dense row of numbers")
    return np.frombuffer(tensor.dense, dtype=kinds[tensor.dtype])


def batch_bytes(result: BatchResult) -> bytes:
    """The protobuf answer to a ``forward_backward`` request."""
    pb = _pb()
    message = pb.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord")
    record = message.loss_fn_outputs.add(num_datums=len(result.logprobs))
    for name, rows in (("logprobs", result.logprobs), ("elementwise_loss", result.losses)):
        field = record.fields[name]
        field.dtype = pb.DTYPE_FLOAT32
        field.data = b"".join(row.astype(np.float32).tobytes() for row in rows)
        field.offsets = np.cumsum([0, *(4 * row.size for row in rows)], dtype=np.int64).tobytes()
    for name, value in result.metrics.items():
        message.metrics[name] = value
    return bytes(message.SerializeToString())


def parse_sample(body: Mapping[str, Any], vocabulary: int, context: int) -> SampleRequest:
    """Read an ``asample`` request.

    Args:
        body: its JSON.
        vocabulary: how many tokens the model knows.
        context: how many tokens the model can see at a time.

    Raises:
        Refused: what is asked for cannot be done.
    """
    for name in ("topk_prompt_logprobs", "topk_sample_logprobs", "prompt_alt_tokens_k"):
        if body.get(name):
            raise Refused(400, f"{name} is not offered by the local engine")
    for name in ("target_prompt_logprobs", "prompt_logprobs_last_n"):
        if body.get(name) is not None:
            raise Refused(400, f"{name} is not offered by the local engine")
    prompt: list[int] = []
    for chunk in body["prompt"]["chunks"]:
        if "tokens" not in chunk:
            raise Refused(400, "the local engine takes text tokens only")
        prompt.extend(chunk["tokens"])
    if not prompt:
        raise Refused(400, "the prompt is empty")
    if set(map(type, prompt)) != {int} or min(prompt) < 0 or max(prompt) >= vocabulary:
        raise Refused(400, f"a token of the prompt is not between 0 and {vocabulary - 1}")
    if len(prompt) >= context:
        raise Refused(400, f"the prompt has {len(prompt)} tokens, and the model sees {context}")
    count = body.get("num_samples", 1)
    if not isinstance(count, int) or not 1 <= count <= 1024:
        raise Refused(400, f"num_samples must be between 1 and 1024, not {count}")
    sampling = _sampling(body.get("sampling_params") or {}, context - len(prompt))
    return SampleRequest(tuple(prompt), count, sampling, bool(body.get("prompt_logprobs")))


def _sampling(wanted: Mapping[str, Any], room: int) -> Sampling:
    most = wanted.get("max_tokens")
    most = room if most is None else most
    temperature, top_p = wanted.get("temperature", 1.0), wanted.get("top_p", 1.0)
    if not isinstance(most, int) or most < 1:
        raise Refused(400, f"max_tokens must be at least 1, not {most}")
    if not 0.0 <= temperature <= 1e6:
        raise Refused(400, f"temperature must not be negative, and is {temperature}")
    if not 0.0 < top_p <= 1.0:
        raise Refused(400, f"top_p must be above 0 and at most 1, not {top_p}")
    stop = wanted.get("stop")
    given = [stop] if isinstance(stop, str) else list(stop or ())
    if any(one == "" for one in given):
        raise Refused(400, "a stop string is empty")
    return Sampling(
        max_tokens=min(most, room),
        temperature=float(temperature),
        top_k=max(0, int(wanted.get("top_k", -1))),
        top_p=float(top_p),
        seed=wanted.get("seed"),
        stop_tokens=frozenset(one for one in given if isinstance(one, int)),
        stop_strings=tuple(one for one in given if isinstance(one, str)),
        # An empty list is the SDK's way to ask for no stop at all, the end token included.
        ends=stop is None or bool(given),
    )


def sample_bytes(result: SampleResult) -> bytes:
    """The protobuf answer to an ``asample`` request."""
    pb = _pb()
    message = pb.SampleResponse(prompt_cache_hit_tokens=result.cached)
    for one in result.sequences:
        message.sequences.add(
            tokens=np.asarray(one.tokens, np.int32).tobytes(),
            logprobs=np.asarray(one.logprobs, np.float32).tobytes(),
            stop_reason=pb.STOP_REASON_STOP if one.stop == "stop" else pb.STOP_REASON_LENGTH,
        )
    if result.prompt_logprobs is not None:
        message.prompt_logprobs = result.prompt_logprobs.astype(np.float32).tobytes()
    return bytes(message.SerializeToString())
