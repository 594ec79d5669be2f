"""Turn a pickled model into data, in a process of its own that is ended when it takes too long."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mace_ft_bench.errors import CheckpointError
from mace_ft_bench.timeouts import timeout_s
from mace_ft_bench.toml_schema import StrictTable, parse

TIMEOUT_VARIABLE = "MFB_CONVERT_TIMEOUT"
_TIMEOUT_S = 900.0
_LONGEST_MESSAGE = 600


@dataclass(frozen=True)
class Facts(StrictTable):
    """What a model card can learn from the weights."""

    elements: tuple[str, ...]
    heads: tuple[str, ...]
    parameters: int
    """Number of trainable parameters."""
    architecture: str
    e0s_ev: dict[str, float]
    """Reference energy per element [eV]; empty for several heads, which have their own."""


def convert(source: Path, target: Path) -> Facts:
    """Unpickle ``source`` in a subprocess, write ``target`` as safetensors, and return what the weights say.

    The caller has been told that unpickling runs code of the file. The process keeps that code, and the switch of mace
    that allows it, away from this one; it is ended after ``MFB_CONVERT_TIMEOUT`` seconds (900 by default).

    Raises
    ------
    CheckpointError
        If the file holds no MACE model, cannot be described as data, or takes too long; ``target`` is then not written.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as scratch:
        result, facts = Path(scratch) / target.name, Path(scratch) / "facts.json"
        _run(source, [str(source.resolve()), str(result), str(facts)], Path(scratch) / "stderr")
        if not (result.is_file() and facts.is_file()):
            raise _failed(source, "the process ended without a result")
        try:
            found = parse(json.loads(facts.read_bytes()), Facts, where=str(source))
        except ValueError as error:  # also our CardError
            raise _failed(source, f"the process said nonsense ({error})") from error
        result.replace(target)
    return found


def _run(source: Path, arguments: list[str], log: Path) -> None:
    limit_s = timeout_s(TIMEOUT_VARIABLE, _TIMEOUT_S)
    # -P: a folder called mace in the working directory is not the installed one.
    command = [sys.executable, "-P", "-m", "mace_ft_bench.zoo.convert", *arguments]
    with log.open("w+b") as errors:  # a file, not a pipe: what the pickle started may keep a pipe open
        try:
            done = subprocess.run(  # noqa: S603 - our own module; the arguments are paths
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CheckpointError(
                f"{source} was not converted within {limit_s:g} s.",
                fix=f"check where the file comes from, or set {TIMEOUT_VARIABLE} to more seconds.",
            ) from error
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        raise _failed(source, f"{last[-_LONGEST_MESSAGE:]} (exit status {done.returncode})")


def _failed(source: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{source} cannot be converted: {why}.",
        fix="get the file again; if it is a MACE model that mace-torch itself can load, report it with this message.",
    )
