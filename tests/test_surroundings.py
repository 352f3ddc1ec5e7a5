"""Terminals, folders and machines that are not as on a laptop: a sweep finishes there, or one error names the remedy."""

import io
import os
from pathlib import Path

import pytest

from testbed.cli.app import main
from testbed.cli.signs import show_every_sign
from testbed.config import Data, load_config
from testbed.errors import ConfigError, DiskError
from testbed.study.preparation import engines, settle
from testbed.training.data import open_source
from testbed.training.data.cache import cache_folder
from testbed.training.executors.cpu_quota import usable_cpus
from tests.helpers.sweeps import TINY

SHORT = TINY.replace("val_windows = 64", "val_windows = 16").replace("depth = 2", "depth = 1")


# --- terminals -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_runs_to_its_verdict_where_the_terminal_lacks_signs(warm, monkeypatch, tmp_path):
    """Sentences have a plus-minus sign in them; the first is printed between the sealing and the target's training."""
    (tmp_path / "a.toml").write_text(SHORT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["testbed", "run", "a.toml", "--workers", "1"])
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, "ascii"))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert b" +-" in printed.getvalue()
    assert (tmp_path / "runs/tiny/verdict.json").exists()


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", b"1 +-2 % -> alpha ?"), ("cp437", b"1 \xf12 % -> \xe0 ?"), ("latin-1", b"1 \xb12 % -> alpha ?")],
)
def test_signs_that_an_encoding_lacks_become_similar_ones(encoding, written, tmp_path):
    with (tmp_path / "out").open("w", encoding=encoding) as stream:
        show_every_sign(stream)
        stream.write("1 ±2 % → α 語")
    assert (tmp_path / "out").read_bytes() == written


def test_what_the_user_asked_of_a_stream_is_kept(tmp_path):
    with (tmp_path / "out").open("w", encoding="ascii", errors="replace") as stream:
        show_every_sign(stream)
        stream.write("±")
    assert (tmp_path / "out").read_bytes() == b"?"


# --- the cache -----------------------------------------------------------------------------------------


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """No TESTBED_CACHE, a home that cannot be written even by root, and a folder of temporary files."""
    monkeypatch.delenv("TESTBED_CACHE")
    monkeypatch.setenv("HOME", "/proc/1")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def a_text(folder):
    (folder / "text").mkdir()
    for number in range(200):
        words = " ".join(str((number * 7919 + k * k) % 9973) for k in range(60))
        (folder / "text" / f"{number}.txt").write_text(words)
    return Data(source=f"text:{folder / 'text'}", seq_len=32, val_windows=8)


def test_without_a_home_texts_are_kept_among_temporary_files(homeless, tmp_path):
    with pytest.warns(UserWarning, match=r"prepared texts are kept in .*set TESTBED_CACHE to a folder of yours"):
        source = open_source(a_text(tmp_path))
    assert [*homeless.glob("testbed-*/corpus-*/train.bin")]
    assert source.facts.train_tokens


def test_a_temporary_folder_that_others_can_write_is_not_used(homeless):
    taken = homeless / f"testbed-{os.getuid()}"
    taken.mkdir()
    taken.chmod(0o777)
    with pytest.warns(UserWarning, match="TESTBED_CACHE"):
        assert cache_folder() != taken


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        DiskError, match=r"cannot write .*file/corpus-.*or set TESTBED_CACHE to a folder of yours"
    ) as caught:
        open_source(a_text(tmp_path))
    assert "--out" not in str(caught.value)


def test_a_home_that_can_be_written_is_used(monkeypatch, tmp_path):
    monkeypatch.delenv("TESTBED_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/testbed"


# --- CPUs ----------------------------------------------------------------------------------------------


def groups(root: Path, listed: str, **files: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(listed)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("listed", "files"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}),
        ("0::/user.slice/mine\n", {"user.slice/mine/cpu.max": "max 100000\n", "user.slice/cpu.max": "50000 100000\n"}),
        (
            "4:cpu,cpuacct:/docker/ab\n1:name=systemd:/x\n",
            {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        ),
        (
            "3:cpu,cpuacct:/job\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "20000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "50000"},
        ),
        ("0::/../../other\n", {"cpu.max": "1000 100000\n"}),
    ],
    ids=["docker", "parent", "v1 in a container", "v1", "another namespace"],
)
def test_a_quota_of_one_cpu_is_one_worker(listed, files, tmp_path):
    assert usable_cpus(groups(tmp_path, listed, **files)) == 1


@pytest.mark.parametrize(
    ("listed", "files"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}),
        ("0::/\n", {}),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}),
        ("0::/\n", {"cpu.max": "9000000 100000\n"}),
        ("nonsense", {"cpu.max": "?"}),
    ],
)
def test_without_a_quota_the_affinity_counts(listed, files, tmp_path):
    assert usable_cpus(groups(tmp_path, listed, **files)) == len(os.sched_getaffinity(0))
    assert usable_cpus(tmp_path / "no such system") == len(os.sched_getaffinity(0))


# --- compilers -----------------------------------------------------------------------------------------


def test_without_a_compiler_compiling_is_refused_where_it_was_asked_for(monkeypatch, tiny_toml, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    config = load_config(tiny_toml, ["train.compile=true", "train.pack=none"])
    with pytest.raises(
        ConfigError, match=r"train\.compile: found true, but there is no C\+\+ compiler .*set it to auto"
    ):
        engines(config, settle(config)[1], measure=False)
    auto = load_config(tiny_toml, ["train.pack=none"])
    assert not any(spec.engine.compile for spec in engines(auto, settle(auto)[1], measure=False).plan.runs)
