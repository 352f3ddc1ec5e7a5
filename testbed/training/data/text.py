"""Text as a token source: shuffled windows of a prepared corpus and its frozen validation windows."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from testbed.config import Data
from testbed.errors import DataError
from testbed.files import replacing
from testbed.records import DataFacts
from testbed.training.data import first_rules
from testbed.training.data.cache import ANOTHER_CACHE
from testbed.training.data.corpus import Corpus, Damaged, check_file, prepare, read_note, write_note
from testbed.training.data.documents import open_documents
from testbed.training.data.inventory import Inventory
from testbed.training.data.order import shuffled
from testbed.training.data.tokenizers import Tokenizer
from testbed.training.data.validation import choose_windows

if TYPE_CHECKING:
    import torch

    from testbed.training.data.on_device import RowMaker

_log = logging.getLogger("testbed")


class TextSource:
    """Windows of seq_len + 1 tokens that start every seq_len tokens, in a new shuffled order each epoch."""

    def __init__(self, config: Data) -> None:
        self._corpus = prepare(open_documents(config), config)
        self._seq_len, self._asked = config.seq_len, config.val_windows
        self._n_windows = (len(self._corpus.train) - 1) // config.seq_len
        if self._n_windows < 1:
            raise DataError(
                f"{config.source}: found {len(self._corpus.train)} training tokens, fewer than one window "
                f"(data.seq_len = {config.seq_len}); give more text"
            )
        self._validation, dropped = _validation_windows(self._corpus, config)
        targets = self._validation[:, 1:]
        identity = hashlib.sha256(self._corpus.train_sha256.encode() + self._validation.tobytes())
        lengths = self._corpus.tokenizer.byte_lengths()
        self.dropped_share = dropped
        self.facts = DataFacts(
            source=config.source,
            tokenizer=self._corpus.tokenizer.label,
            vocab_size=self._corpus.tokenizer.vocab_size,
            seq_len=config.seq_len,
            first_scored=0,
            train_tokens=self._n_windows * config.seq_len,
            val_tokens=targets.size,
            val_bytes=None if lengths is None else int(lengths[targets].sum()),
            entropy=None,
            fingerprint=identity.hexdigest(),
        )

    def sentences(self) -> list[str]:
        """What a plan and a page say of the text: what it is made of, what was left out, how large the validation is."""
        made_of, asked = self._corpus.made_of, self._asked
        if made_of is None:
            dropped = f"{100 * self.dropped_share:.2g} % of the validation windows were dropped as near copies"
            return [f"text: by the rules of the first format (data.rules = 1), by which {dropped}"]
        lines, there = made_of.sentences(), len(self._validation)
        if there < asked:
            lines.append(
                f"validation: {there} windows of {self._seq_len} tokens, all that the held-out text has, and not the {asked} of "
                "data.val_windows: losses are less certain; for more give more text or raise data.val_share"
            )
        return lines

    @property
    def inventory(self) -> Inventory | None:
        """What the text is made of; None under the rules of the first format."""
        return self._corpus.made_of

    @property
    def tokens(self) -> NDArray[np.integer]:
        """All training tokens, uint16 or uint32; window i starts at i * seq_len."""
        return self._corpus.train

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the text, None where the text came as token ids."""
        return None if self._corpus.tokenizer.label == "ids" else self._corpus.tokenizer

    def chosen(self, data_seed: int, start: int, count: int) -> NDArray[np.int64]:
        """Indices [count] of the windows in rows `start` to `start + count`; epoch e has the permutation of (data_seed, e)."""
        epochs, positions = np.divmod(np.arange(start, start + count), self._n_windows)
        windows = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            windows[here] = shuffled(positions[here], self._n_windows, (int(epoch) << 64) + data_seed)
        return windows

    def rows(self, data_seed: int, start: int, count: int) -> NDArray[np.integer]:
        """Training windows [count, seq_len + 1]."""
        starts = self.chosen(data_seed, start, count) * self._seq_len
        windows: NDArray[np.integer] = self._corpus.train[starts[:, None] + np.arange(self._seq_len + 1)]
        return windows

    def device_rows(self, device: torch.device) -> RowMaker | None:
        """A maker of the rows from the whole corpus on the device; None where that is too large."""
        from testbed.training.data.on_device import gathered

        return gathered(self, self._seq_len, device)

    def validation(self) -> NDArray[np.integer]:
        """The frozen windows [val_windows, seq_len + 1]."""
        return self._validation


def _validation_windows(corpus: Corpus, config: Data) -> tuple[NDArray[np.integer], float]:
    """The windows, and the share of the validation that was dropped as near copies of training text."""
    if corpus.made_of is None:
        return _first_windows(corpus, config)
    windows = choose_windows(corpus.val, corpus.val_cuts, config.seq_len, config.val_windows, config.source)
    return windows, corpus.made_of.dropped_share


def _first_windows(corpus: Corpus, config: Data) -> tuple[NDArray[np.integer], float]:
    """Those of the first rules, cached beside the corpus because the search for near-duplicates reads all of it."""
    stem = corpus.folder / f"windows-{config.seq_len}-{config.val_windows}"
    array, note = stem.with_suffix(".npy"), stem.with_suffix(".json")
    if note.exists():
        try:
            return _cached_windows(array, note)
        except Damaged as reason:
            _log.warning("%s; choosing the validation windows again", reason)
    windows, dropped = first_rules.choose_windows(
        corpus.train, corpus.val, config.seq_len, config.val_windows, config.source
    )
    with replacing(array, ANOTHER_CACHE) as temporary:
        with temporary.open("wb") as file:
            np.save(file, windows, allow_pickle=False)
        sha256 = hashlib.sha256(temporary.read_bytes()).hexdigest()
    write_note(note, {"dropped_share": dropped, "sha256": sha256})
    return windows, dropped


def _cached_windows(array: Path, note: Path) -> tuple[NDArray[np.integer], float]:
    noted = read_note(note)
    check_file(array, noted["sha256"])
    return np.load(array, allow_pickle=False), noted["dropped_share"]
