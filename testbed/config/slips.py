"""Usual slips in TOML files and in the names of keys, each with its remedy; decides nothing about what is accepted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping

_LONGEST = 120  # characters of a line that are shown
_PLAIN_QUOTES = str.maketrans({**dict.fromkeys("“”„‟«»″", '"'), **dict.fromkeys("‘’‚‛′", "'")})
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_COUNT = r"\d[\d_]*+(?:\.\d+)?+(?:[eE][+-]?\d+)?+"

# What other programs call a key -> ours
_ELSEWHERE = {
    "train.lr": "learning_rate max_lr peak_lr base_lr lr_max",
    "train.clip": "max_grad_norm grad_clip gradient_clip gradient_clip_val clip_grad clip_grad_norm clip_norm max_norm",
    "train.batch_tokens": "batch_size global_batch_size per_device_train_batch_size train_batch_size total_batch_size",
    "train.warmup_steps": "warmup warmup_iters num_warmup_steps lr_warmup_steps",
    "train.cooldown": "decay_fraction warmdown warmdown_ratio cooldown_steps lr_decay_iters",
    "train.betas": "beta1 beta2 adam_beta1 adam_beta2",
    "train.precision": "dtype bf16 fp16 mixed_precision",
    "train.micro_rows": "gradient_accumulation_steps micro_batch_size device_batch_size",
    "train.recompute": "gradient_checkpointing activation_checkpointing",
    "data.seq_len": "block_size context_length context_size ctx_len max_length max_seq_len max_seq_length n_ctx n_positions "
    "sequence_len sequence_length",
    "data.source": "dataset dataset_name data_path path",
    "data.val_windows": "eval_iters eval_batches",
    "model.family": "architecture arch model_type",
    "model.depth": "n_layer n_layers num_layers num_hidden_layers layers",
    "model.head_size": "head_dim n_head n_heads num_heads num_attention_heads",
    "grid.widths": "n_embd d_model hidden_size width embed_dim dim",
    "grid.tokens": "max_iters max_steps num_iterations total_steps steps train_tokens epochs num_train_epochs",
    "grid.init_seeds": "seed seeds random_seed",
    "execution.workers": "num_workers num_processes",
    "tracker.project": "wandb_project",
}
_OURS = {name: key for key, names in _ELSEWHERE.items() for name in names.split()}


def nearest_key(path: str, known: Mapping[str, object], tables: Mapping[str, Mapping[str, object]]) -> str:
    """The key that was probably meant by the unknown one at the dotted `path`, or "".

    `known` are the keys accepted there, `tables` the keys of every table by its name. A key of the same table is called by
    its name, one of another by its dotted path.
    """
    above, _, name = path.rpartition(".")
    name = name[:_LONGEST]
    plain = name.lower().replace("-", "_")
    if plain in _OURS:
        table, _, key = _OURS[plain].rpartition(".")
        return key if table == above else _OURS[plain]
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    elsewhere = [f"{table}.{plain}" for table, keys in tables.items() if plain in keys]
    return (close or elsewhere or [""])[0]


def toml_slip(text: str, message: str) -> str:
    """What is wrong with the TOML `text` that tomllib refuses with `message`: the line, and the remedy if it is a usual slip."""
    number = re.search(r"line (\d+)", message)
    lines = text.splitlines()
    if number is None or not 0 < int(number[1]) <= len(lines):
        return message
    line = lines[int(number[1]) - 1].strip()
    shown = line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
    remedy = next((found for rule in _RULES if (found := rule(line))), None)
    if remedy is None:
        return f"{message}, in {shown}"
    return f"line {number[1]}, {shown}: {remedy}"


def _typographic(line: str) -> str | None:
    written = line.translate(_PLAIN_QUOTES)
    return f"these are typographic quotes; write plain ones: {written[:_LONGEST]}" if written != line else None


def _backslash(line: str) -> str | None:
    found = re.search(r'"([^"]*\\[^"]*)"?', line)
    if found is None:
        return None
    path = found[1][:_LONGEST]
    return f"a backslash in double quotes starts an escape; write single quotes, '{path}', or / in place of each \\"


def _unit(line: str) -> str | None:
    found = re.search(rf"(?<![\w.\"'+-])({_COUNT} ?[A-Za-z]\w*)", _STRING.sub("''", line))
    return f'a number with a letter stands in quotes: "{found[1]}"' if found else None


def _decimal_comma(line: str) -> str | None:
    found = re.search(r"=\s*([+-]?\d{1,3}(?:,\d{3}){2,}|[+-]?0,\d+)\s*(?:#.*)?$", line)
    if found is None:
        return None
    written = found[1].replace(",", "." if found[1].count(",") == 1 else "_")
    return f"a comma separates the values of a list; write {written}"


def _no_brackets(line: str) -> str | None:
    found = re.search(r"=\s*([^\[\]{}#,]+(?:,[^\[\]{}#,]+)+)\s*(?:#.*)?$", line)
    return f"a list stands in brackets: [{found[1].strip()[:_LONGEST]}]" if found else None


def _half_a_number(line: str) -> str | None:
    found = re.search(r"(?<![\w.])([+-]?)(\.\d+|\d+\.)(?![\d\w])", _STRING.sub("''", line))
    if found is None:
        return None
    written = f"{found[1]}0{found[2]}" if found[2][0] == "." else f"{found[1]}{found[2]}0"
    return f"a number has digits on both sides of its point: {written}"


def _python(line: str) -> str | None:
    found = re.search(r"\b(True|False|None|null|nil|yes|no|on|off)\b", _STRING.sub("''", line.partition("=")[2]))
    if found is None:
        return None
    kind = {"True": "true", "yes": "true", "on": "true", "False": "false", "no": "false", "off": "false"}.get(found[1])
    return f"write {kind}" if kind else "TOML has no null; leave the key out"


def _colon(line: str) -> str | None:
    found = re.match(r"([A-Za-z_][\w.-]*)\s*:\s*(.*)$", line)
    return f"a key and its value have = between them: {found[1]} = {found[2][:_LONGEST]}" if found else None


def _odd_sign(line: str) -> str | None:
    odd = {
        "\u2212": "a minus sign that is no hyphen",
        "\u2013": "a dash",
        "\u00a0": "a no-break space",
        "\u3000": "a wide space",
    }
    outside = _STRING.sub("''", line)
    found = next((what for sign, what in odd.items() if sign in outside), None)
    return f"there is {found} in it; write a plain - or blank" if found else None


def _open_quote(line: str) -> str | None:
    rest = _STRING.sub("", line).partition("#")[0]
    return (
        f"a text ends with the quote that it began with; close the {rest[rest.find(q)]}"
        if (q := _quote(rest))
        else None
    )


def _quote(text: str) -> str:
    return next((sign for sign in text if sign in "\"'"), "")


def _bare_text(line: str) -> str | None:
    found = re.match(r"([A-Za-z_][\w.-]*)\s*=\s*([A-Za-z/~][^\"'\[\]{}=]*?)\s*(?:#.*)?$", line)
    return f'a text stands in quotes: {found[1]} = "{found[2][:_LONGEST]}"' if found else None


_RULES: tuple[Callable[[str], str | None], ...] = (
    _typographic,
    _backslash,
    _open_quote,
    _odd_sign,
    _colon,
    _decimal_comma,
    _unit,
    _half_a_number,
    _python,
    _no_brackets,
    _bare_text,
)
