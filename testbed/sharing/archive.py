"""Packs a sweep into one zip archive: its records, points table, page, and a manifest of digests.

The unpacked archive is a sweep's folder again. The same records give the same bytes: names are sorted and times fixed.
"""

from __future__ import annotations

import hashlib
import json
import stat
import tempfile
import zipfile
from pathlib import Path

from testbed.errors import FolderError
from testbed.files import replacing
from testbed.points import write_table
from testbed.records import as_json
from testbed.sharing.members import FORMAT, MANIFEST, POINTS, Manifest, Member, Packed, records
from testbed.training.store import SweepFolder
from testbed.training.store.sweep_points import sweep_points
from testbed.version import __version__

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can store
_BLOCK = 1 << 20


def pack(path: Path, out: Path, checkpoints: bool = False) -> Packed:
    """Write the sweep in the folder `path` to the archive `out`, completely or not at all.

    The points table is made from the runs as they are now. Checkpoints and weights are left out unless asked for.

    >>> packed = pack(Path("runs/quick"), Path("quick.zip"))  # doctest: +SKIP
    >>> packed.files, packed.size  # doctest: +SKIP
    (101, 374210)

    Raises:
        FolderError: There is no sweep at `path`, a loss is damaged, a file is a link, or `out` is not a .zip.
    """
    if out.suffix != ".zip":
        raise FolderError(f"{out}: found the ending {out.suffix!r}; accepted: .zip")
    sweep = SweepFolder.open(path)
    members = {}
    with tempfile.TemporaryDirectory() as folder, replacing(out) as temporary:
        write_table(sweep_points(sweep), Path(folder, POINTS))
        files = dict(records(sweep, checkpoints)) | {POINTS: Path(folder, POINTS)}
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(files):
                members[name] = _add(archive, name, files[name])
            manifest = Manifest(
                format=FORMAT,
                testbed=__version__,
                name=sweep.config.name,
                config_hash=sweep.config.hash(),
                files=members,
            )
            content = (json.dumps(as_json(manifest), indent=1) + "\n").encode()
            archive.writestr(_entry(MANIFEST), content)
    return Packed.of(manifest, content)


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> Member:
    """Add one file in blocks; the digest is of the bytes that were added."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file, archive.open(_entry(name), "w", force_zip64=True) as packed:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            packed.write(block)
    return Member(sha256=digest.hexdigest(), size=size)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.create_system = 3  # Unix, on whichever system it is packed
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.compress_type = zipfile.ZIP_STORED if name.endswith((".safetensors", ".png")) else zipfile.ZIP_DEFLATED
    return entry
