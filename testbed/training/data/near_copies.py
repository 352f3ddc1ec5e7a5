"""Finds pieces of the validation that are near copies of one piece of the training text.

Such text rewards memorising, larger models more, and so bends a law. Two pieces are compared by their runs of 64 letters
and digits, an eighth of them, chosen by their hashes. Only runs that stand in at most three pieces of the training text are
counted: what stands in more is how this text is written (licences, forms, templates), and a fair sample keeps it. A near copy
has half of the counted runs in common with one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from testbed.training.data.first_rules import run_hashes
from testbed.training.data.split import Piece, bare

_RUN = 64  # letters and digits
_SAMPLED = np.uint64(8)  # one run in so many is compared
_RARE = 3  # pieces of the training text
_LEAST = 4  # runs by which a piece is judged
_BATCH = 1 << 22
_FILTER_BITS = 24
_FILTER_SHIFT = np.uint64(64 - _FILTER_BITS)

Runs = tuple[NDArray[np.uint64], NDArray[np.int64]]  # hash of each run, and number of its piece


def near_copies(sides: Callable[[], Iterable[tuple[str, Piece]]]) -> frozenset[int]:
    """The lots of the pieces of the validation that nearly repeat one piece of the training text."""
    lots = [piece.lot for side, piece in sides() if side == "val"]
    batches = list(_runs(piece.content for side, piece in sides() if side == "val"))
    if not batches:
        return frozenset()
    hashes, owners = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    known, slots = np.unique(hashes, return_inverse=True)
    held = np.unique(np.stack([slots, owners], axis=1), axis=0)  # each run of a piece once
    found = _in_training(known, _runs(piece.content for side, piece in sides() if side == "train"))
    rare = np.bincount(found[:, 0], minlength=len(known)) <= _RARE
    counted = np.bincount(held[rare[held[:, 0]], 1], minlength=len(lots))
    common = _most_in_common(held, found[rare[found[:, 0]]], len(lots))
    copies = (counted >= _LEAST) & (2 * common >= counted)
    return frozenset(lots[index] for index in np.flatnonzero(copies))


def _runs(contents: Iterable[bytes]) -> Iterator[Runs]:
    """The sampled runs of the contents, a batch of some MB at a time."""
    waiting: list[bytes] = []
    first = size = 0
    for content in contents:
        waiting.append(bare(content))
        size += len(waiting[-1])
        if size >= _BATCH:
            yield _of_batch(waiting, first)
            first, waiting, size = first + len(waiting), [], 0
    if waiting:
        yield _of_batch(waiting, first)


def _of_batch(contents: list[bytes], first: int) -> Runs:
    text = np.frombuffer(b"".join(contents), np.uint8)
    if len(text) < _RUN:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    hashes = run_hashes(text, _RUN)
    ends = np.cumsum([len(content) for content in contents])
    places = np.flatnonzero((hashes >> np.uint64(3)) % _SAMPLED == 0)
    owners = np.searchsorted(ends, places, side="right")
    inside = places + _RUN <= ends[owners]
    return hashes[places[inside]], owners[inside] + first


def _in_training(known: NDArray[np.uint64], batches: Iterable[Runs]) -> NDArray[np.int64]:
    """Where the known runs [n] stand in the training text: (run, piece) [m, 2], of a frequent run only some."""
    maybe = np.zeros(1 << _FILTER_BITS, bool)  # most runs are ruled out by their top bits alone
    maybe[known >> _FILTER_SHIFT] = True
    frequency = np.zeros(len(known), np.int64)
    found = [np.empty((0, 2), np.int64)]
    for hashes, owners in batches:
        here = maybe[hashes >> _FILTER_SHIFT]
        hashes, owners = hashes[here], owners[here]
        slots = np.searchsorted(known, hashes).clip(0, len(known) - 1)
        same = known[slots] == hashes
        pairs = np.unique(np.stack([slots[same], owners[same]], axis=1), axis=0)
        pairs = pairs[frequency[pairs[:, 0]] <= _RARE]
        frequency += np.bincount(pairs[:, 0], minlength=len(known))
        found.append(pairs)
    return np.concatenate(found)


def _most_in_common(held: NDArray[np.int64], found: NDArray[np.int64], pieces: int) -> NDArray[np.int64]:
    """For each piece of the validation, the runs that it has in common with one piece of the training text, at most [n]."""
    order = np.argsort(found[:, 0], kind="stable")
    found = found[order]
    starts = np.searchsorted(found[:, 0], held[:, 0], side="left")
    counts = np.searchsorted(found[:, 0], held[:, 0], side="right") - starts
    owners = np.repeat(held[:, 1], counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    theirs = found[np.repeat(starts, counts) + within, 1]
    pairs, shared = np.unique(np.stack([owners, theirs], axis=1), axis=0, return_counts=True)
    most = np.zeros(pieces, np.int64)
    np.maximum.at(most, pairs[:, 0], shared)
    return most
