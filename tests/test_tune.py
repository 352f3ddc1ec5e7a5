"""testbed tune from a configuration to its certificate: real runs of the tiny study."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from testbed.analysis.certificate.certificate import FILE, read_certificate
from testbed.analysis.report.certificate.certificate_sentences import (
    certificate_sentences,
    corners_table,
    verdict_sentence,
)
from testbed.cli.app import app
from testbed.config import load_config
from testbed.errors import ConfigError, FolderError, RunFailed, TestbedError
from testbed.records import RunSpec
from testbed.study import Study, settle
from testbed.study.tune import Brackets, Tuning, check
from testbed.study.tune.coordinate_run import widths
from testbed.training.sweep import Rung, packs, plan
from tests.helpers.command_line import command
from tests.helpers.sweeps import Quiet

pytestmark = pytest.mark.usefixtures("warm")

TOGETHER = ["train.pack=8", "execution.workers=1"]
FEW = Brackets(factors=(0.5, 0.71, 1.0, 1.41, 2.0), seeds=1)


@pytest.fixture(scope="module")
def study(tiny_toml, tmp_path_factory):
    """A study whose grid is trained."""
    made = Study.create(load_config(tiny_toml), tmp_path_factory.mktemp("tuned") / "tiny")
    made.train("grid", Quiet())
    return made


@pytest.fixture(scope="module")
def tuning(study, tiny_config):
    made = Tuning.create(tiny_config, study.folder.path.with_name("tiny-tune"), FEW)
    made.train(Quiet())
    return made


@pytest.fixture(scope="module")
def certificate(study, tuning):
    made = tuning.certificate(study)
    made.write(study.folder.path)
    return made


# --- the runs ---------------------------------------------------------------------------------


def test_brackets_differ_from_the_grids_runs_in_their_rates_alone(tiny_config, tiny_source):
    grid = {(s.shape.width, s.init_seed): s for s in plan(tiny_config, tiny_source.facts).grid}
    specs = Brackets().specs(tiny_config, tiny_source.facts)
    assert len(specs) == 2 * 7 * 2
    assert {spec.shape.width for spec in specs} == {8, 24}
    for spec in specs:
        own = grid[spec.shape.width, spec.init_seed]
        assert spec.lr / own.lr == pytest.approx(spec.lr_hidden / own.lr_hidden)
        assert spec.horizons == (own.horizons[0], own.horizons[-1])
        changed = {k for k, v in spec.model_dump().items() if v != own.model_dump()[k]}
        assert changed <= {"role", "lr", "lr_hidden", "horizons", "trunk_evals", "branch_evals", "engine"}
    assert len({spec.run_id for spec in specs}) == len(specs)


def test_brackets_of_a_chosen_design_are_those_of_its_own_rungs(tiny_toml, tiny_config, tiny_source, tmp_path):
    chosen = (Rung(8, (10_240, 20_480), 2), Rung(16, (10_240, 40_960), 1))
    specs = Brackets().specs(tiny_config, tiny_source.facts, chosen)
    found = {(s.shape.width, s.init_seed, tuple(h.tokens for h in s.horizons)) for s in specs}
    assert found == {(8, 0, (10_240, 20_480)), (8, 1, (10_240, 20_480)), (16, 0, (10_240, 40_960))}
    with pytest.raises(ConfigError, match=r"--widths: found 24, which is no width of the grid; accepted: 8, 16"):
        Brackets(widths=(24,)).specs(tiny_config, tiny_source.facts, chosen)
    budget = sum(spec.flops for spec in plan(tiny_config, tiny_source.facts).grid) * 8 // 5
    design = ('grid.design="optimal"', f"grid.budget={budget}", "grid.init_seeds=[0, 1, 2, 3]")
    config = load_config(tiny_toml, design)
    grid = settle(config)[1].grid
    made = Tuning.create(config, tmp_path / "tune", FEW)
    assert [spec.run_id for spec in made.plan.grid] == [spec.run_id for spec in grid]
    assert made.share == made.flops / sum(spec.flops for spec in grid)
    assert {s.horizons for s in made.folder.specs} <= {(s.horizons[0], s.horizons[-1]) for s in grid}


def test_the_rules_own_rate_gives_the_grids_losses(study, tuning):
    table = tuning.table()
    points = study.points()
    for row in table[table["factor"] == 1.0].itertuples():
        same = points[
            (points["width"] == row.width) & (points["init_seed"] == row.init_seed)
            & (points["phase"] == "annealed") & (points["horizon"] == row.tokens)
        ]  # fmt: skip
        assert row.loss == pytest.approx(same["loss"].item(), rel=1e-4)


@pytest.mark.slow
def test_what_is_done_is_not_done_again_and_what_lacks_is_added(tuning, tiny_config):
    def stamps():
        return {
            p: p.stat().st_mtime_ns for p in tuning.folder.path.rglob("*") if p.name in ("done.json", "evals.jsonl")
        }

    before, old = stamps(), tuning.folder.specs
    again = Tuning.create(tiny_config, tuning.folder.path, FEW)
    again.train(Quiet())
    assert stamps() == before
    assert again.folder.specs == old
    copy = tuning.folder.path.with_name("wider-tune")
    shutil.copytree(tuning.folder.path, copy)
    wider = Tuning.create(tiny_config, copy, Brackets(factors=(*FEW.factors, 4.0), seeds=1))
    assert wider.folder.specs[: len(old)] == old
    added = wider.folder.specs[len(old) :]
    assert [spec.lr for spec in added] == [pytest.approx(4 * tiny_config.train.lr)] * 2
    wider.train(Quiet())
    assert set(wider.table()["factor"]) == {0.5, 0.71, 1.0, 1.41, 2.0, 4.0}
    assert Tuning.create(tiny_config, copy, FEW).folder.specs == wider.folder.specs


@pytest.mark.slow
def test_a_rate_at_which_runs_diverge_is_data(tiny_toml, tmp_path):
    """A decay of more than twice the weights a step makes them grow without end, and does at high rates alone."""
    overrides = ["train.weight_decay=10.0", "grid.widths=[8, 16]", "grid.tokens=[10240, 61440]", *TOGETHER]
    config = load_config(tiny_toml, overrides)
    config = config.model_copy(update={"target": None})
    factors = (0.1, 0.25, 0.5, 1.0, 30.0)
    tuning = Tuning.create(config, tmp_path / "tune", Brackets(widths=(8,), factors=factors, seeds=1))
    tuning.train(Quiet())
    states = [tuning.folder.run(spec).state() for spec in tuning.folder.specs]
    assert states == ["done"] * 4 + ["failed"]
    assert tuning.folder.run(tuning.folder.specs[-1]).failure().diverged
    table = tuning.table()
    assert table[table["factor"] == 30]["loss"].isna().all()
    made = tuning.certificate(None)
    assert all(corner.losses[-1] is None for corner in made.corners)
    assert len(made.corners) == 2


def test_a_run_that_failed_otherwise_stops_the_tuning(tuning, tiny_config, tmp_path):
    copy = tmp_path / "tune"
    shutil.copytree(tuning.folder.path, copy)
    again = Tuning.create(tiny_config, copy, FEW)
    for pack in packs(again.folder.specs)[:1]:
        for spec in pack:
            run = again.folder.run(spec)
            (run.path / "done.json").unlink()
            run.fail("the disk was full", "trace")
    with pytest.raises(RunFailed, match=r"2 of 10 tune runs failed:\n.*the disk was full"):
        again.train(Quiet())


@pytest.mark.slow
def test_further_batches_are_bracketed_beside_the_own(tiny_toml, tmp_path):
    config = load_config(tiny_toml, TOGETHER)
    brackets = Brackets(widths=(8,), factors=FEW.factors, batches=(512, 256), seeds=1)
    tuning = Tuning.create(config, tmp_path / "tune", brackets)
    tuning.train(Quiet())
    made = tuning.certificate(None)
    assert [(c.batch_tokens, c.tokens) for c in made.corners] == [(b, d) for b in (256, 512) for d in (10_240, 40_960)]
    assert {corner.batch_tokens for corner in made.own_corners} == {256}
    sentences = " ".join(certificate_sentences(made, "tiny.toml"))
    assert re.search(r"the lowest loss by batch is 256: \d\.\d{4}, 512: \d\.\d{4}; the study's", sentences)


# --- the certificate --------------------------------------------------------------------------


def test_the_certificate_tells_of_every_part(certificate, tuning, tiny_config):
    assert [(c.width, c.tokens) for c in certificate.corners] == [(w, d) for w in (8, 24) for d in (10_240, 40_960)]
    assert certificate.brackets.runs == 10
    assert certificate.brackets.flops == sum(spec.flops for spec in tuning.folder.specs)
    assert certificate.transfer.widths == widths(tiny_config) == (8, 16, 24, 32)
    assert certificate.transfer.hidden_steady
    assert certificate.grid.collapse.rungs == 3
    assert certificate.grid.outliers.cells == 9
    if all(corner.status == "inside" for corner in certificate.corners):
        assert len(certificate.rungs) == 10
        assert {shift.law for shift in certificate.shifts} == {"hoffmann", "kaplan"}
    else:
        assert certificate.rungs == certificate.shifts == ()


def test_a_certificate_is_read_back_and_belongs_to_its_configuration(certificate, study, tmp_path):
    path, own = study.folder.path, study.folder.config.hash()
    assert read_certificate(path, own) == certificate
    assert read_certificate(tmp_path, own) is None
    with pytest.raises(FolderError, match="the certificate of another configuration"):
        read_certificate(path, "0" * 64)
    (tmp_path / FILE).write_text('{"study": 3}')
    with pytest.raises(FolderError, match=r"certificate\.json: not a certificate \(study:"):
        read_certificate(tmp_path, own)


def test_a_study_is_checked_without_brackets(study, certificate, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(study.folder.path, copy)
    (copy / FILE).unlink()
    made = check(Study.open(copy))
    assert made.corners == ()
    assert made.answer == "open"
    assert made.grid.collapse == certificate.grid.collapse
    assert made.grid.outliers == certificate.grid.outliers
    assert "No learning rate was bracketed" in certificate_sentences(made, "x")[0]
    again = check(study)
    assert again.corners == certificate.corners  # what was bracketed stays


def test_a_run_that_is_off_is_named_with_what_to_do(study, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(study.folder.path, copy)
    spoilt = Study.open(copy).grid[0]
    path = copy / "runs" / spoilt.run_id / "evals.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "loss": 3 * line["loss"]}) + "\n" for line in lines))
    found = check(Study.open(copy))
    assert spoilt.run_id in {outlier.run for outlier in found.grid.outliers.found}
    words = " ".join(certificate_sentences(found, str(copy)))
    assert f"{spoilt.run_id} (width 8 at" in words
    assert "another seed in place of grid.init_seeds = 0" in words


@pytest.mark.slow
def test_the_page_shows_the_certificate_and_is_true_without_one(study, certificate, tmp_path):
    page = study.report().read_text()
    assert "Are the learning rates right?" in page
    assert verdict_sentence(certificate) in page.replace("&#39;", "'")
    assert 'id="brackets"' in page
    assert (study.folder.path / "report" / "brackets.svg").read_text().startswith("<svg")
    for row in corners_table(certificate).rows:
        assert row[-2] in page
    copy = tmp_path / "copy"
    shutil.copytree(study.folder.path, copy)
    (copy / FILE).unlink()
    page = Study.open(copy).report().read_text()
    assert "Are the learning rates right?" not in page
    assert 'id="brackets"' not in page


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("brackets", "message"),
    [
        (Brackets(widths=(8, 40)), r"--widths: found 40, which is no width of the grid; accepted: 8, 16, 24"),
        (Brackets(factors=(0.5, 1, 2)), r"--factors: found 0\.5, 1, 2; give at least 5 different multiples"),
        (Brackets(factors=(1, 2, 3, 4, 5)), r"1 among them and some on either side of it"),
        (Brackets(factors=(0.5, 0.7, 0.9, 1.5, 2)), r"1 among them"),
        (Brackets(factors=(-1, 0.5, 1, 2, 3)), r"--factors: found -1; accepted: multiples of the rule's rate"),
        (Brackets(batches=(100,)), r"--batch: found 100; accepted: .* a multiple of data\.seq_len \(32\)"),
        (Brackets(seeds=0), r"--seeds: found 0"),
    ],
)
def test_brackets_that_do_not_fit_are_refused(brackets, message, tiny_config, tiny_source):
    with pytest.raises(ConfigError, match=message):
        brackets.specs(tiny_config, tiny_source.facts)


def test_the_folder_of_another_configuration_is_refused(tuning, study, tiny_toml, tiny_config):
    other = load_config(tiny_toml, ["train.lr=0.003"])
    with pytest.raises(
        FolderError, match=r"brackets of another configuration; it differs in train\.lr: 0\.006 -> 0\.003"
    ):
        Tuning.create(other, tuning.folder.path, FEW)
    with pytest.raises(FolderError, match="holds a sweep, no brackets"):
        Tuning.create(tiny_config, study.folder.path, FEW)


def test_brackets_of_other_tokens_are_refused(tuning, tiny_config, tmp_path):
    copy = tmp_path / "tune"
    shutil.copytree(tuning.folder.path, copy)
    plan_file = copy / "plan.json"
    plan = json.loads(plan_file.read_text().replace(tuning.source.facts.fingerprint, "f" * 64))
    plan["runs"] = {RunSpec.model_validate(run).run_id: run for run in plan["runs"].values()}
    plan_file.write_text(json.dumps(plan))
    with pytest.raises(FolderError, match="brackets trained on other tokens than synthetic:zipf now gives"):
        Tuning.create(tiny_config, copy, FEW)


def test_an_unfinished_grid_is_not_checked(tiny_config, tmp_path):
    with pytest.raises(FolderError, match="6 of 6 grid runs are not done"):
        check(Study.create(tiny_config, tmp_path / "fresh"))


# --- the command line -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command(study, tuning, certificate, tiny_toml, tmp_path):
    home = tmp_path / "tiny"
    shutil.copytree(study.folder.path, home)
    shutil.copytree(tuning.folder.path, tmp_path / "tiny-tune")
    end = command("tune", home, "--factors", "0.5,0.71,1,1.41,2", "--seeds", 1)
    assert end.returncode == 0, end.stderr
    words = " ".join(end.stdout.split())
    assert verdict_sentence(certificate) in words
    assert "Coordinate check, over 10 steps at widths 8, 16, 24, 32" in words
    assert str(home / FILE) in end.stdout.replace("\n", "")
    assert (tmp_path / "tiny-tune" / FILE).read_bytes() == (home / FILE).read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"tiny", "tiny-tune"}
    shown = CliRunner().invoke(app, ["tune", str(home), "--check", "--json"])
    assert len(json.loads(shown.stdout)["brackets"]["corners"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CONFIG", "--widths", "8,9"), "--widths: found 9"),
        (("CONFIG", "--factors", "1,x"), "--factors: found '1,x'; accepted: numbers with commas between them"),
        (("CONFIG", "--check"), "--check looks at a study's finished grid"),
        (("FOLDER", "--set", "train.lr=1"), "a study's configuration is settled"),
    ],
)
def test_the_command_refuses(arguments, message, study, tiny_toml, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"CONFIG": str(tiny_toml), "FOLDER": str(study.folder.path)}
    end = CliRunner().invoke(app, ["tune", *(places.get(argument, argument) for argument in arguments)])
    assert isinstance(end.exception, TestbedError)
    assert message in str(end.exception)
    assert not list(tmp_path.iterdir())
