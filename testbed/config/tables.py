"""The tables of a configuration: strict, frozen models, each the owner of its fields' ranges.

Rules that need two tables stand in `Config`. Names of families, sources and laws are looked up, and
refused with the list of known ones, by the packages that own them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BeforeValidator, Field, model_validator

from testbed.config.budget import Budget
from testbed.config.execution import Execution
from testbed.config.strict import OpenTable
from testbed.config.strict import Table as _Table
from testbed.config.tracker import Tracker
from testbed.config.values import (
    BatchTokens,
    Count,
    Counts,
    DataSeeds,
    FolderName,
    Names,
    Seed,
    Seeds,
    Text,
    Texts,
    Widths,
    as_tuple,
)
from testbed.config.vary import Cell, axes, cells, merged
from testbed.files import digest
from testbed.identity import Label, Later
from testbed.registry import names_code

_MOST_RUNS = 100_000  # of a grid


class Zipf(_Table):
    """The synthetic back-off source (see testbed.training.data.synthetic)."""

    vocab_size: int = Field(32, ge=4, le=4096, description="number of distinct tokens")
    successors: Annotated[tuple[int, ...], BeforeValidator(as_tuple)] = Field(
        (3, 3), min_length=1, max_length=4, description="successor tokens added by contexts of 1, 2, ... tokens"
    )
    mass: Annotated[tuple[float, ...], BeforeValidator(as_tuple)] = Field(
        (0.6, 0.4), min_length=1, max_length=4, description="probability mass of each order, summing to 1"
    )
    exponent: float = Field(1.3, ge=0, le=4, description="Zipf exponent of the tokens' frequencies")
    seed: Seed = Field(1234, description="seed of the language itself")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.successors) != len(self.mass):
            raise ValueError("successors and mass need one entry for each order")
        if min(self.successors) < 1 or sum(self.successors) > self.vocab_size:
            raise ValueError("successors are at least 1 each and together at most vocab_size")
        if min(self.mass) <= 0 or abs(sum(self.mass) - 1) > 1e-9:
            raise ValueError("mass entries are above 0 and sum to 1")
        if self.vocab_size ** len(self.successors) > 2**22:
            raise ValueError("vocab_size to the power of the orders may be at most 4194304")
        return self


class HuggingFace(_Table):
    """How `hf:NAME` is loaded by the datasets library."""

    subset: Text | None = Field(None, description="the dataset's configuration name")
    split: Text = Field("train", description="the split to read documents from")
    field: Text = Field("text", description="the column that holds the text")
    streaming: bool = Field(True, description="read documents as a stream, without a full download")
    data_files: Texts | None = Field(
        None, description="files for the local builders (hf:json, hf:csv, hf:parquet, hf:text)"
    )
    trust_remote_code: Literal[False] = Field(False, description="always false: loaders do not run foreign code")


class Data(OpenTable):
    """Where the tokens come from."""

    source: Text = Field(
        description='"text:stdlib", "text:PATH", "hf:NAME", "synthetic:zipf" or "package.module:Source"'
    )
    seq_len: int = Field(ge=8, le=131072, description="tokens in a training window")
    tokenizer: Literal["bytes", "bpe"] = Field("bytes", description='"bytes" or "bpe" (trained on the source)')
    vocab_size: Count | None = Field(None, description='vocabulary of the "bpe" tokenizer, 257 to 1M')
    max_tokens: Count | None = Field(None, description="stop preparing after so many tokens")
    val_windows: int = Field(1024, ge=8, le=65536, description="frozen validation windows of seq_len tokens")
    repeat: bool = Field(False, description="allow a run to see its data more than once")
    unique_tokens: Annotated[Count | None, Later] = Field(
        None, description="train on so many distinct tokens, repeated as often as asked for"
    )
    hf: HuggingFace | None = Field(None, description="loading options of an hf: source")
    zipf: Zipf | None = Field(None, description="parameters of synthetic:zipf")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tokenizer == "bpe") != (self.vocab_size is not None):
            raise ValueError('vocab_size is given with tokenizer = "bpe", and only with it')
        if self.vocab_size is not None and not 257 <= self.vocab_size <= 2**20:
            raise ValueError("vocab_size is 257 to 1048576")
        if self.hf is not None and not self.source.startswith("hf:"):
            raise ValueError('the table [data.hf] belongs to a source "hf:NAME"')
        if self.zipf is not None and self.source != "synthetic:zipf":
            raise ValueError('the table [data.zipf] belongs to source = "synthetic:zipf"')
        return self


class Model(OpenTable):
    """The family and the rule by which one width makes a whole shape."""

    family: Text = Field("gpt", description='"gpt", "hf:<model_type>" or "package.module:Family"')
    head_size: int = Field(64, ge=2, le=512, description="width of one attention head, the same on every rung")
    depth: int | None = Field(None, ge=1, le=512, description="layers, the same on every rung")
    width_per_layer: int | None = Field(None, ge=1, le=4096, description="instead of depth: layers = width / this")
    options: dict[Text, int | float | bool | Text] = Field(
        default_factory=dict, description="further fields of a transformers configuration (hf: families)"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.depth is None) == (self.width_per_layer is None):
            raise ValueError("give either depth or width_per_layer")
        if self.head_size % 2:
            raise ValueError("head_size is even (rotary positions come in pairs)")
        if self.options and not self.family.startswith("hf:"):
            raise ValueError("the table [model.options] belongs to a family hf:<model_type>")
        return self


class Train(OpenTable):
    """The recipe, the same for every run; learning rates scale with width by rule."""

    batch_tokens: BatchTokens = Field("auto", description='tokens in an optimiser step, or "auto"')
    lr: float = Field(0.006, gt=0, description="peak learning rate of embeddings, head and norms")
    base_width: int = Field(32, ge=1, description="hidden matrices learn at lr * base_width / width")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    cooldown: float = Field(0.2, gt=0, lt=1, description="share of a horizon's steps spent decaying to 0")
    schedule: Annotated[Text, Later] = Field(
        "wsd", description='"wsd", "cosine" or "package.module:Schedule"; it has a table'
    )
    parts: Annotated[Texts, Later] = Field(
        (), description='what else happens in a step: "prune", "package.module:Part"; each has a table'
    )
    weight_decay: float = Field(0.1, ge=0, description="decay of hidden matrices, times their learning rate")
    betas: Annotated[tuple[float, float], BeforeValidator(as_tuple)] = Field((0.9, 0.95), description="AdamW's betas")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient")
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32", description='"fp32", "tf32" (CUDA: fp32 with rounded products) or "bf16" (autocast, fp32 weights)'
    )
    deterministic: bool = Field(True, description="use deterministic kernels only")
    pack: Literal["auto", "none"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description='runs of one shape trained side by side: "auto" (measured), "none" or at most so many'
    )
    micro_rows: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description='windows of one forward and backward pass; "auto" is what fits and is fastest'
    )
    recompute: Literal["auto"] | bool = Field(
        "auto", description='compute blocks again on the way back: true, false or "auto" (where memory asks for it)'
    )
    processes: int = Field(1, ge=1, le=64, description="processes (GPUs of one machine) that train each run together")
    sharded: Literal["auto"] | bool = Field(
        "auto",
        description='split weights and moments among the processes: true, false or "auto" (where copies do not fit)',
    )
    compile: Literal["auto"] | bool = Field(
        "auto", description='torch.compile for single runs: true, false or "auto" (on CUDA, where it is soon paid back)'
    )
    retry_lr: Annotated[float | None, Later] = Field(
        None, gt=0, lt=1, description="try each grid run that diverged once more, at so many times its learning rates"
    )
    trunk_evals: int = Field(6, ge=0, le=1000, description="losses logged on a trunk besides its branch points")
    branch_evals: int = Field(1, ge=0, le=100, description="losses logged inside each cooldown")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas are two numbers from 0 up to, not including, 1")
        return self


class Grid(_Table):
    """The runs that are fitted: widths x horizons x seeds."""

    widths: Widths = Field(description="rungs of the ladder, by width")
    tokens: Counts | None = Field(None, description="horizons, the same for each width (an N x D grid)")
    flops: Counts | None = Field(None, description="instead of tokens: training FLOPs of each slice (an IsoFLOP grid)")
    init_seeds: Seeds = Field((0,), description="seeds of the weights")
    data_seeds: DataSeeds = Field(
        "own",
        description='"own" (every run has an order of its own) or a list of seeds, each taken with each init seed',
    )
    vary: Annotated[dict[str, Any], Later] = Field(
        default_factory=dict, description="further axes: any keys of the configuration, each with a list of values"
    )
    design: Annotated[Literal["optimal"] | None, Later] = Field(
        None, description='"optimal": of these widths, horizons and seeds only what tells most about the target'
    )
    budget: Annotated[Count | None, Later] = Field(
        None, description="with a design: training FLOPs that the grid may take"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tokens is None) == (self.flops is None):
            raise ValueError("give either tokens (N x D) or flops (IsoFLOP)")
        if (self.design is None) != (self.budget is None):
            raise ValueError(
                'design = "optimal" and budget (training FLOPs of the grid) are given together or not at all'
            )
        if self.design is not None and len(self.init_seeds) < 2:
            raise ValueError(
                "a design chooses how many of init_seeds each width gets, at least two; give it, say, [0, 1, 2, 3, 4, 5]"
            )
        runs = len(self.widths) * len(self.init_seeds) * (1 if self.data_seeds == "own" else len(self.data_seeds))
        if runs > _MOST_RUNS:
            raise ValueError(f"widths x seeds make {runs} runs; at most {_MOST_RUNS}")
        return self


class Target(_Table):
    """The larger run that the forecast is about."""

    width: int = Field(ge=1, le=65536, description="rung of the target")
    tokens: Count = Field(description="horizon of the target")
    init_seeds: Seeds = Field((1000,), description="seeds of the weights")
    data_seeds: DataSeeds | None = Field(None, description="as in the grid, whose it is where not given")
    at: Annotated[dict[str, Any], Later] = Field(default_factory=dict, description="its values of what the grid varies")
    processes: int | None = Field(None, ge=1, le=64, description="as in [train], whose it is where not given")


class Forecast(_Table):
    """How the forecast is made; fixed before anything is trained."""

    laws: Names = Field(
        ("hoffmann", "kaplan"), description="the forecast is the geometric mean of these laws' predictions"
    )
    beside: Texts = Field((), description="laws that are fitted and shown beside it")
    n: Literal["n_params_non_embedding", "n_params_total"] = Field(
        "n_params_non_embedding", description="which parameter count is N"
    )
    delta: float = Field(0.01, gt=0, description="Huber width on the logarithm of the loss")
    bootstrap: int = Field(1000, ge=100, le=100_000, description="resamples of the trunks")
    level: float = Field(0.9, gt=0.5, lt=1, description="level of every interval")
    seed: Seed = Field(0, description="seed of the resampling")


class Config(_Table):
    """A whole study. Everything that decides a result stands here and is hashed."""

    name: FolderName = Field(description="name of the study: letters, digits, dot, dash, underscore")
    data: Data = Field(description="where the tokens come from")
    model: Model = Field(description="the family of models")
    train: Train = Field(description="the training recipe")
    grid: Grid = Field(description="the runs that are fitted")
    target: Target | None = Field(None, description="the larger run that is forecast")
    forecast: Forecast = Field(Forecast(), description="how the forecast is made")
    execution: Annotated[Execution, Label] = Field(Execution(), description="device, workers, checkpoints")
    budget: Annotated[Budget | None, Label] = Field(None, description="what the sweep may spend in all")
    tracker: Annotated[Tracker | None, Label] = Field(None, description="where losses are shown while runs are trained")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        batch = self.train.batch_tokens
        if batch != "auto" and (batch <= 0 or batch % self.data.seq_len):
            raise ValueError(
                f"train.batch_tokens ({batch}) is a whole number of windows: a multiple of data.seq_len ({self.data.seq_len})"
            )
        if (
            self.train.sharded is True
            and self.train.processes == 1
            and (self.target is None or not self.target.processes)
        ):
            raise ValueError("train.sharded = true splits a run among several processes: raise train.processes")
        if self.grid.design is not None and self.target is None:
            raise ValueError("grid.design is chosen for a target: give [target] its width and tokens")
        processes = max(self.train.processes, (self.target.processes if self.target else None) or 1)
        if self.train.compile is True and processes > 1:
            raise ValueError(
                f"train.compile = true is for runs of one process, and these take {processes}; leave it to auto"
            )
        for key, values in axes(self.grid.vary).items():
            for value in values:
                self.at({key: value})  # whose own rules say what is wrong with it
        for width in (*self.grid.widths, *([self.target.width] if self.target else [])):
            if width % self.model.head_size:
                raise ValueError(f"width {width} is not a multiple of model.head_size ({self.model.head_size})")
        return self

    def cells(self, vary: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """What the grid (or another table) varies: dotted keys with their values, every combination."""
        found = []
        for cell in cells(self.grid.vary if vary is None else vary):
            own = self.at(cell).model_dump()
            found.append({key: reduce(lambda tree, part: tree[part], key.split("."), own) for key in cell})
        return found

    def at(self, cell: Cell) -> Config:
        """The configuration of one cell, in which nothing varies any more."""
        tree = self.model_dump(mode="json", exclude_none=True)
        tree["grid"].pop("vary")
        return Config.model_validate(merged(tree, cell)) if cell else self

    @property
    def home(self) -> Path:
        """The folder of the study, unless another one is asked for: runs/NAME in the working directory."""
        return Path("runs") / self.name

    def code(self) -> tuple[str, ...]:
        """Names of classes outside the package ("package.module:Class") that the configuration asks for."""
        places = [self.data.source, self.model.family, self.execution.executor]
        places = [name for name in places if "." in name.partition(":")[0]]  # "text:stdlib" names no module
        recipe = (self.train.schedule, *self.train.parts)
        laws = (*self.forecast.laws, *self.forecast.beside)
        return tuple(name for name in (*places, *recipe, *laws) if names_code(name))

    def hash(self) -> str:
        """SHA-256 of `identity()`, in hexadecimal."""
        return digest(self.identity())

    def to_toml(self) -> str:
        """The whole configuration, defaults spelt out; `load_config` reads it back to an equal one."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
