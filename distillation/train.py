"""Steps 12 and 13: train the student, resumable at any moment.

``python -m distillation.train`` goes on from the last recorded checkpoint, or begins. A loss that is not
a number ends it with exit code 1 and the last good checkpoint named; ``--recover`` then lowers the rate to
a tenth from there on (and does nothing when a training ended for another reason). ``--dry-run`` proves
two steps, a checkpoint and a resume from it. ``--resume-from STEP`` goes back to an earlier checkpoint,
``0`` begins anew. ``--status`` says how far a training is. ``--check`` counts the logs and checkpoints
again; ``--check-trial`` the trial.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distillation import checkpoints, client, config, events, settings, training_report, training_trial
from distillation.checkpoints import Checkpoint
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.jsonl import read_json, write_json
from distillation.split import TRAIN, VALIDATION
from distillation.training_job import (
    Job,
    fingerprint_of,
    load_job,
    new_client,
    read_pairs,
    resumed_client,
)
from distillation.training_log import LOSS, Step, TrainingLog, cut, read_validations, writing
from distillation.training_loop import TrainingClient, pipelined, save, validate
from distillation.work_time import TRAINING, Clock


def prepare(folder: Path, used: config.TrainingConfig, fingerprint: str) -> Checkpoint | None:
    """Bring ledger and logs to where the training goes on.

    Args:
        folder: the run folder.
        used: the numbers of step 11.
        fingerprint: of data and model, see ``training_job.fingerprint_of``.

    Returns:
        the checkpoint to go on from; ``None`` to begin.

    Raises:
        DistillationError: the training has diverged and was not recovered, or the logs are spoilt.
    """
    known = checkpoints.read(folder)
    last = known[-1] if known else None
    if why := _why_anew(folder, used, fingerprint, last):
        print(f"{why}: begins anew; earlier checkpoints stand in {checkpoints.SET_ASIDE}", flush=True)
        begin_anew(folder)
        last = None
    checkpoints.claim(folder, fingerprint)
    if (found := checkpoints.diverged(folder)) is not None:
        raise DistillationError(_divergence(folder, f"step {found.get('step')}", str(found.get("loss"))))
    if last is None or last.step < used.steps:
        cut(folder, last.next_step if last else 1)
    return last


def _why_anew(
    folder: Path, used: config.TrainingConfig, fingerprint: str, last: Checkpoint | None
) -> str | None:
    if checkpoints.claimed(folder) not in (None, fingerprint):
        return "data or model are not those of the training so far"
    if last is not None and last.step > used.steps:
        return f"the last checkpoint is of step {last.step}, and {used.steps} are wanted"
    report = folder / training_report.REPORT
    if last is not None and last.step == used.steps and report.exists():
        before, wanted = read_json(report).get("settings"), training_report.settings_of(used)
        return None if before == wanted else "the finished training had other settings"
    return None


def begin_anew(folder: Path) -> None:
    """Forget checkpoints, logs and lowered rates; what was paid for stays noted."""
    checkpoints.set_aside(folder, 0)
    checkpoints.forget_recoveries(folder)
    cut(folder, 0)


def train(service: Any, job: Job, last: Checkpoint | None, clock: Clock) -> None:
    """Train from where ``prepare`` has left off to the last step; ``clock`` is told of every step.

    Raises:
        DistillationError: the service failed, the disk is full, or the loss is not a number.
    """
    first = last.next_step if last else 1
    every, total = job.config.checkpoint_every, job.config.steps
    with TrainingLog(job.folder) as log:
        training = resumed_client(service, job, last.state) if last else new_client(service, job)
        if not any(one.step == 0 for one in read_validations(job.folder)):
            _validate(training, job, log, 0)
        while first <= total:
            boundary = (first - 1) // every * every + every
            for step in pipelined(training, job.schedule, job.examples, first, boundary):
                log.step(step)
                clock.lap(1)
                # Recorded before it is told: who watches may end this process as soon as it knows.
                problem = None if math.isfinite(step.loss) else _diverged(job.folder, step.step, step.loss)
                _report(step, total)
                if problem is not None:
                    raise problem
            _checkpoint(training, job, log, boundary)
            clock.lap()
            first = boundary + 1


def _checkpoint(training: TrainingClient, job: Job, log: TrainingLog, step: int) -> None:
    """Save after everything was awaited, and record only what is saved: a resume repeats no batch."""
    loss = _validate(training, job, log, step)
    if not math.isfinite(loss):
        raise _diverged(job.folder, step, loss)
    state, sampler = save(training, job.schedule, f"step-{step:04d}", job.ttl_seconds)
    log.sync()
    saved = Checkpoint(step, step + 1, state, sampler, loss, job.fingerprint, checkpoints.now())
    checkpoints.record(job.folder, saved)
    print(f"checkpoint {step}: validation loss {loss:.4f}", flush=True)
    events.metric("checkpoint", step)


def _validate(training: TrainingClient, job: Job, log: TrainingLog, step: int) -> float:
    measured = validate(training, job.schedule, job.validation, step)
    log.validation(measured)
    events.metric("validation_loss", measured.loss)
    events.metric("cost_usd", measured.cost_usd)
    return measured.loss


def _report(step: Step, total: int) -> None:
    print(step.line(), flush=True)
    events.metric("loss", step.loss)
    events.metric("step", step.step)
    events.metric("cost_usd", step.cost_usd)
    events.progress(step.step, total)


def _diverged(folder: Path, step: int, loss: float) -> DistillationError:
    checkpoints.record_divergence(folder, step, loss)
    return DistillationError(_divergence(folder, f"step {step}", str(loss)))


def _divergence(folder: Path, where: str, loss: str) -> str:
    known = checkpoints.read(folder)
    good = f"that of step {known[-1].step}, {known[-1].state}" if known else "none, it begins anew"
    return (
        f"{where}: the loss is {loss}; last good checkpoint: {good}; run python -m distillation.train "
        "--recover, which lowers the learning rate to a tenth from there on, then train again"
    )


def recover() -> str:
    """The command between two attempts: lower the rate if, and only if, the training has diverged.

    Returns:
        what was done.
    """
    folder = settings.run_folder()
    with writing(folder / checkpoints.RECOVERIES):
        lowered = checkpoints.recover(folder)
    if lowered is None:
        return "nothing has diverged: the learning rate stays, the training goes on from its last checkpoint"
    return f"learning rate times {lowered.factor:g} from step {lowered.from_step} on"


def resume_from(step: int) -> None:
    """Go back to the checkpoint of ``step``; 0 begins anew.

    Raises:
        DistillationError: there is no such checkpoint.
    """
    folder = settings.run_folder()
    steps = [one.step for one in checkpoints.read(folder)]
    if step == 0:
        begin_anew(folder)
    elif step in steps:
        checkpoints.set_aside(folder, step)
    else:
        raise DistillationError(f"--resume-from {step}: no such checkpoint; there are {[0, *steps]}")


def status() -> list[str]:
    """How far the training is, in lines for whoever watches it. Works at any moment."""
    folder = settings.run_folder()
    loss = folder / LOSS
    last = loss.read_text(encoding="utf-8").splitlines()[-1:] if loss.exists() else []
    return [
        *last,
        f"checkpoints: {len(saved := checkpoints.read(folder))}",
        *(f"checkpoint {one.step}: validation loss {one.validation_loss:.4f}" for one in saved),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The commands of steps 12 and 13."""
    parser = argparse.ArgumentParser(prog="python -m distillation.train", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="two steps, a checkpoint, a resume from it")
    mode.add_argument("--check-trial", action="store_true", help="judge the dry run once more")
    mode.add_argument("--check", action="store_true", help="count logs and checkpoints again")
    mode.add_argument("--status", action="store_true", help="say how far the training is")
    mode.add_argument("--recover", action="store_true", help="lower the rate if the loss was not a number")
    mode.add_argument("--resume-from", type=int, metavar="STEP", help="go back to this checkpoint, 0: anew")
    options = parser.parse_args(argv)
    if options.check_trial:
        print("\n".join(training_trial.check()))
    elif options.check:
        print("\n".join(training_report.check(settings.run_folder(), config.current())))
    elif options.status:
        print("\n".join(status()))
    elif options.recover:
        events.note(recover())
    elif options.dry_run:
        _run_trial()
    else:
        if options.resume_from is not None:
            resume_from(options.resume_from)
        _run_training()


def _run_trial() -> None:
    job, began = load_job(), time.monotonic()
    with client.connected(job.base_model) as service:
        trial = training_trial.dry_run(service, job)
    trial["seconds"] = round(time.monotonic() - began, 2)
    write_json(job.folder / training_trial.TRIAL, trial)
    events.metric("cost_usd", trial["cost_usd"])
    losses = ", ".join(f"{step['loss']:.3f}" for step in trial["steps"])
    events.note(
        f"{training_trial.TRIAL_STEPS} steps, a checkpoint and a resume with the third step: losses {losses}"
    )
    events.criterion("Two steps trained, saved and resumed")


def _run_training() -> None:
    folder, used = settings.run_folder(), config.current()
    base_model = client.base_model(used.base_model)
    for name in (TRAIN, VALIDATION):
        # A spoilt line makes other data of it: nothing may be set aside for that.
        read_pairs(folder / name)
    last = prepare(folder, used, fingerprint_of(folder, used, base_model))
    job = load_job()
    if last is None or last.step < job.config.steps:
        where = f"from the checkpoint of step {last.step}" if last else "from the beginning"
        print(f"{where} to step {job.config.steps} on {job.base_model}", flush=True)
        with Clock(folder, TRAINING) as clock, client.connected(job.base_model) as service:
            train(service, job, last, clock)
    report = training_report.write(job.folder, job.config, job.base_model)
    events.note(
        f"{report['steps']} steps, loss {report['loss_first']:.3f} -> {report['loss_last']:.3f} "
        f"({report['loss_ratio']:.0%}), {len(report['checkpoints'])} checkpoints, best of step "
        f"{report['best_checkpoint']}, validation loss {report['best_validation_loss']:.3f}"
    )
    events.criterion("All steps trained")
    events.criterion("Checkpoints saved and resumable")


if __name__ == "__main__":
    execute(main)
