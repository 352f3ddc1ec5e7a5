"""What a text is made of: files, documents, splits, copies, what was left out and why; as a record and in sentences."""

from __future__ import annotations

from testbed.records.record import Record, Whole
from testbed.training.data.split import Split
from testbed.training.data.text_files import LeftOut, Tally

_NOTABLE = 0.05  # share of the validation text that is worth a sample where it was dropped
_SAMPLE = 160  # characters of it


class Counted(Record):
    """How many files or documents were left out for one reason, and the first of them."""

    count: Whole
    first: str


class Inventory(Record):
    """What the preparation of a text has found; `bad` are documents that could not be read, `size` is in bytes of text.

    `block` are the bytes of the blocks by which the text is split, None where whole documents are. `copies` are documents that
    repeat another one but for white space, case and punctuation: all of them are on one side. `dropped` are the tokens of the
    validation that were left out as near copies of training text, of `val_tokens` + `dropped`.
    """

    files: Whole
    documents: Whole
    size: Whole
    copies: Whole
    left_out: dict[str, Counted]
    bad: Counted | None
    remarks: tuple[str, ...]
    share: float
    block: Whole | None
    train_tokens: Whole
    val_tokens: Whole
    dropped: Whole
    dropped_sample: str

    def check(self, allowed: float, label: str) -> None:
        """DataError where more documents could not be read than data.skip_bad allows."""
        tally = Tally(documents=self.documents, bad=LeftOut(self.bad.count, self.bad.first) if self.bad else None)
        tally.check(allowed, label)

    @property
    def dropped_share(self) -> float:
        """The part of the validation's tokens that was dropped as near copies of training text."""
        return self.dropped / max(self.dropped + self.val_tokens, 1)

    def sentences(self) -> list[str]:
        """What is said of it in a plan and on a page."""
        every = self.train_tokens + self.val_tokens
        unit = "whole documents" if self.block is None else f"blocks of up to {self.block} bytes"
        files = f"{_many(self.files, 'file')}, " if self.files else ""
        lines = [
            f"text: {files}{_many(self.documents, 'document')}, {self.size:,} bytes; "
            f"{100 * self.val_tokens / max(every, 1):.2g} % of the tokens are for validation, as {unit} from everywhere in it"
        ]
        lines += self.remarks
        if self.copies:
            lines.append(
                f"{_many(self.copies, 'document')} of these repeat another one but for white space, case or punctuation; copies "
                "are on one side of the split"
            )
        lines += [
            f"left out: {each.count:,} {reason} (the first: {each.first})" for reason, each in self.left_out.items()
        ]
        if self.bad:
            lines.append(
                f"left out: {_many(self.bad.count, 'document')} that cannot be read (the first: {self.bad.first})"
            )
        if self.dropped:
            lines.append(
                f"{100 * self.dropped_share:.2g} % of the validation text was dropped as near copies of training documents"
            )
        if self.dropped_share > _NOTABLE:
            lines.append(f"dropped, for example: {self.dropped_sample[:_SAMPLE]!r}")
        return lines


def inventory(tally: Tally, split: Split, tokens: dict[str, int], sample: bytes) -> Inventory:
    """The inventory of a text that was read with `tally`; `tokens` by side, `sample` is the first text that was dropped."""
    return Inventory(
        files=tally.files,
        documents=tally.documents,
        size=tally.size,
        copies=split.copies,
        left_out={reason: Counted(count=each.count, first=each.first) for reason, each in tally.left_out.items()},
        bad=Counted(count=tally.bad.count, first=tally.bad.first) if tally.bad else None,
        remarks=tuple(tally.remarks),
        share=split.share,
        block=split.block,
        train_tokens=tokens["train"],
        val_tokens=tokens["val"],
        dropped=tokens["dropped"],
        dropped_sample=sample[: 4 * _SAMPLE].decode(errors="replace"),
    )


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
