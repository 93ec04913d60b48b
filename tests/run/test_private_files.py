"""Files that nobody but their owner may read."""

from __future__ import annotations

import stat
from pathlib import Path

from pytest_tinker_steps.run import private_files


def test_a_file_is_its_owners_alone_and_holds_only_what_was_written_last(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    private_files.write(path, b"a longer text")
    private_files.write(path, b"short")
    assert path.read_bytes() == b"short"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
