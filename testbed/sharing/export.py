"""Exports a finished run as a model folder of transformers: weights, configuration, tokenizer and a card.

The model is of a type that transformers has, so loading it runs no code of testbed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from testbed.config import Data
from testbed.errors import ConfigError, DataError, FolderError
from testbed.files import write_text
from testbed.records import RunSpec
from testbed.sharing.card import model_card
from testbed.sharing.folder import new_folder
from testbed.training.data import open_source
from testbed.training.data.tokenizers import ByteTokenizer
from testbed.training.models import find_family
from testbed.training.models.neox import as_gpt_neox
from testbed.training.store import RunFolder, SweepFolder
from testbed.training.train.checkpoints.checkpoint import read_weights


def export(path: Path, out: Path) -> None:
    """Write the run in the folder `path` (runs/SWEEP/runs/ID) to the new or empty folder `out`, completely or not at all.

    The logits equal those of the run up to fp32 rounding.

    >>> export(Path("runs/quick/runs/w0064-i1000-d65536064-d43eb9fa07"), Path("model"))  # doctest: +SKIP
    >>> AutoModelForCausalLM.from_pretrained("model")  # doctest: +SKIP

    Raises:
        FolderError: The run is not done, its weights are damaged, or `out` is not empty.
        ConfigError: Its family or its source's tokenizer has no form in transformers.
    """
    sweep, run = find_run(path)
    if run.state() != "done":
        raise FolderError(f"{path}: this run is {run.state()}; finish it with testbed train {sweep.path}")
    network = as_transformers(run.spec, read_weights(run.path / "weights.safetensors", run.spec.run_id))
    tokenizer = tokenizer_of(sweep.config.at(run.spec.cell).data, run.spec)
    card = model_card(sweep, run, type(network).__name__)
    with new_folder(out) as folder:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", card)


def find_run(path: Path) -> tuple[SweepFolder, RunFolder]:
    """The sweep and the run of a run's folder."""
    path = path.resolve()
    if path.parent.name != "runs" or not SweepFolder.exists(path.parent.parent):
        raise FolderError(
            f"{path}: not a run's folder; give one such as runs/SWEEP/runs/ID (testbed status lists them)"
        )
    sweep = SweepFolder.open(path.parent.parent)
    return sweep, sweep.find(path.name)


def as_transformers(spec: RunSpec, weights: dict[str, Tensor]) -> Any:
    """The run's network as a PreTrainedModel of transformers, in fp32."""
    if spec.shape.family == "gpt":
        return as_gpt_neox(spec.shape, weights)
    network = find_family(spec.shape.family).build(spec.shape, spec.init_seed)
    found = getattr(network, "lm", None)
    if not hasattr(found, "save_pretrained"):
        raise ConfigError(
            f"{spec.run_id}: the family {spec.shape.family} has no form in transformers; accepted: gpt, hf:<model_type>, "
            "and a family whose network holds a transformers model as `lm`"
        )
    with torch.no_grad():
        for name, parameter in network.named_parameters():  # a tied head is listed once
            parameter.copy_(weights[name])
    return network.eval().lm


def tokenizer_of(data: Data, spec: RunSpec) -> Any:
    """The run's tokenizer as a PreTrainedTokenizerFast of transformers, with the same ids.

    The synthetic language has no text: its tokenizer reads and writes the symbols' numbers, "17 3 22".
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    ends = {}
    if spec.data.tokenizer == "bytes":
        library = Tokenizer.from_str(ByteTokenizer().as_json())
    elif spec.data.tokenizer == "none":
        library = _symbols(spec.data.vocab_size)
    else:
        library = Tokenizer.from_str(_trained(data, spec))
        if spec.data.tokenizer.startswith("bpe:"):
            ends = {"bos_token": library.id_to_token(0), "eos_token": library.id_to_token(0)}
    return PreTrainedTokenizerFast(
        tokenizer_object=library,
        model_max_length=spec.shape.seq_len,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **ends,
    )


def _trained(data: Data, spec: RunSpec) -> str:
    """The tokenizer of the run's source, which has to hold the tokens that the run was trained on."""
    source = open_source(data)
    tokenizer = getattr(source, "tokenizer", None)
    if tokenizer is None:
        raise ConfigError(
            f"{spec.run_id}: its source {spec.data.source} has no `tokenizer` (found {spec.data.tokenizer!r}), and a model "
            "folder needs one; give the source one (see testbed.training.data.source.TokenSource)"
        )
    if source.facts.fingerprint != spec.data.fingerprint:
        raise DataError(
            f"{data.source}: the tokens are not those that {spec.run_id} was trained on, so its tokenizer cannot be made "
            "again; restore the text"
        )
    return str(tokenizer.as_json())


def _symbols(count: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    library = Tokenizer(models.WordLevel(vocab={str(i): i for i in range(count)}, unk_token=""))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return library
