"""Checkpoints that were damaged or swapped: noticed, and gone on from the one before with the same losses."""

import shutil

import pytest
import torch

from testbed.errors import FolderError
from testbed.records import Eval
from testbed.training.train import Interruptions, Paused, Warned, train
from testbed.training.train.checkpoints.checkpoint import Unsound, read_checkpoint, read_weights
from tests.helpers.damage import empty, flip, truncate
from tests.helpers.single_runs import CPU, StopAfter, losses, pack_of, train_one, weights

TRUNK, BEFORE = "trunk.safetensors", "trunk.previous.safetensors"
BRANCH, BRANCH_BEFORE = "branch.safetensors", "branch.previous.safetensors"


@pytest.fixture(scope="module")
def undisturbed(tiny_spec, tiny_source, tmp_path_factory):
    """The folder and the losses of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, losses(train_one(tiny_spec, tiny_source, folder, CPU))


def stopped(spec, source, folder, steps, events=None):
    """A run stopped after so many steps of this start, with a checkpoint after each of the last; its events so far."""
    events = [] if events is None else events
    for interruptions in (Interruptions(StopAfter(steps - 2)), Interruptions(StopAfter(1), 0.0)):
        recorded = frozenset(e.key for e in events if isinstance(e, Eval))
        with pytest.raises(Paused):
            for event in train_one(spec, source, folder, CPU, recorded, interruptions):
                events.append(event)
    return events


def goes_on(spec, source, folder, events):
    """The run up to its end; the warnings of this start."""
    recorded = frozenset(e.key for e in events if isinstance(e, Eval))
    new = list(train_one(spec, source, folder, CPU, recorded))
    events += new
    return [event.message for event in new if isinstance(event, Warned)]


def same(spec, folder, events, undisturbed):
    assert losses(events) == undisturbed[1]
    assert (events[-1].steps, events[-1].tokens) == (spec.steps, spec.tokens)
    assert all(torch.equal(a, weights(undisturbed[0])[name]) for name, a in weights(folder).items())


def inside(spec, horizon):
    """Steps of a start that end in the middle of a branch, so that all four checkpoints are there."""
    before = sum(h.steps - h.branch_step for h in spec.horizons[:horizon])
    return before + (spec.horizons[horizon].branch_step + spec.horizons[horizon].steps) // 2


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_damaged_trunk_is_noticed_and_the_one_before_is_used(
    tiny_spec, tiny_source, tmp_path, undisturbed, damage, capsys
):
    events = stopped(tiny_spec, tiny_source, tmp_path, 20)
    damage(tmp_path / TRUNK)
    (warning,) = goes_on(tiny_spec, tiny_source, tmp_path, events)
    assert f"{tmp_path / TRUNK}: damaged (" in warning
    assert warning.endswith(f"; resuming from {BEFORE}, step 20")
    same(tiny_spec, tmp_path, events, undisturbed)


def test_the_ones_before_are_kept_and_dropped_at_the_end_of_their_branch(tiny_spec, tiny_source, tmp_path):
    events = stopped(tiny_spec, tiny_source, tmp_path, inside(tiny_spec, 1))
    steps = {path.name: read_checkpoint(path, tiny_spec.run_id).cursor.step for path in tmp_path.glob("*.safetensors")}
    branch = tiny_spec.horizons[1]
    assert steps.keys() == {TRUNK, BEFORE, BRANCH, BRANCH_BEFORE}
    assert steps[BEFORE] <= steps[TRUNK] == branch.branch_step < steps[BRANCH_BEFORE] == steps[BRANCH] - 1
    assert not any(isinstance(event, Warned) for event in events)
    stopped(tiny_spec, tiny_source, tmp_path, branch.steps - steps[BRANCH] + 3, events)
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {TRUNK, BEFORE}


@pytest.mark.parametrize(
    ("broken", "used"),
    [
        ((BRANCH,), [BRANCH_BEFORE]),
        ((BRANCH, BRANCH_BEFORE), [TRUNK]),
        ((BRANCH, BRANCH_BEFORE, TRUNK), [BEFORE]),
        ((TRUNK,), [BEFORE]),  # at the end of the branch
        ((TRUNK, BEFORE), ["starting over"]),  # likewise
        ((BRANCH, TRUNK), [BRANCH_BEFORE, BEFORE]),
        ((BRANCH, BRANCH_BEFORE, TRUNK, BEFORE), ["starting over"]),
    ],
)
@pytest.mark.slow
def test_whatever_is_damaged_inside_a_branch_the_losses_are_the_same(
    tiny_spec, tiny_source, tmp_path, undisturbed, broken, used
):
    events = stopped(tiny_spec, tiny_source, tmp_path, inside(tiny_spec, 1))
    for name in broken:
        flip(tmp_path / name)
    warned = goes_on(tiny_spec, tiny_source, tmp_path, events)
    assert len(warned) == len(broken)
    assert all(any(str(tmp_path / name) in warning for warning in warned) for name in broken)
    assert all(any(f"resuming from {name}" in w or name in w for w in warned) for name in used)
    same(tiny_spec, tmp_path, events, undisturbed)


@pytest.mark.slow
def test_a_trunk_that_is_trained_again_can_be_stopped_too(tiny_spec, tiny_source, tmp_path, undisturbed):
    events = stopped(tiny_spec, tiny_source, tmp_path, inside(tiny_spec, 1))
    flip(tmp_path / TRUNK)
    flip(tmp_path / BEFORE)
    branch = tiny_spec.horizons[1]
    stopped(tiny_spec, tiny_source, tmp_path, (branch.steps - branch.branch_step) // 2 + 20, events)
    assert read_checkpoint(tmp_path / TRUNK, tiny_spec.run_id).cursor.step < tiny_spec.horizons[0].branch_step
    assert goes_on(tiny_spec, tiny_source, tmp_path, events) == []
    same(tiny_spec, tmp_path, events, undisturbed)


def test_a_trunk_that_is_damaged_in_the_last_branch_is_not_missed(tiny_spec, tiny_source, tmp_path, undisturbed):
    events = stopped(tiny_spec, tiny_source, tmp_path, inside(tiny_spec, 2))
    flip(tmp_path / TRUNK)
    flip(tmp_path / BEFORE)
    goes_on(tiny_spec, tiny_source, tmp_path, events)
    same(tiny_spec, tmp_path, events, undisturbed)


def test_one_flipped_bit_anywhere_is_noticed(tiny_spec, tiny_source, tmp_path):
    stopped(tiny_spec, tiny_source, tmp_path, 3)
    path = tmp_path / TRUNK
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    places = [*range(0, 400, 7), *torch.randint(0, len(whole), (150,), generator=generator).tolist()]
    for place in places:
        flip(path, place)
        with pytest.raises(Unsound):
            read_checkpoint(path, tiny_spec.run_id)
        path.write_bytes(whole)
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(Unsound):
            read_checkpoint(path, tiny_spec.run_id)
    path.write_bytes(whole)
    assert read_checkpoint(path, tiny_spec.run_id).cursor.step == 4


def test_a_foreign_checkpoint_is_not_gone_on_from(tiny_spec, tiny_source, tmp_path, undisturbed):
    other = tiny_spec.model_copy(update={"init_seed": 9})
    stopped(other, tiny_source, tmp_path / "other", 50)
    mine = tmp_path / "mine"
    events = stopped(tiny_spec, tiny_source, mine, 20)
    shutil.copy(tmp_path / "other" / TRUNK, mine / TRUNK)
    (warning,) = goes_on(tiny_spec, tiny_source, mine, events)
    assert f"a checkpoint of {other.run_id}, not of {tiny_spec.run_id}; resuming from {BEFORE}" in warning
    same(tiny_spec, mine, events, undisturbed)


def test_an_old_checkpoint_of_the_run_itself_does_no_harm(tiny_spec, tiny_source, tmp_path, undisturbed):
    """A branch of the first horizon, copied back while the run is in the third."""
    events = stopped(tiny_spec, tiny_source, tmp_path, inside(tiny_spec, 0))
    shutil.copy(tmp_path / BRANCH, tmp_path / "copy")
    stopped(tiny_spec, tiny_source, tmp_path, inside(tiny_spec, 1), events)
    shutil.copy(tmp_path / "copy", tmp_path / BRANCH)
    assert goes_on(tiny_spec, tiny_source, tmp_path, events) == []
    same(tiny_spec, tmp_path, events, undisturbed)


@pytest.mark.slow
def test_a_packs_checkpoint_that_is_damaged(tiny_spec, tiny_source, tmp_path):
    specs = pack_of(tiny_spec, 2)

    def table(name, *starts):
        folders = tuple(tmp_path / name / str(run) for run in range(2))
        found = [{}, {}]
        for interruptions, prepare in (*starts, (Interruptions(), lambda folder: None)):
            prepare(folders[0])
            try:
                recorded = tuple(frozenset(f) for f in found)
                for event in train(specs, tiny_source, folders, CPU, recorded, interruptions):
                    if hasattr(event, "evaluation"):
                        e = event.evaluation
                        assert e.key not in found[event.run]
                        found[event.run][e.key] = e.model_dump(exclude={"seconds"})
                    elif isinstance(event, Warned):
                        warned.append(event.message)
            except Paused:
                pass
        return found

    warned = []
    expected = table("a")
    often = [Interruptions(StopAfter(steps), 0.0) for steps in (40, 150)]
    nothing = [lambda folder: None, lambda folder: truncate(folder / TRUNK)]
    assert table("b", *zip(often, nothing, strict=True)) == expected
    assert len(warned) == 1


def test_weights_can_be_checked_by_who_reads_them(undisturbed, tiny_spec, tmp_path):
    folder, _ = undisturbed
    found = read_weights(folder / "weights.safetensors", tiny_spec.run_id)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(folder).items())
    with pytest.raises(FolderError, match=r"weights of w0008.* not of other"):
        read_weights(folder / "weights.safetensors", "other")
    with pytest.raises(FolderError, match="no weights, which a run leaves at its end"):
        read_weights(tmp_path / "weights.safetensors", tiny_spec.run_id)
    shutil.copy(folder / "weights.safetensors", tmp_path)
    flip(tmp_path / "weights.safetensors")
    with pytest.raises(FolderError, match="does not fit its digest"):
        read_weights(tmp_path / "weights.safetensors", tiny_spec.run_id)
