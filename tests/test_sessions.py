import json
import multiprocessing
import os
import threading
import time

import pytest

from testbed.errors import DiskError
from testbed.training.store import Held, OwnerMonitor, Superseded
from testbed.training.store.session import claimed, last_session, machine, sessions

LEASE = 1.0


def own(folder, ready, beats=0):
    """Claim the run in another process, beat so often, and never give it back."""
    with claimed(folder, LEASE) as claim:
        ready.set()
        for count in range(beats):
            time.sleep(LEASE / 6)
            claim.renew(count + 1, count + 1, 0.1 * (count + 1))
        time.sleep(3600)


@pytest.fixture
def owner():
    context = multiprocessing.get_context("spawn")
    started = []

    def start(folder, beats=0):
        ready = context.Event()
        process = context.Process(target=own, args=(folder, ready, beats))
        process.start()
        started.append(process)
        assert ready.wait(60)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def move_elsewhere(folder):
    """Make the newest session one of another machine, as it looks over a network: its lock is not to be seen."""
    number, session = last_session(folder)
    elsewhere = session.model_copy(update={"machine": "another", "host": "node7"})
    (folder / "sessions" / f"{number:04d}.json").write_text(elsewhere.model_dump_json())
    return number


def test_a_run_has_one_owner(tmp_path, owner):
    process = owner(tmp_path / "run")
    with pytest.raises(Held, match=f"process {process.pid} on "), claimed(tmp_path / "run", LEASE):
        pass
    assert len(sessions(tmp_path / "run")) == 1


def test_the_run_of_a_dead_process_is_taken_over_at_once(tmp_path, owner):
    process = owner(tmp_path / "run")
    process.kill()
    process.join()
    started = time.monotonic()
    with claimed(tmp_path / "run", 3600):
        assert time.monotonic() - started < 60
        assert not any(session.released for session in sessions(tmp_path / "run"))
    assert len(sessions(tmp_path / "run")) == 2


def test_what_is_given_back_is_free_for_every_machine(tmp_path):
    with claimed(tmp_path, LEASE) as claim:
        claim.renew(7, 9, 1.5)
        claim.release()
    move_elsewhere(tmp_path)
    with claimed(tmp_path, 3600):
        pass
    assert next((s.steps, s.reached, s.seconds, s.released) for s in sessions(tmp_path)) == (7, 9, 1.5, True)


def test_an_owner_on_another_machine_lives_as_long_as_its_session_changes(tmp_path):
    with claimed(tmp_path, LEASE):
        pass
    number = move_elsewhere(tmp_path)
    path = tmp_path / "sessions" / f"{number:04d}.json"
    over = threading.Event()

    def beat():
        count = 0
        while not over.wait(LEASE / 6):
            count += 1
            path.write_text(json.dumps(json.loads(path.read_text()) | {"beat": count}))

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(Held, match="on node7 is training this run"), claimed(tmp_path, LEASE):
            pass
    finally:
        over.set()
        beating.join()
    with claimed(tmp_path, LEASE):  # it is silent now, and after the lease it is dead
        assert len(sessions(tmp_path)) == 2


def test_a_clock_that_is_set_back_or_ahead_makes_no_owner_die_or_live(tmp_path):
    with claimed(tmp_path, LEASE):
        pass
    path = tmp_path / "sessions" / f"{move_elsewhere(tmp_path):04d}.json"
    for age in (-(10**7), 10**7):
        os.utime(path, (time.time() - age, time.time() - age))
        owners = OwnerMonitor(LEASE)
        assert owners.alive(tmp_path), "from one look nothing can be told"
        time.sleep(1.2 * LEASE)
        assert not owners.alive(tmp_path)


def test_a_superseded_owner_writes_no_more(tmp_path, tiny_spec):
    from testbed.training.store import RunFolder

    run = RunFolder(tmp_path, tiny_spec)
    with run.claimed(LEASE) as claim:
        claim.renew(1, 1, 0.1)
        number, session = last_session(tmp_path)
        (tmp_path / "sessions" / f"{number + 1:04d}.json").write_text(session.model_dump_json())
        for write in (lambda: run.fail("no", ""), lambda: claim.renew(2, 2, 0.2), claim.release, claim.check):
            with pytest.raises(Superseded):
                write()
    assert run.failure() is None


def test_of_many_that_take_over_one_gets_the_run(tmp_path):
    """All believe the owner dead at the same moment; the lock is of no help to them, as on a disk that knows none."""
    from testbed.training.store import session

    (tmp_path / "sessions").mkdir()
    won, lost = [], []
    start = threading.Barrier(8)

    def take():
        start.wait()
        try:
            session.create_json(tmp_path / "sessions" / "0001.json", {})
            won.append(1)
        except FileExistsError:
            lost.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert [path.name for path in (tmp_path / "sessions").iterdir()] == ["0001.json"]


def test_an_unreadable_session_is_believed_for_a_lease_and_then_taken_over(tmp_path):
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / "0003.json").write_text("{")
    with claimed(tmp_path, LEASE):
        assert last_session(tmp_path)[0] == 4
        assert last_session(tmp_path)[1].machine == machine()
    assert len(sessions(tmp_path)) == 1


def test_a_folder_that_vanished_is_a_matter_of_the_disk(tmp_path):
    folder = tmp_path / "run"
    with claimed(folder, LEASE) as claim:
        folder.rename(tmp_path / "gone")
        with pytest.raises(DiskError, match="has vanished"):
            claim.check()
