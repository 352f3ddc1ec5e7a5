"""What `import testbed` offers, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import testbed

NAMES = [name for name in testbed.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_is_found(name):
    if name == "ScalingLawRegressor":
        pytest.importorskip("sklearn")
    found = getattr(testbed, name)
    assert getattr(found, "__name__", name) == name
    assert name in dir(testbed)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'testbed' has no attribute 'fit_laws'"):
        testbed.fit_laws  # noqa: B018


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(testbed.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert sorted(alias.name for node in block.body for alias in node.names) == sorted(testbed.__all__)


def test_importing_testbed_is_cheap():
    code = """
import sys, time
start = time.process_time()
import testbed
assert time.process_time() - start < 0.1
assert not {"torch", "pandas", "numpy", "pydantic", "rich", "typer"} & sys.modules.keys()
"""
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert end.returncode == 0, end.stderr


def test_help_loads_no_tables_and_no_networks():
    code = """
import sys
from testbed.cli.app import app
app(["--help"], standalone_mode=False)
app(["fit", "--help"], standalone_mode=False)
print(*{"torch", "pandas", "numpy", "jinja2", "altair", "rich.markdown"} & sys.modules.keys(), file=sys.stderr)
"""
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert end.stderr.strip() == ""
