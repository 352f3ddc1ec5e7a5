"""The table [data]: where the tokens come from, and the tables of the sources that come with the package."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from testbed.config.identity import Label, Later
from testbed.config.strict import OpenTable, Table
from testbed.config.values import Count, Seed, Text, Texts, as_tuple


class Zipf(Table):
    """The table [data.zipf]: the synthetic language (see testbed.training.data.synthetic)."""

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


class HuggingFace(Table):
    """The table [data.hf]: how the datasets library loads `hf:NAME`."""

    subset: Text | None = Field(None, description="the dataset's configuration name")
    split: Text = Field("train", description="the split to read documents from")
    field: Text = Field("text", description="the column that holds the text")
    streaming: bool = Field(True, description="read documents as a stream, without a full download")
    data_files: Texts | None = Field(
        None, description="files for the local builders (hf:json, hf:csv, hf:parquet, hf:text)"
    )
    trust_remote_code: Literal[False] = Field(False, description="always false: loaders do not run foreign code")


class Data(OpenTable):
    """The table [data]; a source of one's own may have a table in it."""

    source: Text = Field(
        description='"text:stdlib", "text:PATH", "hf:NAME", "synthetic:zipf" or "package.module:Source"'
    )
    seq_len: int = Field(ge=8, le=131072, description="tokens in a training window")
    tokenizer: Literal["bytes", "bpe"] = Field("bytes", description='"bytes" or "bpe" (trained on the source)')
    vocab_size: Count | None = Field(None, description='vocabulary of the "bpe" tokenizer, 257 to 1M')
    max_tokens: Count | None = Field(None, description="largest number of tokens to prepare")
    val_windows: int = Field(1024, ge=8, le=65536, description="frozen validation windows of seq_len tokens, at most")
    val_share: Annotated[float, Later] = Field(0.05, gt=0, le=0.5, description="part of the text kept for validation")
    separator: Annotated[str | None, Later] = Field(
        None, description='text that ends documents; "<|endoftext|>" and the like are recognised, "" is for none'
    )
    text_field: Annotated[Text | None, Later] = Field(
        None, description="field of JSON, CSV or parquet that holds the text; found by its name if not given"
    )
    skip_bad: Annotated[float, Later] = Field(
        0.01, ge=0, description="documents that cannot be read and may be passed over: a share below 1, or a count"
    )
    repeat: bool = Field(False, description="allow a run to see its data more than once")
    unique_tokens: Annotated[Count | None, Later] = Field(
        None, description="train on this many distinct tokens, repeated as often as a run needs"
    )
    rules: Annotated[Literal[1, 2], Label] = Field(
        2, description="rules of splitting the text and of identity: 2, or 1 as in a folder of an older testbed"
    )
    hf: HuggingFace | None = Field(None, description="loading options of an hf: source")
    zipf: Zipf | None = Field(None, description="parameters of synthetic:zipf")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tokenizer == "bpe") != (self.vocab_size is not None):
            raise ValueError('vocab_size is given with tokenizer = "bpe", and only with it')
        if self.vocab_size is not None and not 257 <= self.vocab_size <= 2**20:
            raise ValueError("vocab_size is 257 to 1048576")
        own = {"separator": self.separator, "text_field": self.text_field}
        for key, value in own.items():
            if value is not None and not self.source.startswith("text:"):
                raise ValueError(f'{key} is for a source "text:PATH"; a source "hf:NAME" has data.hf.field')
        if self.rules == 1 and (any(v is not None for v in own.values()) or self.val_share != 0.05):
            raise ValueError("rules = 1 knows no val_share, separator or text_field: take them away, or rules")
        if self.hf is not None and not self.source.startswith("hf:"):
            raise ValueError('the table [data.hf] belongs to a source "hf:NAME"')
        if self.zipf is not None and self.source != "synthetic:zipf":
            raise ValueError('the table [data.zipf] belongs to source = "synthetic:zipf"')
        return self
