"""A run's path and likeness belong to its spec: what trains, prices, checks and packs runs reads them there."""

import json
import math

import pytest
import torch

from testbed.config import load_config
from testbed.errors import ConfigError
from testbed.records import Component, Engine, as_json
from testbed.study import settle
from testbed.training.data import open_source
from testbed.training.store.cells import missing_cells
from testbed.training.store.ledger import Entry, Ledger
from testbed.training.sweep import plan, rungs
from testbed.training.train import Finished, Logged, train
from testbed.training.train.checkpoints.checkpoint import (
    Cursor,
    Unsound,
    read_checkpoint,
    save_checkpoint,
    save_weights,
)
from testbed.training.train.checkpoints.validity import cursor_fault
from tests.helpers.sweeps import fresh

CPU = torch.device("cpu")


def test_the_segments_are_the_path_that_training_takes(tiny_spec, tiny_source, tmp_path):
    spec = tiny_spec.model_copy(update={"engine": Engine(), "branch_evals": 3})
    events = list(train((spec,), tiny_source, (tmp_path,), CPU))
    logged = [event.evaluation for event in events if isinstance(event, Logged)]
    assert [e.key for e in logged] == [key for segment in spec.segments for key in segment.eval_keys]
    assert [e.step for e in logged if e.phase == "annealed"] == [h.steps for h in spec.horizons]
    (end,) = (event for event in events if isinstance(event, Finished))
    assert (end.steps, end.tokens) == (spec.steps, spec.steps * spec.batch_tokens)
    assert spec.steps == sum(segment.steps for segment in spec.segments)


def test_a_copy_with_other_horizons_has_another_path(tiny_spec):
    shorter = tiny_spec.model_copy(update={"horizons": tiny_spec.horizons[:1]})
    assert len(tiny_spec.segments) == 2 * len(tiny_spec.horizons)
    assert (len(shorter.segments), shorter.steps) == (2, tiny_spec.horizons[0].steps)
    assert shorter.kind != tiny_spec.kind
    assert shorter.step_kind == tiny_spec.step_kind


@pytest.mark.parametrize(
    ("change", "packable", "same_step", "same_plan"),
    [
        ({"init_seed": 5, "data_seed": 6}, True, True, False),
        ({"lr": 0.1, "lr_hidden": 0.2}, True, True, False),
        ({"role": "tune", "retry_of": "x", "cell": {"train.lr": 0.1}, "columns": {"a": 1}}, True, True, True),
        ({"engine": Engine(pack=7)}, False, False, True),
        ({"trunk_evals": (1, 2)}, False, True, False),
        ({"schedule": Component(name="cosine")}, False, True, False),
        ({"parts": (Component(name="prune"),)}, False, False, False),
        ({"weight_decay": 0.3}, False, False, False),
        ({"batch_tokens": 512}, False, False, False),
    ],
)
def test_runs_are_of_one_kind_that_differ_in_seeds_and_rates_only(tiny_spec, change, packable, same_step, same_plan):
    other = tiny_spec.model_copy(update=change)
    assert (other.kind == tiny_spec.kind) is packable
    assert (other.step_kind == tiny_spec.step_kind) is same_step
    assert (other.planned_id == tiny_spec.planned_id) is same_plan


@pytest.mark.parametrize("changes", [{"seq_len": 64}, {"vocab_size": 4096}, {"options": {"x": 1}}])
def test_the_pace_of_runs_says_nothing_of_another_shape(tiny_spec, changes):
    shape = tiny_spec.shape.model_copy(update=changes)
    other = tiny_spec.model_copy(update={"shape": shape})
    planned = {tiny_spec.run_id: 10.0, other.run_id: 10.0}
    begun = Entry(tiny_spec, "running", 1000, 1000, 1000.0)
    unlike, alike = (
        Ledger([begun, Entry(spec, "to do", 0, 0, 0.0)], planned).remaining.device_seconds
        for spec in (other, tiny_spec.model_copy(update={"init_seed": 9}))
    )
    assert unlike != alike


def test_every_evaluation_is_counted_when_its_step_is_reached(tiny_spec):
    spec = tiny_spec.model_copy(update={"branch_evals": 2})
    due, done = [], 0
    for segment in spec.segments:
        due += [done + step - segment.start for step in segment.eval_steps]
        done += segment.steps
    worth = spec.data.val_tokens / (3 * spec.batch_tokens)
    for reached in range(spec.steps + 1):
        entry = Entry(spec, "running", reached, reached, 0.0)
        assert entry.work == pytest.approx(reached + worth * sum(step <= reached for step in due))


def test_the_seeds_of_a_design_are_counted_where_every_horizon_is_a_run(tiny_toml):
    with pytest.raises(ConfigError, match="every cell of the grid has one seed"):
        settle(load_config(tiny_toml, ['train.schedule="cosine"', "grid.init_seeds=[0]"]))


def test_rungs_keep_every_horizon_where_each_is_a_run(tiny_toml):
    config = load_config(tiny_toml, ['train.schedule="cosine"'])
    source = open_source(config.data)
    made = plan(config, source.facts)
    assert [spec.run_id for spec in plan(config, source.facts, rungs(made.grid)).grid] == [s.run_id for s in made.grid]


def test_a_missing_cell_of_a_grid_with_axes_names_its_place_on_them(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep", "grid.vary.train.lr=[0.003, 0.006]", "grid.widths=[8]")
    failed = next(spec for spec in sweep.of_role("grid") if spec.cell["train.lr"] == 0.006)
    sweep.run(failed).path.mkdir(parents=True)
    sweep.run(failed).fail("the disk was full", "")
    missing = missing_cells(sweep)
    assert [(cell.run, cell.width, cell.tokens) for cell in missing] == [
        (failed.run_id, 8, horizon.tokens) for horizon in failed.horizons
    ]
    assert all(cell.cell == {"train.lr": 0.006} for cell in missing)
    assert {spec.designs for spec in sweep.of_role("grid") if spec.cell == failed.cell} == {failed.designs}
    assert len({spec.designs for spec in sweep.of_role("grid")}) == 2


STATE = {"weight": torch.arange(4.0)}
OLD = {  # as the first release wrote it
    "run_ids": "a b",
    "horizon": 1,
    "in_branch": True,
    "step": 40,
    "tokens": 10_240,
    "spent_steps": 50,
    "spent_tokens": 12_800,
    "spent_seconds": 1.25,
    "loss_count": 3,
    "looks": {"count": 2, "sums": [math.nan, math.inf], "above": [0, 128]},
    "diverged": {"0": "the training loss was not finite"},
    "rows": None,
}


def test_a_checkpoint_of_the_first_release_is_read(tmp_path):
    generator = {"generator/cpu": torch.get_rng_state()}
    save_weights(tmp_path / "old", STATE | generator, {"cursor": json.dumps(OLD)})
    cursor = read_checkpoint(tmp_path / "old", "a b").cursor
    assert (cursor.step, cursor.in_branch, cursor.diverged) == (40, True, OLD["diverged"])
    assert math.isnan(cursor.looks.sums[0])
    save_checkpoint(tmp_path / "new", STATE, cursor, tmp_path / "before")
    again = read_checkpoint(tmp_path / "new", "a b").cursor
    assert json.dumps(as_json(again)) == json.dumps(as_json(cursor))
    assert json.loads(again.model_dump_json()).keys() == OLD.keys()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"step": -1}, "step"),
        ({"step": True}, "step"),
        ({"step": 40.5}, "step"),
        ({"in_branch": 1}, "in_branch"),
        ({"spent_seconds": math.inf}, "spent_seconds"),
        ({"looks": {"count": "2", "sums": [], "above": []}}, "looks.count"),
        ({"diverged": {"0": 1}}, "diverged.0"),
        ({"rows": 0}, "rows"),
        ({"further": 1}, "further"),
    ],
)
def test_a_cursor_of_other_types_is_refused_by_name(tmp_path, change, field):
    save_weights(tmp_path / "file", STATE, {"cursor": json.dumps(OLD | change)})
    with pytest.raises(Unsound, match=rf"its cursor: {field}"):
        read_checkpoint(tmp_path / "file", "a b")


def test_every_place_on_the_path_is_sound_and_others_are_not(tiny_spec):
    batch, before = tiny_spec.batch_tokens, 0
    for place, segment in enumerate(tiny_spec.segments):
        for step in (segment.start, segment.end):
            spent = before + step
            cursor = Cursor(
                run_ids=tiny_spec.run_id,
                horizon=place // 2,
                in_branch=place % 2 == 1,
                step=step,
                tokens=step * batch,
                spent_steps=spent,
                spent_tokens=spent * batch,
            )
            assert cursor.segment(tiny_spec) == segment
            assert cursor_fault(cursor, (tiny_spec,)) is None
            for change in ({"step": step + 10**6}, {"spent_steps": spent + 1}, {"loss_count": step + 1}):
                assert cursor_fault(cursor.model_copy(update=change), (tiny_spec,)) is not None
        before += segment.steps if segment.branch else 0
    assert cursor_fault(Cursor(run_ids="", horizon=len(tiny_spec.horizons)), (tiny_spec,)) is not None
