"""Writing a study's page; the packages that draw it are imported only then."""

from __future__ import annotations

from pathlib import Path

from testbed.analysis.report.study.contents import Contents
from testbed.errors import TestbedError


def write_page(folder: Path, contents: Contents) -> Path:
    """Write index.html and its figures into `folder`, and return the page's path.

    Raises:
        TestbedError: A package that draws is not installed; a machine that only trains needs none of them.
    """
    try:
        from testbed.analysis.report.study.study_page import render
    except ModuleNotFoundError as error:
        raise TestbedError(
            f"{folder}: the page needs the package {error.name}, which is not installed here; install the dependencies that "
            f"pyproject.toml lists, or copy the study's folder to a machine that has them, and run testbed report "
            f"{folder.parent}; the runs, the forecast and points.csv are complete without the page"
        ) from error
    return render(folder, contents)
