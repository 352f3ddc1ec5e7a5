import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from testbed.config import load_config
from testbed.errors import BudgetReached, ConfigError
from testbed.records import RunSpec
from testbed.study import Study
from testbed.study.costs import estimate_costs
from testbed.training.executors import LocalExecutor, settle_packs
from testbed.training.executors.budget_guard import BudgetGuard
from testbed.training.store.ledger import Entry, Ledger, Spend
from testbed.training.store.spending import affordable, excess
from testbed.training.sweep import packs, plan
from tests.helpers.sweeps import LONG, SLOW, Quiet, fresh, processes_of, table, wait_for

pytestmark = pytest.mark.usefixtures("warm")


def begin(tiny_toml, path, *overrides):
    return Study(fresh(tiny_toml, path, *overrides))


@pytest.fixture(scope="module")
def grid(tiny_config, tiny_source) -> tuple[RunSpec, ...]:
    return settle_packs(plan(tiny_config, tiny_source.facts), tiny_config.train).grid


def untouched(specs, seconds=None):
    return Ledger([Entry(spec, "to do", 0, 0, 0.0) for spec in specs], seconds)


def test_a_budget_is_no_part_of_what_decides_a_result(tiny_toml, tiny_config):
    assert load_config(tiny_toml, ['budget.flops="1e9"']).hash() == tiny_config.hash()
    with pytest.raises(ConfigError, match="give at least one of flops, tokens and device_minutes"):
        load_config(tiny_toml, ["budget={}"])


def test_the_budget_buys_what_is_begun_and_then_the_cheapest(tiny_toml, grid):
    every = packs(grid)
    whole = sum(spec.flops for spec in grid)
    budget = load_config(tiny_toml, [f"budget.flops={whole - 1}"]).budget
    paid, unpaid = affordable(untouched(grid), budget, every)
    assert {spec.shape.width for pack in unpaid for spec in pack} == {24}
    assert {spec.shape.width for pack in paid for spec in pack} == {8, 16}
    largest = [spec for spec in grid if spec.shape.width == 24]
    begun = Ledger([Entry(s, "paused", 1, 1, 0.1) if s in largest else Entry(s, "to do", 0, 0, 0.0) for s in grid])
    paid, unpaid = affordable(begun, budget, every)
    assert {spec.shape.width for pack in unpaid for spec in pack} == {16}
    assert affordable(untouched(grid), None, every) == (list(every), [])


def test_each_kind_of_budget_counts(tiny_toml):
    for kind, spend in (("flops", Spend(flops=101)), ("tokens", Spend(tokens=101))):
        budget = load_config(tiny_toml, [f"budget.{kind}=100"]).budget
        assert excess(spend, budget)
        assert not excess(Spend(100, 100, 1e9), budget)
    budget = load_config(tiny_toml, ["budget.device_minutes=2"]).budget
    assert excess(Spend(device_seconds=120.1), budget)
    assert not excess(Spend(10**20, 10**20, 119.9), budget)


@pytest.mark.slow
def test_a_sweep_stops_at_its_budget_says_what_is_missing_and_goes_on_when_it_is_raised(
    tiny_toml, tmp_path, long_undisturbed
):
    study = begin(tiny_toml, tmp_path / "sweep", *LONG)
    small = [spec for spec in study.grid if spec.shape.width == 8]
    enough = sum(spec.flops for spec in small)
    limited = begin(tiny_toml, tmp_path / "sweep", *LONG, f"budget.flops={enough}")
    with pytest.raises(
        BudgetReached, match=r"Missing: grid width 16: 2 runs \(.* FLOPs, about .* of a device\)"
    ) as told:
        limited.train("grid", Quiet())
    assert "[budget]" in str(told.value)
    assert told.value.exit_code == 4
    assert Ledger.of(limited.folder).spent.flops == enough
    assert {limited.folder.run(spec).state() for spec in limited.grid if spec not in small} == {"to do"}
    raised = begin(tiny_toml, tmp_path / "sweep", *LONG, 'budget.flops="1e15"')
    raised.train("grid", Quiet())
    assert table(raised.folder).equals(long_undisturbed)


@pytest.mark.slow
def test_what_costs_more_than_was_reckoned_is_stopped_with_a_checkpoint(tiny_toml, tmp_path, long_undisturbed):
    study = begin(tiny_toml, tmp_path / "sweep", *LONG, "execution.lease_seconds=1.0")
    study.folder.keep_timetable({spec.run_id: 1e-3 for spec in study.folder.specs})
    settings = [*LONG, "execution.lease_seconds=1.0", "execution.workers=1", "budget.device_minutes=0.008"]
    limited = begin(tiny_toml, tmp_path / "sweep", *settings)
    with pytest.raises(BudgetReached, match=r"of 0\.008 device minutes spent"):
        limited.train("grid", Quiet())
    ledger = Ledger.of(limited.folder)
    assert 0.48 < ledger.spent.device_seconds < 20, "it noticed within some beats"
    assert any(entry.state == "paused" and entry.reached for entry in ledger.entries)
    freed = begin(tiny_toml, tmp_path / "sweep", *LONG)
    freed.train("grid", Quiet())
    assert table(freed.folder).equals(long_undisturbed)


def test_a_running_worker_sees_that_the_budget_was_raised_or_lowered(tiny_toml, tmp_path):
    path = tmp_path / "sweep"
    limited = begin(tiny_toml, path, "budget.tokens=1000")
    with limited.folder.run(limited.grid[0]).claimed(60.0) as claim:
        claim.renew(10, 10, 1.0, 0.0)  # 10 steps of 256 tokens
        guard = BudgetGuard(limited.folder)
        guard.refresh()
        assert guard.exhausted
        for settings, exhausted in ((["budget.tokens=3000"], False), (["budget.tokens=2000"], True), ([], False)):
            begin(tiny_toml, path, *settings)

            def seen(exhausted=exhausted):
                guard.refresh()
                return guard.exhausted is exhausted

            wait_for(seen, seconds=30)


@pytest.mark.slow
def test_steps_lost_with_a_killed_worker_are_paid_for_twice(tiny_toml, tmp_path, slow):
    slow.write_text("0.5")
    settings = [SLOW, "grid.widths=[16]", "execution.lease_seconds=1.0", "execution.checkpoint_seconds=1000.0"]
    study = begin(tiny_toml, tmp_path / "sweep", *LONG, *settings)

    def kill():
        wait_for(lambda: any(e.steps > 100 for e in Ledger.of(study.folder).entries))
        os.kill(processes_of(study.folder)[0], signal.SIGKILL)
        slow.unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    (pack,) = packs(study.grid)
    LocalExecutor("cpu", 1).run(study.folder, [pack], Quiet())
    killer.join()
    for spec in pack:
        entry = Ledger.of(study.folder, [spec]).entries[0]
        assert entry.state == "done"
        assert entry.steps > spec.steps
        assert len(study.folder.run(spec).sessions()) == 2


@pytest.mark.slow
def test_the_plan_says_what_fits(tiny_toml):
    made = estimate_costs(load_config(tiny_toml, ['budget.tokens="200k"']))
    fits, beyond = made.budget_sentences()
    assert fits.startswith("budget: 4 of 8 runs fit, for ")
    assert "of 200k tokens" in fits
    assert beyond.startswith("beyond the budget: grid width 24: 2 runs")
    assert "target width 32: 2 runs" in beyond


def test_the_time_that_is_left_follows_what_was_measured(grid):
    """Two kinds at a tenth of their way, one three times as slow as reckoned: the third is taken to be slower too."""
    reckoned = {spec.run_id: spec.steps * spec.shape.width * 1e-4 for spec in grid}
    entries = []
    for spec in grid:
        begun = spec.shape.width < 24
        steps = spec.steps // 10 if begun else 0
        pace = spec.shape.width * 3e-4
        entries.append(Entry(spec, "running" if begun else "to do", steps, steps, steps * pace))
    left = Ledger(entries, reckoned).seconds_left(3)
    true = max(
        sum(0.9 * s.steps * s.shape.width * 3e-4 for s in grid if s.shape.width == 16),
        sum(s.steps * s.shape.width * 3e-4 for s in grid if s.shape.width == 24),
    )
    assert left == pytest.approx(true, rel=0.05)


def test_status_tells_what_is_spent_left_and_beyond_the_budget(tiny_toml, tmp_path):
    study = begin(tiny_toml, tmp_path / "sweep", "budget.flops=2_000_000_000")
    command = [sys.executable, "-m", "testbed", "status", str(study.folder.path)]
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    facts = json.loads(told.stdout)
    assert facts["spent"] == {"flops": 0, "tokens": 0, "device_seconds": 0.0}
    assert facts["remaining"]["flops"] == sum(spec.flops for spec in study.folder.specs)
    assert set(facts["beyond_budget"]) < {spec.run_id for spec in study.folder.specs}
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "budget: 0 of 2B FLOPs" in text
    assert "beyond the budget: " in text


def test_the_commands_exit_code_says_that_the_budget_was_reached(tiny_toml, tmp_path):
    command = [sys.executable, "-m", "testbed", "run", str(tiny_toml), "--out", str(tmp_path / "sweep")]
    ended = subprocess.run(
        [*command, "--set", "budget.tokens=1000"], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 4
    assert "stopped at the budget, 0 of 1k tokens spent" in ended.stderr
    assert "Traceback" not in ended.stderr
