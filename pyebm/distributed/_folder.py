"""The folder of a run: finds the files that are finished, and adds a file whole or not at all.

``run.json`` says which run it is; ``samples-000000.npz``, ... are its micro-batches; ``SHA256SUMS``
is written when all of them are there. Names that begin with a dot are for the run itself: a lock,
files that are being written, the states of unfinished chains.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import uuid
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import torch

from .._options import shown
from ..samplers import State
from . import _archive

_SUMS = "SHA256SUMS"
_WHY = {
    "first_step": (
        "the first step has other bits than when this folder was begun (other weights, code, threads or"
        " machine)"
    ),
    "config": "the config's text is not the one that this folder was begun with",
}


def lock(call: str, path: Path) -> IO[bytes] | None:
    """Lock a folder, so that one run writes at a time, until the file is closed. The system
    releases the lock when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:
        return None
    file = open(path / ".lock", "wb")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            file.close()
            raise BlockingIOError(
                error.errno, f"{call}: another run is writing to {path}; wait for it"
            ) from None
        # The file system has no locks. The folder stays correct all the same, since two runs of the
        # same description write the same bytes.
    return file


class Folder:
    """The folder ``out``, for a run that ``about`` describes."""

    def __init__(self, out: Any, about: dict[str, Any], suffix: str) -> None:
        self.path, self.about, self.suffix = Path(out), about, suffix
        self.run = (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
        self.name = hashlib.sha256(self.run).hexdigest()  # names the run in the states of its chains
        self._lock: IO[bytes] | None = None

    # --- by one rank, before the others look ---

    def begin(self) -> None:
        """Take the folder for this run: make it, or find that it is this run's."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = lock("sample", self.path)
        begun = self.path / "run.json"
        if begun.exists():
            self._check_same(begun.read_bytes())
        elif names := sorted(name for name in os.listdir(self.path) if not name.startswith(".")):
            raise FileExistsError(
                f"sample: out must be a new folder or one that a run began, got {self.path}, which has"
                f" {names[0]}"
            )
        else:
            self._write("run.json", self.run)
        for name in os.listdir(self.path):  # files that were half written when an earlier run was killed
            if name.startswith(".") and name.endswith(".tmp"):
                (self.path / name).unlink(missing_ok=True)

    def _check_same(self, begun: bytes) -> None:
        try:
            before = json.loads(begun)
        except ValueError:
            raise ValueError(
                f"sample: {self.path / 'run.json'} is damaged; see what the files' own run.json say"
            ) from None
        other = [key for key in before.keys() | self.about.keys() if before.get(key) != self.about.get(key)]
        if other:
            lines = [f"{key}: {_WHY.get(key) or self._difference(key, before)}" for key in sorted(other)]
            raise ValueError(
                f"sample: {self.path} holds another run; take another folder\n  " + "\n  ".join(lines)
            )

    def _difference(self, key: str, before: dict[str, Any]) -> str:
        return f"it has {shown(before.get(key))}, got {shown(self.about.get(key))}"

    # --- by any rank ---

    def file(self, number: int) -> str:
        return f"samples-{number:06d}.{self.suffix}"

    def files(self) -> int:
        return sum(name.startswith("samples-") for name in os.listdir(self.path))

    def found(self, numbers: Iterable[int], ids_of: Any) -> tuple[dict[int, str], list[str]]:
        """The checksums of the micro-batches that are there, and a complaint about each one that is
        damaged."""
        sums, wrong = self._sums(), []
        found: dict[int, str] = {}
        for number in numbers:
            name = self.file(number)
            try:
                content = (self.path / name).read_bytes()
            except FileNotFoundError:
                continue
            found[number] = hashlib.sha256(content).hexdigest()
            try:
                members = _archive.unpacked(content)
                whole = members["run.json"] == self.run and members["ids.npy"] == _archive.npy(
                    torch.tensor(ids_of(number), device="cpu")
                )
            except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, OSError):
                whole = False
            if not whole or sums.get(name, found[number]) != found[number]:
                wrong.append(name)
        return found, wrong

    def _sums(self) -> dict[str, str]:
        try:
            lines = (self.path / _SUMS).read_text().splitlines()
        except FileNotFoundError:
            return {}
        return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}

    def add(self, number: int, members: dict[str, bytes], ids: torch.Tensor) -> str:
        """Write a micro-batch's file and return its checksum. If the file is there by now, it must
        have the same bytes."""
        content = _archive.packed(members | {"ids.npy": _archive.npy(ids), "run.json": self.run})
        self._write(self.file(number), content)
        self.state(number).unlink(missing_ok=True)
        return hashlib.sha256(content).hexdigest()

    def end(self, sums: dict[int, str]) -> None:
        """Write the checksums of all files, in the form that ``sha256sum --check`` reads."""
        self._write(
            _SUMS, "".join(f"{sums[number]}  {self.file(number)}\n" for number in sorted(sums)).encode()
        )
        for state in self.path.glob(".state-*.pt"):  # left by a kill after the chain's file was written
            state.unlink(missing_ok=True)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _write(self, name: str, content: bytes) -> None:
        path, on_its_way = self.path / name, self.path / f".{name}.{uuid.uuid4().hex}.tmp"
        try:
            try:
                with open(on_its_way, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                if not name.startswith(".") and path.exists():
                    if path.read_bytes() != content:
                        raise FileExistsError(
                            f"sample: {path} is there with other bytes, and is left as it is"
                        )
                    return
                os.replace(on_its_way, path)
                self._sync()
            finally:
                on_its_way.unlink(missing_ok=True)
        except FileExistsError:
            raise
        except OSError as error:
            said = (
                f"sample: {path} could not be written ({error.strerror}); what is finished stays: the same"
                " call goes on"
            )
            raise OSError(error.errno, said) from None

    def _sync(self) -> None:
        """Write the folder itself to the disk: only then does a rename in it last."""
        at = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(at)
        finally:
            os.close(at)

    # --- the states of unfinished chains ---

    def state(self, number: int) -> Path:
        return self.path / f".state-{number:06d}.pt"

    def keep(self, number: int, state: State) -> None:
        content = io.BytesIO()
        torch.save({"run": self.name, "state": state.state_dict()}, content)
        self._write(self.state(number).name, hashlib.sha256(content.getvalue()).digest() + content.getvalue())

    def kept(self, number: int, like: State) -> State | None:
        """The state in which an earlier run left this micro-batch's chains, or None."""
        path = self.state(number)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        checksum, saved = content[:32], content[32:]
        if hashlib.sha256(saved).digest() != checksum:
            raise ValueError(
                f"sample: {path} is cut short or damaged; delete it, and these chains begin anew"
            )
        left = torch.load(io.BytesIO(saved), map_location=like.x.device, weights_only=True)
        state = State.from_state_dict(left["state"])
        ours = left["run"] == self.name and state.x.shape == like.x.shape and state.x.dtype is like.x.dtype
        if not ours or state.noise.at(step=like.noise.step) != like.noise:
            raise ValueError(f"sample: {path} is of another run; delete it, and these chains begin anew")
        return state
