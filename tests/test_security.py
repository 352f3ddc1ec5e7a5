"""What is never done: no code of others is run, no shell is asked, nothing is unpickled, no page loads or runs what it shows."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.laws import find_law
from testbed.analysis.report.fit.fit_figures import save_figures
from testbed.analysis.report.study.contents import Contents
from testbed.analysis.report.study.study_page import render
from testbed.config import load_config
from testbed.errors import ConfigError, TestbedError
from testbed.records import Provenance
from testbed.registry import CONSENT, allow_code, find_class
from testbed.study import Study
from testbed.training.models import find_family
from testbed.training.store import SweepFolder
from testbed.training.sweep import plan
from tests.helpers.hostile import limited_command, refusal, snapshot
from tests.helpers.planted_sweep import planted_points
from tests.helpers.sweeps import TINY

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("testbed/**/*.py"), *ROOT.glob("scripts/**/*.py")])
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN = {
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "torch.load", "pd.read_pickle"),
    *("yaml.load", "tempfile.mktemp", "pd.eval", "code.interact", "runpy.run_path", "runpy.run_module"),
}
MAY_IMPORT = {
    "testbed/registry.py",
    "testbed/__init__.py",
    "testbed/study/__init__.py",
}  # what users name, our own names
MAY_IMPORT |= {"scripts/api_pages.py", "scripts/gpu_check.py"}  # modules of tables that stand in them


def faults(path: Path, source: str) -> list[str]:
    """Every place of a file that breaks a rule."""
    name = path.relative_to(ROOT).as_posix() if path.is_absolute() else str(path)
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if UNPICKLERS & {module.split(".")[0] for module in modules}:
                found.append(f"{name}:{node.lineno} imports {modules}")
        if isinstance(node, ast.Call):
            fault = call_fault(node, ast.unparse(node.func), name)
            if fault:
                found.append(f"{name}:{node.lineno} {fault}")
    return found


def call_fault(node: ast.Call, called: str, name: str) -> str:
    words = {word.arg: ast.unparse(word.value) for word in node.keywords}
    last = called.rsplit(".", 1)[-1]
    if called in FORBIDDEN or called in RUNNERS or last in ("extractall", "read_pickle", "to_pickle"):
        return f"calls {called}"
    if last == "import_module" and name not in MAY_IMPORT:
        return "imports by name"
    if words.get("shell", "False") != "False" or words.get("trust_remote_code", "False") != "False":
        return f"asks {called} for a shell or for remote code"
    if words.get("allow_pickle", "False") != "False" or (
        called in ("np.load", "np.save") and "allow_pickle" not in words
    ):
        return f"{called} that may pickle"
    if last in ("eval", "query") and node.args and not isinstance(node.args[0], ast.Constant):
        return f"{called} of a text that is made"
    if called == "Markup" and "mathml(" not in ast.unparse(node.args[0]):
        return "marks a text as safe"
    return ""


def test_no_source_of_ours_breaks_a_rule():
    assert len(SOURCES) > 150
    assert [fault for path in SOURCES for fault in faults(path, path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from joblib import load", "eval('1')", "exec(x)", "os.system('ls')", "torch.load(p)"),
        *("subprocess.run(x, shell=True)", "subprocess.Popen('a', shell=flag)", "importlib.import_module(name)"),
        *("AutoModel.from_pretrained(x, trust_remote_code=True)", "np.load(p, allow_pickle=True)", "np.load(p)"),
        *("df.query(text)", "Markup(name)", "z.extractall(p)"),
    ],
)
def test_the_rules_see_what_they_forbid(source):
    assert faults(Path("testbed/x.py"), source)


def test_templates_escape_everything_but_our_own_scripts():
    templates = list(ROOT.glob("testbed/analysis/report/**/*.j2"))
    assert len(templates) >= 5
    for template in templates:
        for expression in re.findall(r"\{\{(.*?)\}\}", template.read_text()):
            assert "safe" not in expression or expression.strip() in ("library | safe", "specifications | safe"), (
                template
            )
        assert "autoescape" not in template.read_text()


# --- code of others ---------------------------------------------------------------------------

MODULE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from testbed.training.data.synthetic import ZipfSource as Source
from testbed.analysis.laws import LAWS
Law = type("Law", (type(LAWS["hoffmann"]),), {"name": "theirs"})
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A module that leaves a file where it is imported; it can be found, and nobody has agreed to it."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "their_module_x.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(work))
    monkeypatch.setenv(CONSENT, "")
    yield work
    sys.modules.pop("their_module_x", None)


def fit_document():
    points = planted_points("hoffmann", 0.01).rename(columns={"n_params_non_embedding": "n"})
    return fit_law("hoffmann", points[["n", "tokens", "loss"]], n_boot=0).to_dict()


@pytest.mark.slow
def test_a_fit_of_somebody_else_imports_nothing_until_one_agrees(theirs):
    document = {**fit_document(), "law": "their_module_x:Law"}
    (theirs / "F.json").write_text(json.dumps(document))
    with pytest.raises(
        ConfigError, match=r"F\.json: law: found 'their_module_x:Law', code that you have not agreed to run"
    ):
        Fit.from_dict(document, str(theirs / "F.json"))
    arguments = ("predict", theirs / "F.json", "--params", "1e6", "--tokens", "1e7")
    assert "testbed --allow-code their_module_x" in refusal(limited_command(*arguments, cwd=theirs))
    assert not (theirs / "ran").exists()
    end = limited_command("--allow-code", "their_module_x", *arguments, cwd=theirs)
    assert end.returncode == 0, end.stderr
    assert (theirs / "ran").exists()


@pytest.mark.slow
def test_a_folder_of_somebody_else_imports_nothing_until_one_agrees(theirs, tiny_source):
    path = theirs / "c.toml"
    path.write_text(TINY.replace("[forecast]", '[forecast]\nlaws = ["their_module_x:Law"]'))
    settled = load_config(path)
    folder = SweepFolder.create(theirs / "sweep", settled, plan(settled, tiny_source.facts).runs).path
    for run in Study.open(folder).grid:
        (folder / "runs" / run.run_id).mkdir(parents=True)
        (folder / "runs" / run.run_id / "done.json").write_text(
            json.dumps({"finished": "", "steps": 1, "tokens": 1, "flops": 1, "seconds": 1})
        )
        lines = [
            {
                "phase": "annealed",
                "horizon": h.tokens,
                "step": h.steps,
                "tokens": h.tokens,
                "flops": 1,
                "loss": 3 - h.steps / 1000,
            }
            | {"bpb": None, "train_loss": None, "lr": 0.1, "seconds": 1}
            for h in run.horizons
        ]
        (folder / "runs" / run.run_id / "evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.environ[CONSENT] = ""  # load_config has agreed to the user's own; the fixture puts it back
    assert len(Study.open(folder).points())  # which needs no law
    with pytest.raises(ConfigError, match="not agreed to run"):
        Study.open(folder).fit()
    with pytest.raises(ConfigError, match="not agreed to run"):
        Study.open(folder).report()
    assert not (theirs / "ran").exists()


def test_what_users_name_themselves_is_imported(theirs):
    end = limited_command("laws", "their_module_x:Law", cwd=theirs)
    assert end.returncode == 0, end.stderr
    path = theirs / "c.toml"
    path.write_text(TINY.replace("[forecast]", '[forecast]\nlaws = ["their_module_x:Law"]'))
    load_config(path)
    assert find_law("their_module_x:Law").name == "theirs"


GADGETS = (
    *(
        "os:abort",
        "os:_exit",
        "builtins:exit",
        "builtins:exec",
        "subprocess:Popen",
        "tempfile:TemporaryDirectory",
        "sys:exit",
    ),
    *(
        "json.decoder:JSONDecoder",
        "os.path:join",
        "testbed.cli.app:main",
        "pathlib:Path",
        "testbed.analysis.laws.law:Law",
    ),
    *(".a:b", ":x", "a b:c", "os:", "os:a.b", "os;x:y", "__main__:x", "os:__class__", "none.of.these:X"),
)


@pytest.mark.parametrize("name", GADGETS)
def test_names_of_anything_but_such_a_class_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONSENT, "os,builtins,subprocess,tempfile,sys,pathlib,none")
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError):
        find_law(name)
    with pytest.raises(ConfigError):
        find_family(name)
    with pytest.raises(ConfigError):
        find_class(name, "data.source", ("rows", "validation"))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["", "a b", "a;b", "../x", "a-b", "1a"])
def test_consent_is_to_modules(name):
    with pytest.raises(ConfigError, match="--allow-code: found"):
        allow_code(name)


@pytest.mark.parametrize(
    "options",
    [
        {"attn_implementation": "somebody/kernel"},
        {"_attn_implementation": "somebody/kernel"},
        {"auto_map": "x"},
        {"model_type": "gpt2"},
        {"architectures": "X"},
        {"_name_or_path": "somebody/model"},
        {"hidden_act": "__import__"},
        {"trust_remote_code": True},
    ],
    ids=str,
)
def test_options_of_transformers_models_bring_no_code(options, tmp_path, tiny_source):
    changes = [f"model.options={{ {', '.join(f'{k} = {json.dumps(v)}' for k, v in options.items())} }}"]
    path = tmp_path / "c.toml"
    path.write_text(TINY)
    config = load_config(path, [*changes, "model.family=hf:llama", "train.pack=none"])
    with pytest.raises(ConfigError, match=r"model\.options"):
        plan(config, tiny_source.facts)


# --- pages ------------------------------------------------------------------------------------

EVIL = "</script><script>alert(1337)</script><!--<script><img src=x onerror=alert(1337)>\"'`${7*7}{{7*7}}"


class Page(HTMLParser):
    """The elements of a page, their attributes, and what its scripts and its text hold."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in_script = False
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data


def check_page(path):
    page = Page(path)
    assert len(page.scripts) == 2
    assert not {"img", "iframe", "object", "embed", "link", "form", "base"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "action", "srcdoc")], tag
        link = attributes.get("href") or ""
        assert "//" not in link
        assert ":" not in link
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "<" not in page.scripts[1].split("const figures = ")[1].split("\n")[0]
    return page, json.loads(page.scripts[1].split("const figures = ")[1].split(";\n")[0])


@pytest.mark.slow
def test_the_page_of_a_fit_shows_hostile_columns_as_text(tmp_path):
    table = planted_points("hoffmann", 0.01).rename(columns={"n_params_non_embedding": EVIL, "loss": "lo<b>ss"})
    table["run"] = [f"{EVIL}{i}" for i in range(len(table))]
    fit = fit_law("hoffmann", table, columns={"n": EVIL, "loss": "lo<b>ss"}, n_boot=30)
    save_figures(fit, tmp_path / "fit.html")
    page, specifications = check_page(tmp_path / "fit.html")
    assert EVIL in page.text
    assert "lo<b>ss" in page.text
    assert specifications


def test_the_page_of_a_study_shows_hostile_records_as_text(tmp_path, tiny_config, tiny_source, sealed_forecast):
    specs = plan(tiny_config, tiny_source.facts).runs
    points = planted_points("hoffmann", 0.01).assign(
        family=EVIL,
        width=8,
        horizon=1e5,
        branch_step=8,
        step=9,
        bpb=1.0,
        lr=0.1,
        run=EVIL,
        flops_6nd=1.0,
        tokens_per_param=1.0,
    )
    provenance = Provenance(
        started=EVIL, versions={EVIL: EVIL}, python=EVIL, platform=EVIL, device=EVIL, cpu_capability=EVIL, threads=1,
        deterministic=True, commit=EVIL, data_fingerprint=EVIL,
    )  # fmt: skip
    data = specs[0].data.model_copy(update={"source": EVIL, "tokenizer": EVIL, "fingerprint": EVIL})
    shape = specs[0].shape.model_copy(update={"family": EVIL})
    hostile = tuple(spec.model_copy(update={"data": data, "shape": shape}) for spec in specs)
    law = sealed_forecast.laws[0].model_copy(update={"law": EVIL})
    contents = Contents(
        name=EVIL,
        config_toml=EVIL,
        config_hash=EVIL,
        specs=hostile,
        states=dict.fromkeys((spec.run_id for spec in hostile), "done"),
        failures={EVIL: EVIL},
        warnings=(EVIL,),
        points=points,
        fits={},
        n_column="n_params_non_embedding",
        forecast=sealed_forecast.model_copy(
            update={"rule": EVIL, "study": EVIL, "laws": (law,), "baselines": {EVIL: 2.0}}
        ),
        verdict=None,
        provenance=(provenance,),
    )
    path = render(tmp_path / "report", contents)
    page, specifications = check_page(path)
    assert page.text.count(EVIL) > 10
    assert EVIL in json.dumps(specifications, ensure_ascii=False).replace('\\"', '"')
    for picture in path.parent.glob("*.svg"):
        assert "<script" not in picture.read_text()
        assert "<img" not in picture.read_text()
    assert {p.suffix for p in path.parent.iterdir()} == {".html", ".svg", ".png"}


def test_a_consent_that_names_nothing_is_told_on_the_command_line(tmp_path):
    assert "--allow-code: found 'a b'" in refusal(limited_command("--allow-code", "a b", "laws", cwd=tmp_path))


def test_sources_and_families_that_are_none_say_what_they_lack():
    with pytest.raises(TestbedError, match="a class without rows, validation"):
        find_class("testbed.analysis.laws.hoffmann:Hoffmann", "data.source", ("rows", "validation"))
