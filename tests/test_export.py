"""An exported run is the run: the same logits, the same ids, in classes that transformers has itself."""

import json
import re

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from testbed.cli.app import app
from testbed.config import Model
from testbed.errors import ConfigError, DataError, FolderError
from testbed.records import Verdict
from testbed.sharing.export import as_transformers, export
from testbed.training.data import open_source
from testbed.training.models import find_family
from testbed.training.train.checkpoints.checkpoint import read_weights, save_weights
from tests.helpers.finished import AT, leave_records, sweep_of, train_here
from tests.helpers.sweeps import TINY

ALONE = TINY.replace("pack = 2", 'pack = "none"').replace("10_240, 20_480, 40_960", "10_240, 20_480")
TEXT = ALONE.replace("synthetic:zipf", "text:{folder}").replace("init_seeds = [0, 1]", "init_seeds = [0]")


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    """One trained run of every width of the tiny ladder."""
    sweep, source = sweep_of(ALONE, tmp_path_factory.mktemp("export") / "ladder")
    runs = {spec.shape.width: spec for spec in sweep.specs if spec.init_seed in (0, 7)}
    for spec in runs.values():
        train_here(sweep, spec, source)
    return sweep, source, runs


def texts(folder):
    """Documents of any kind: source code, other alphabets, control characters, what looks like an end."""
    files = sorted(folder.glob("*.txt"))[:40:4]
    return [path.read_text()[:3000] for path in files] + ["ĀbcĠ Žluťoučký kůň 漢字 🙂\n\t\x00 end", "<|endoftext|>", ""]


@pytest.mark.parametrize("width", [8, 16, 24, 32])
def test_logits_of_every_width_are_those_of_the_run(ladder, tmp_path, width):
    sweep, source, runs = ladder
    spec = runs[width]
    export(sweep.run(spec).path, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=False)
    ours = find_family("gpt").build(spec.shape, 99)
    ours.load_state_dict(read_weights(sweep.run(spec).path / "weights.safetensors", spec.run_id))
    real = torch.as_tensor(source.validation()[:16, :-1].astype(np.int64))
    for ids in (real, torch.randint(0, spec.shape.vocab_size, real.shape)):
        with torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-5, rtol=1e-5)


def test_the_exported_model_has_the_loss_that_the_run_logged(ladder, tmp_path):
    sweep, source, runs = ladder
    spec = runs[16]
    export(sweep.run(spec).path, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    windows = torch.as_tensor(source.validation().astype(np.int64))
    first = spec.data.first_scored
    with torch.no_grad():
        logits = model(windows[:, :-1]).logits[:, first:]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, first + 1 :].flatten())
    logged = sweep.run(spec).evals()[-1]
    assert logged.phase == "annealed" and float(loss) == pytest.approx(logged.loss, abs=2e-6)


@pytest.mark.parametrize("name", ["hf:gpt2", "hf:gpt_neox", "hf:llama", "hf:qwen3"])
def test_families_of_transformers_are_exported_as_they_are(ladder, tmp_path, name):
    family = find_family(name)
    shape = family.shape(16, Model(family=name, head_size=8, depth=2), 40, 16)
    spec = ladder[2][8].model_copy(update={"shape": shape})
    network = family.build(shape, 5).eval()
    weights = {name: p.detach() for name, p in network.named_parameters()}
    save_weights(tmp_path / "weights.safetensors", weights, {"run_id": spec.run_id})
    as_transformers(spec, read_weights(tmp_path / "weights.safetensors", spec.run_id)).save_pretrained(tmp_path / "m")
    ids = torch.randint(0, 40, (3, 16))
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "m")(ids).logits
        torch.testing.assert_close(theirs, network(ids), atol=1e-5, rtol=1e-5)


def test_a_family_without_a_form_in_transformers_is_refused(ladder):
    shape = ladder[2][8].shape.model_copy(update={"family": "tests.test_export:Foreign"})
    with pytest.raises(ConfigError, match=r"Foreign has no form in transformers; accepted: gpt, hf:<model_type>"):
        as_transformers(ladder[2][8].model_copy(update={"shape": shape}), {})


class Foreign:
    shape = counts = hidden_matrices = staticmethod(lambda *_: None)

    def build(self, shape, init_seed):
        return torch.nn.Linear(1, 1)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe", "bpe, repeated"])
@pytest.mark.slow
def test_tokenizers_give_the_same_ids_and_decode_them(tmp_path, text_folder, tokenizer):
    toml = TEXT.format(folder=text_folder)
    if tokenizer != "bytes":
        toml = toml.replace("[model]", 'tokenizer = "bpe"\nvocab_size = 400\n\n[model]', 1)
    if tokenizer == "bpe, repeated":
        toml = toml.replace("[model]", "unique_tokens = 8192\nrepeat = true\n\n[model]", 1)
    sweep, source = sweep_of(toml, tmp_path / "s")
    spec = sweep.specs[0]
    network = find_family("gpt").build(spec.shape, 0)
    leave_records(sweep, spec, [])
    save_weights(
        sweep.run(spec).path / "weights.safetensors", dict(network.named_parameters()), {"run_id": spec.run_id}
    )
    export(sweep.run(spec).path, tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=False)
    assert len(theirs) == spec.shape.vocab_size and theirs.model_max_length == spec.shape.seq_len
    documents = texts(text_folder)
    for text, ours in zip(documents, source.tokenizer.encode([t.encode() for t in documents]), strict=True):
        assert theirs(text)["input_ids"] == ours.tolist()
        assert theirs.decode(ours.tolist(), skip_special_tokens=False) == text
    ids = theirs(documents[0][:40], return_tensors="pt")["input_ids"][:, :32]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(tmp_path / "model")(ids).logits
        torch.testing.assert_close(logits, network(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_tokenizer_is_not_made_from_another_text(tmp_path, text_folder):
    copy = tmp_path / "text"
    copy.mkdir()
    for path in sorted(text_folder.glob("*.txt")):
        (copy / path.name).write_bytes(path.read_bytes())
    toml = TEXT.format(folder=copy).replace("[model]", 'tokenizer = "bpe"\nvocab_size = 300\n\n[model]', 1)
    sweep, _ = sweep_of(toml, tmp_path / "s")
    spec = sweep.specs[0]
    weights = dict(find_family("gpt").build(spec.shape, 0).named_parameters())
    leave_records(sweep, spec, [])
    save_weights(sweep.run(spec).path / "weights.safetensors", weights, {"run_id": spec.run_id})
    (copy / "0000.txt").write_text("Something else entirely. " * 400)
    with pytest.raises(DataError, match=r"not those that .* was trained on"):
        export(sweep.run(spec).path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_synthetic_language_reads_and_writes_its_symbols(ladder, tmp_path):
    sweep, source, runs = ladder
    export(sweep.run(runs[8]).path, tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    row = source.validation()[0].tolist()
    assert theirs(" ".join(map(str, row)))["input_ids"] == row and theirs.decode(row).split() == list(map(str, row))
    assert "synthetic and has no text" in (tmp_path / "model" / "README.md").read_text()


def test_the_card_says_what_the_model_is(ladder, tmp_path):
    sweep, _, runs = ladder
    spec = runs[24]
    export(sweep.run(spec).path, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    loss = sweep.run(spec).evals()[-1].loss
    for said in (spec.run_id, f"{spec.counts.n_params_non_embedding:,}", "20,480 tokens", f"{loss:.4f} nats/token"):
        assert said in card
    assert r"a \<CPU\> \| of \| somebody" in card  # what others wrote stays in its cell
    assert card.startswith("---\nlibrary_name: transformers\n")


def test_a_targets_card_has_its_forecast_and_verdict(ladder, tmp_path, sealed_forecast):
    sweep, _, runs = ladder
    verdict = Verdict(
        forecast_digest=sealed_forecast.digest,
        judged_at=AT,
        after_the_fact=False,
        predicted=2.0,
        interval=sealed_forecast.interval,
        observed=1.9,
        observed_runs={runs[32].run_id: 1.9},
        error=0.05,
        hit=False,
        z=2.5,
        compute_equivalent=None,
        law_errors={},
        baseline_errors={},
        true_entropy=None,
        entropy_held=None,
    )
    sweep.seal(sealed_forecast)
    sweep.write_verdict(verdict)
    export(sweep.run(runs[32]).path, tmp_path / "model")
    export(sweep.run(runs[8]).path, tmp_path / "grid")
    card = (tmp_path / "model" / "README.md").read_text()
    assert sealed_forecast.digest in card and "+5.00 % off, OUTSIDE its interval" in card
    assert sealed_forecast.digest not in (tmp_path / "grid" / "README.md").read_text()


def test_what_cannot_be_exported_says_why_and_leaves_nothing(ladder, tmp_path):
    sweep, _, runs = ladder
    other = next(spec for spec in sweep.specs if spec.run_id not in {run.run_id for run in runs.values()})
    for run, message in (
        (sweep.path, "not a run's folder"),
        (tmp_path / "nowhere", "not a run's folder"),
        (sweep.path / "runs" / "w9999", "no run 'w9999' in the plan"),
        (sweep.run(other).path, "this run is to do; finish it"),
    ):
        with pytest.raises(FolderError, match=message):
            export(run, tmp_path / "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FolderError, match="not empty; give another folder"):
        export(sweep.run(runs[8]).path, tmp_path / "full")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_damaged_weights_are_not_exported(ladder, tmp_path):
    sweep, _, runs = ladder
    path = sweep.run(runs[24]).path / "weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    try:
        with pytest.raises(FolderError, match="damaged"):
            export(sweep.run(runs[24]).path, tmp_path / "model")
    finally:
        path.write_bytes(whole)
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_into_an_empty_folder(ladder, tmp_path, capsys):
    sweep, _, runs = ladder
    (tmp_path / "model").mkdir()
    app(["export", str(sweep.run(runs[16]).path), "-o", str(tmp_path / "model")], standalone_mode=False)
    assert re.search(r"written: .*model", capsys.readouterr().out)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == ["GPTNeoXForCausalLM"] and "auto_map" not in config
    assert {p.suffix for p in (tmp_path / "model").iterdir()} <= {".json", ".md", ".safetensors"}  # nothing to unpickle
    assert open_source(sweep.config.data).facts.vocab_size == config["vocab_size"]
