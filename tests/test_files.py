import json
import os

import pytest

from testbed.errors import DiskError, FolderError
from testbed.files import append_line, building, create_json, digest, read_lines, replacing, write_json, write_text


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path):
    path = tmp_path / "log"
    append_line(path, "one")
    append_line(path, "two")
    with path.open("ab") as log:
        log.write(b'{"half')
    assert read_lines(path) == ["one", "two"]
    append_line(path, "three")
    assert read_lines(path) == ["one", "two", "three"]


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FolderError, match="write permission"):
        write_text(tmp_path / "a", "x")
    tmp_path.chmod(0o700)


def test_a_path_below_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FolderError, match="cannot write"):
        write_text(tmp_path / "file" / "a", "x")


def test_of_several_that_create_a_file_one_does(tmp_path):
    path = tmp_path / "lock.json"
    create_json(path, {"owner": 1})
    with pytest.raises(FileExistsError) as caught:
        create_json(path, {"owner": 2})
    assert caught.value.filename == str(path)
    assert json.loads(path.read_text()) == {"owner": 1} and path.stat().st_mode & 0o777 == 0o644
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="cannot write"):
        create_json(tmp_path / "file" / "a.json", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "lock.json"]


def test_a_folder_is_built_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), building(tmp_path / "new") as temporary:
        (temporary / "half").write_text("x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with building(tmp_path / "new") as temporary:
        (temporary / "whole").write_text("x")
    with pytest.raises(DiskError, match="cannot write "), building(tmp_path / "new") as temporary:
        (temporary / "other").write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["new"] and [p.name for p in (tmp_path / "new").iterdir()] == [
        "whole"
    ]
