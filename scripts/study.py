"""A whole scaling study in a few lines: python scripts/study.py CONFIG [FOLDER]. Copy it and make it your own."""

import sys
from pathlib import Path

import testbed


def main(config_path: str, folder: str | None = None) -> None:
    config = testbed.load_config(config_path)  # one TOML file; every mistake in it is told
    study = testbed.Study.create(config, Path(folder) if folder else None)  # every run is planned, none is started

    with testbed.progress(study, "grid") as watcher:
        study.train("grid", watcher)  # repeat the script after a kill and it goes on from its checkpoints
    points = study.points()  # a pandas table, one row a loss
    print(points[points["phase"] == "annealed"][["n_params_non_embedding", "tokens", "flops", "loss"]])

    for fit in study.fit().values():  # one fit a law
        print(fit.law.name, fit.theta)

    forecast = study.seal()  # from here on the forecast cannot be changed
    print(f"forecast {forecast.predicted:.4f} in [{forecast.interval.low:.4f}, {forecast.interval.high:.4f}]")

    with testbed.progress(study, "target") as watcher:
        study.train("target", watcher)  # refused before the seal exists
    verdict = study.judge()
    print(f"reached {verdict.observed:.4f}: {100 * verdict.error:+.2f} %, {'inside' if verdict.hit else 'OUTSIDE'}")
    print(study.report())  # one HTML page


if __name__ == "__main__":
    main(*sys.argv[1:])
