"""No option is taken and thrown away: each applies to everything that its command takes, or is refused where it does not."""

from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from testbed.cli.app import app
from tests.helpers.finished import sweep_of
from tests.helpers.planted_sweep import planted_points
from tests.helpers.sweeps import TINY

# What changes the answer whatever the command is given; --json changes its form
ALWAYS = {
    "plan": "overrides power",
    "run": "overrides out device workers executor retry_failed without_failed",
    "train": "device workers executor retry_failed target",
    "predict": "",
    "data": "overrides",
    "validate": "strict",
    "report": "",
    "status": "every",
    "points": "out",
    "tune": "check",
    "fit": "best by law n d loss run column unit where with_target all_phases objective space replicates fix bootstrap level "
    "interval seed out",
    "frontier": "flops inference_tokens level",
    "solve": "loss params tokens at level",
    "plot": "out figure params tokens level",
    "compare": "best laws params tokens at n d loss run column unit where with_target all_phases delta level seed conventions",
    "backtest": "best law cuts n d loss run column unit where with_target all_phases delta level seed",
    "approaches": "best flops law n d loss run column unit where with_target all_phases bootstrap seed",
    "suggest": "target params tokens budget runs law level",
    "laws": "",
    "pack": "out checkpoints",
    "unpack": "out",
    "diff": "law level seed out",
    "export": "out",
}

# What applies to some inputs only: a command line with it for another input -> the message
REFUSED = {
    "plan CONFIG --noise .01": "--noise: is about the power of the grid; add --power",
    "plan CONFIG --truth hoffmann:A=1": "--truth: is about the power of the grid; add --power",
    "plan CONFIG --power --device cpu": "--device: --power simulates studies and trains nothing",
    "plan CONFIG --power --workers 2": "--workers: --power simulates",
    "plan CONFIG --power --no-calibrate": "--no-calibrate: --power simulates",
    "run NO_TARGET --strict": "--strict: .* has no [target], so there is no forecast to miss",
    "train FOLDER --set train.lr=99 --set nonsense.key=1": "--set: the configuration and the folder of .* are settled",
    "train FOLDER --out elsewhere": "--out: the configuration and the folder of",
    "predict FIT --without-failed --params 1M --tokens 1B": "--without-failed: .* is a fit; leaving out failed runs",
    "predict FOLDER --level .5": "--level: a study's forecast has the level and the seeds of its configuration",
    "predict FOLDER --seeds 2": "--seeds: a study's forecast has the level",
    "predict FOLDER --params 1M": "a study forecasts its own target",
    "predict FOLDER --tokens 1M": "a study forecasts its own target",
    "predict FOLDER --set flops=1M": "a study forecasts its own target",
    "predict FOLDER --at TABLE": "a study forecasts its own target",
    "data FOLDER --set data.seq_len=64": "--set: the configuration of .* is settled",
    "tune FOLDER --set train.lr=99": "a study's configuration is settled; --set is for a CONFIG",
    "tune FOLDER --check --widths 8": "--widths: --check trains nothing",
    "tune FOLDER --check --factors .5,1,2": "--factors: --check trains nothing",
    "tune FOLDER --check --batch 512": "--batch: --check trains nothing",
    "tune FOLDER --check --seeds 1": "--seeds: --check trains nothing",
    "tune FOLDER --check --out elsewhere": "--out: --check trains nothing",
    "tune FOLDER --check --device cpu": "--device: --check trains nothing",
    "tune FOLDER --check --workers 1": "--workers: --check trains nothing",
    "tune FOLDER --check --retry-failed": "--retry-failed: --check trains nothing",
    "fit TABLE --objective ls --delta .1": "--delta: --objective ls has no Huber width",
    "fit TABLE --share alpha": "--share: say what the groups are: --by COLUMN",
    "suggest CONFIG --n width": "--n, --d, --loss, --run and --where are for a TABLE",
    "suggest CONFIG --d tokens": "are for a TABLE",
    "suggest CONFIG --loss bpb": "are for a TABLE",
    "suggest CONFIG --run run": "are for a TABLE",
    "suggest CONFIG --where tokens>1": "are for a TABLE",
    "suggest CONFIG --delta .1": "--delta: .* has its own, forecast.delta",
    "suggest TABLE --target 1M,1B --set train.lr=1": "--set is for a CONFIG",
    "diff FIT FIT --n width": "--n: both inputs are fits",
    "diff FIT FIT --d tokens": "--d: both inputs are fits",
    "diff FIT FIT --loss bpb": "--loss: both inputs are fits",
    "diff FIT FIT --run run": "--run: both inputs are fits",
    "diff FIT FIT --bootstrap 7": "--bootstrap: both inputs are fits",
    "diff FIT TABLE --delta .1": "--delta: .* has its own, and the other is fitted alike",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    places = {"CONFIG": folder / "a.toml", "NO_TARGET": folder / "b.toml", "TABLE": folder / "runs.csv"}
    places["CONFIG"].write_text(TINY)
    places["NO_TARGET"].write_text(TINY.partition("[target]")[0])
    planted_points("hoffmann", 0.003).to_csv(places["TABLE"], index=False)
    places["FIT"] = folder / "FIT.json"
    end = CliRunner().invoke(app, ["fit", str(places["TABLE"]), "--bootstrap", "50", "-o", str(places["FIT"])])
    assert end.exit_code == 0, end.output
    sweep_of(TINY, folder / "sweep")
    return places | {"FOLDER": folder / "sweep"}


@pytest.mark.parametrize("line", REFUSED)
def test_an_option_that_does_not_apply_is_refused_before_anything_is_done(line, places, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = [str(places.get(word, word)) for word in line.split()]
    end = CliRunner().invoke(app, arguments)
    assert type(end.exception).__name__ == "ConfigError", end.output
    parts = [part.strip() for part in REFUSED[line].split(".*")]
    assert all(part in str(end.exception) for part in parts), str(end.exception)
    assert not list(tmp_path.iterdir())


def test_every_option_of_every_command_is_in_one_of_the_tables():
    refused = {line.split()[0]: set() for line in REFUSED}
    for line in REFUSED:
        refused[line.split()[0]] |= {word.lstrip("-").replace("-", "_") for word in line.split() if word[0] == "-"}
    for name, command in typer.main.get_command(app).commands.items():
        for option in command.params:
            spelt = {word.lstrip("-").replace("-", "_") for word in (*option.opts, *option.secondary_opts)}
            plain = option.param_type_name == "argument" or option.name in ("as_json", "help")
            assert plain or option.name in ALWAYS[name].split() or spelt & refused.get(name, set()), (name, option.name)
