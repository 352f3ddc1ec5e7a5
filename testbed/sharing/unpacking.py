"""Unpacks a sweep's archive into a folder. An archive may come from anyone, so nothing in it is trusted.

Only names that belong in a sweep's folder are written, each checked against the manifest's digest. The digests reveal
damage and changes of single files; a change of the manifest shows in its own digest, which packing and unpacking print.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from testbed.errors import FolderError, TestbedError
from testbed.files import not_writable
from testbed.records import format_of, too_new
from testbed.sharing.folder import new_folder
from testbed.sharing.members import FORMAT, MANIFEST, Manifest, Member, Packed, belongs
from testbed.training.store import SweepFolder

_BLOCK = 1 << 20
_MOST_FILES = 1_000_000
_MOST_BYTES = 1 << 40
_MOST_TIMES = 200  # growth when unpacked: records grow 3 to 20 times, a zip bomb a thousand times
_ALWAYS = 1 << 26  # bytes that are allowed for an archive of any size


def unpack(archive: Path, out: Path) -> Packed:
    """Write the sweep in `archive` to the new or empty folder `out`, completely or not at all.

    Raises:
        FolderError: It is not an archive of a sweep: a name that does not belong in one, a link, too many bytes, a file
            that differs from the manifest, or a sweep that cannot be opened.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _checked(archive, opened.infolist())
            if MANIFEST not in entries:
                _refuse(archive, f"no {MANIFEST} in it")
            content = opened.read(entries.pop(MANIFEST))
            manifest = _manifest(archive, content, set(entries))
            with new_folder(out) as folder:
                for name, entry in entries.items():
                    _extract(archive, opened, entry, manifest.files[name], folder / name)
                (folder / MANIFEST).write_bytes(content)
                _check_sweep(archive, folder, manifest)
    except OSError as error:
        raise FolderError(f"{archive}: cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        _refuse(archive, f"not a readable zip archive ({error})")
    return Packed.of(manifest, content)


def _checked(archive: Path, entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by name, checked before anything is unpacked."""
    if len(entries) > _MOST_FILES:
        _refuse(archive, f"{len(entries):,} files; accepted: at most {_MOST_FILES:,}")
    by_name: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename
        if name in by_name:
            _refuse(archive, f"two files of the name {name[:200]!r}")
        if not (belongs(name) or name == MANIFEST):
            _refuse(archive, f"a file of the name {name[:200]!r}, which belongs in no sweep")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            _refuse(archive, f"{name} is no plain file but a link or a device")
        by_name[name] = entry
    size, most = sum(e.file_size for e in entries), max(_ALWAYS, _MOST_TIMES * archive.stat().st_size)
    if size > min(most, _MOST_BYTES):
        _refuse(archive, f"{size:,} bytes in an archive of {archive.stat().st_size:,}; accepted: at most {most:,}")
    return by_name


def _manifest(archive: Path, content: bytes, names: set[str]) -> Manifest:
    if newer := too_new(format_of(content), FORMAT):
        raise FolderError(f"{archive}: {newer}")
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        _refuse(archive, f"{MANIFEST} is no manifest ({'.'.join(map(str, problem['loc']))[:200]}: {problem['msg']})")
    for reason, differing in (
        ("is not in the manifest", names - manifest.files.keys()),
        ("is in the manifest, but not in the archive", manifest.files.keys() - names),
    ):
        if differing:
            _refuse(archive, f"{min(differing)[:200]!r} {reason} ({len(differing)} such files)")
    return manifest


def _extract(archive: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, member: Member, path: Path) -> None:
    """Write one file, never more bytes than the manifest says."""
    digest, left = hashlib.sha256(), member.size
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(entry) as packed, path.open("xb") as file:
            while left >= 0 and (block := packed.read(min(_BLOCK, left + 1))):
                digest.update(block)
                left -= len(block)
                file.write(block)
    except zipfile.BadZipFile as error:
        _refuse(archive, f"{entry.filename} is damaged ({error})")
    except OSError as error:
        raise not_writable(path, error) from error
    if left or digest.hexdigest() != member.sha256:
        _refuse(archive, f"{entry.filename} was changed after it was packed (its SHA-256 is not the manifest's)")


def _check_sweep(archive: Path, folder: Path, manifest: Manifest) -> None:
    """Check that the folder can be opened and has the manifest's configuration."""
    try:
        sweep = SweepFolder.open(folder)
    except TestbedError as error:
        _refuse(archive, f"no sweep that can be opened in it ({str(error).replace(f'{folder}/', '')})")
    if sweep.config.hash() != manifest.config_hash:
        _refuse(archive, f"{MANIFEST} names another configuration than config.toml holds")
    if sweep.has_forecast():
        sweep.forecast_path.chmod(0o444)


def _refuse(archive: Path, reason: str) -> NoReturn:
    raise FolderError(f"{archive}: {reason}; ask whoever packed it for a new copy (testbed pack)")
