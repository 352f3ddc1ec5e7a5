"""Which columns of anyone's table a law gets."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.analysis.laws import LAWS
from testbed.errors import TableError
from testbed.points import COLUMNS, POINTS_COLUMNS, column_named, derived_columns, fit_columns, key_columns, map_columns
from tests.helpers.public_tables import SHARED, needs_shared

NDL = ("n", "tokens", "loss")


def mapped(columns, wanted=NDL, **named):
    return map_columns(
        pd.DataFrame(columns=columns if isinstance(columns, list) else columns.split()), wanted, named, "t.csv"
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("n_params n_tokens loss", {"n": "n_params", "tokens": "n_tokens", "loss": "loss"}),
        ("N D val_loss", {"n": "N", "tokens": "D", "loss": "val_loss"}),
        ("params tokens L", {"n": "params", "tokens": "tokens", "loss": "L"}),
        (
            "n_params_total n_params_non_embedding tokens loss run",
            {"n": "n_params_non_embedding", "tokens": "tokens", "loss": "loss", "run": "run"},
        ),
        ("n_params n_params_no_embed D loss", {"n": "n_params_no_embed", "tokens": "D", "loss": "loss"}),
        (["N", "Training Tokens", "Val. loss"], {"n": "N", "tokens": "Training Tokens", "loss": "Val. loss"}),
        ("N_Params_No_Embed n_params D loss", {"n": "N_Params_No_Embed", "tokens": "D", "loss": "loss"}),
        ("d n N D l L loss", {"n": "n", "tokens": "D", "loss": "loss"}),
    ],
)
def test_usual_names_are_mapped(names, expected):
    assert mapped(names) == expected


def test_what_is_given_goes_before_what_is_usual():
    assert mapped("N size D loss nll name", n="size", loss="nll", run="name", tokens=None) == {
        "n": "size",
        "tokens": "D",
        "loss": "nll",
        "run": "name",
    }


@pytest.mark.parametrize(
    ("names", "wanted", "named", "derived"),
    [
        ("n_params flops loss", NDL, {}, {"tokens": "flops / (6 * n_params)"}),
        ("N tokens_per_param C loss", NDL, {}, {"tokens": "tokens_per_param * N"}),
        ("D C loss", NDL, {}, {"n": "C / (6 * D)"}),
        ("N D loss", ("flops", "loss"), {}, {"flops": "6 * N * D"}),
        ("N D loss", ("tokens_per_param", "loss"), {}, {"tokens_per_param": "D / N"}),
        (["N", "C (FLOP)", "loss"], NDL, {"flops": "C (FLOP)"}, {"tokens": "`C (FLOP)` / (6 * N)"}),
        ("a b flops loss", NDL, {"n": "a + b"}, {"n": "a + b", "tokens": "flops / (6 * (a + b))"}),
        ("in N loss", ("n", "unique_tokens", "loss"), {"unique_tokens": "`in` / 4"}, {"unique_tokens": "`in` / 4"}),
        ("D epochs loss", ("unique_tokens", "loss"), {}, {"unique_tokens": "D / epochs"}),
        ("acc loss", ("loss", "error"), {}, {"error": "1 - acc"}),
        ("kl reward", ("distance", "reward"), {}, {"distance": "kl ** 0.5"}),
    ],
)  # fmt: skip
def test_what_a_table_lacks_is_computed_and_visible(names, wanted, named, derived):
    table = pd.DataFrame(columns=names if isinstance(names, list) else names.split())
    assert derived_columns(table, map_columns(table, wanted, named, "t")) == derived


def test_computed_columns_are_right():
    table = pd.DataFrame({"n_params": [2e6, 5e6], "flops": [1.2e15, 6e15], "loss": [3.0, 2.5]})
    points = fit_columns(
        table, map_columns(table, (*NDL, "tokens_per_param"), {"tokens_per_param": "flops/6/n_params**2"}, "t"), "t"
    )
    np.testing.assert_allclose(points["tokens"], [1e8, 2e8], rtol=1e-15)
    np.testing.assert_allclose(points["tokens_per_param"], [50, 40], rtol=1e-15)


@given(st.data())
def test_every_derivation_undoes_what_it_came_from(data):
    """From any columns that fix n, tokens, flops, epochs and so on, the others come out the same."""
    number = st.floats(1e3, 1e12)
    n, tokens, epochs = data.draw(number), data.draw(number), data.draw(st.floats(1, 100))
    n_total, accuracy, kl = (
        n * data.draw(st.floats(1, 50)),
        data.draw(st.floats(0.01, 0.99)),
        data.draw(st.floats(0.1, 9)),
    )
    batch = data.draw(st.floats(1e2, 1e6))
    truth = {
        "batch_tokens": batch, "step": tokens / batch, "steps": tokens / batch,
        "n": n, "tokens": tokens, "flops": 6 * n * tokens, "tokens_per_param": tokens / n, "epochs": epochs,
        "unique_tokens": tokens / epochs, "accuracy": accuracy, "error": 1 - accuracy, "kl": kl, "distance": kl**0.5,
        "n_active": n, "n_total": n_total, "activation_ratio": n / n_total,
        "loss": np.log(tokens), "bpb": np.log(tokens), "perplexity": tokens,
    }  # fmt: skip
    name = data.draw(st.sampled_from(sorted(each.name for each in COLUMNS if each.derived)))
    table = pd.DataFrame({column: [value] for column, value in truth.items() if column != name})
    for template in column_named(name).derived:
        needed = [column for column in truth if re.search(rf"\b{column}\b", template)]
        mapping = map_columns(table[needed], (name,), {}, "t")
        assert mapping == {name: template}
        assert fit_columns(table, mapping, "t")[name][0] == pytest.approx(truth[name], rel=1e-13)


@given(st.data())
def test_usual_names_in_any_order_and_spelling_are_mapped(data):
    wanted = tuple(
        data.draw(st.permutations(["tokens", "loss", "peak_lr", "batch_tokens", "steps", "step", "vocab_size"]))
    )
    spelled = {name: data.draw(st.sampled_from(column_named(name).names)) for name in wanted}
    for name, spelling in spelled.items():
        if len(spelling) > 3:
            spelled[name] = data.draw(
                st.sampled_from([spelling, spelling.upper(), spelling.replace("_", " "), spelling.title()])
            )
    columns = data.draw(st.permutations(list(spelled.values())))
    assert mapped(list(columns), wanted) == spelled
    assert mapped(list(columns), wanted, **spelled) == spelled


def test_every_name_is_usual_for_itself_and_is_found_by_its_option():
    for each in COLUMNS:
        name = each.name
        assert len(set(each.names)) == len(each.names)
        assert mapped([name], (name,)) == {name: name}
        assert mapped(["odd name"], (name,), **{name: "odd name"}) == {name: "odd name"}
    assert len({each.name for each in COLUMNS}) == len(COLUMNS)


def test_every_law_of_the_library_has_usual_names_for_its_columns():
    for law in LAWS.values():
        assert {*law.columns, law.response} <= {each.name for each in COLUMNS if each.spellings}, law.name


def test_a_law_of_ones_own_has_its_own_columns():
    assert mapped("warmth loss", ("warmth", "loss")) == {"warmth": "warmth", "loss": "loss"}
    with pytest.raises(TableError, match=r"no column for warmth \(looked for warmth\).*--column warmth=COLUMN"):
        mapped("N loss", ("warmth", "loss"))


def test_a_column_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(
        TableError,
        match=r"t\.csv: no column for loss \(looked for loss, val_loss.*the table has N, D, accuracy; name one with --loss",
    ):
        mapped("N D accuracy")
    for given_n in ("size", "size + 1", "size of it", "", "7"):
        with pytest.raises(
            TableError,
            match=rf"no column for n \(looked for {re.escape(given_n)}\); the table has N, D, loss; .* --n C",
        ):
            mapped("N D loss", n=given_n)
    with pytest.raises(TableError, match=r"no column for peak_lr .*; name one with --column peak_lr=COLUMN"):
        mapped("N D loss", (*NDL, "peak_lr"))
    with pytest.raises(TableError, match=r"no column for run .*; name one with --run COLUMN"):
        mapped("step loss", ("run", "step", "loss"))
    with pytest.raises(TableError, match=r"the table has c0, c1, .*, c59 and 4940 more; name"):
        mapped([f"c{i}" for i in range(5000)])


def test_choices_that_cannot_be_made_are_told():
    with pytest.raises(TableError, match="Val Loss and val-loss could each be loss; name one with --loss COLUMN"):
        mapped(["N", "D", "Val Loss", "val-loss"])
    with pytest.raises(
        TableError, match="column N is taken for both n and tokens; name another with --n COLUMN or --d COLUMN"
    ):
        mapped("N D loss", tokens="N")
    with pytest.raises(TableError, match="2 columns loss; the table has loss, N, D, loss"):
        mapped("loss N D loss")
    with pytest.raises(TableError, match="2 columns x; the table has"):
        mapped("loss N D x x", n="x")
    with pytest.raises(
        TableError, match="found a column given for los; accepted: n, tokens, loss, run, width, unique_tokens"
    ):
        mapped("loss N D", los="loss")
    assert mapped("loss N D other other") == {"n": "N", "tokens": "D", "loss": "loss"}


@needs_shared
@pytest.mark.parametrize(
    ("path", "wanted", "expected"),
    [
        ("chinchilla_epoch/runs", NDL, "n_params n_tokens loss run_id"),
        ("gadre_overtraining/runs", ("n", "tokens_per_param"), "n_params_no_embed tokens_per_param run_id"),
        ("gemstones/checkpoints", ("n", "tokens", "flops", "step"), "n_params_no_embed n_tokens flops_6nd step run_id"),
        ("llama3_isoflop/runs", ("flops", *NDL), "flops_budget n_params n_tokens loss run_id"),
        ("misfitting/checkpoints", ("n", "peak_lr", "steps", "step"), "n_params_no_embed peak_lr total_steps step run_id"),
        ("multipowerlaw_lr_schedules/curves", ("run", "step", "lr_at_step", "lr_sum", "loss"), "step lr cum_lr loss run_id"),
        ("porian_isoflop/isoflop", ("flops", *NDL), "flops n_params n_tokens loss"),
        ("datablations_repeated/runs", ("unique_tokens", *NDL), "n_unique_tokens n_params n_tokens loss run_id"),
        ("routed_lm/curves", ("n_dense", "experts", "n_total", "loss"), "n_params_dense num_experts n_params_total loss run_id"),
        ("steplaw_lr_bs/dense", ("peak_lr", "batch_tokens", "steps"), "lr batch_tokens steps run_id"),
        ("steplaw_lr_bs/moe", ("n_active", "n_total"), "n_params_active_no_embed n_params_total_no_embed run_id"),
        ("vocab_scaling/checkpoints", ("n_non_vocab", "n_vocab"), "n_params_non_vocab n_params_vocab run_id"),
        ("bnsl_4digit_addition/points", ("tokens", "loss"), "dataset_size test_loss"),
    ],
)  # fmt: skip
def test_public_tables_need_no_naming(path, wanted, expected):
    table = pd.read_csv(SHARED / "data" / f"{path}.csv")
    assert list(map_columns(table, wanted, {}, path).values()) == expected.split()


def test_a_rate_is_the_peak_for_laws_of_peaks_and_the_logged_one_for_laws_of_curves():
    assert mapped("lr", ("peak_lr",)) == {"peak_lr": "lr"}
    assert mapped("step lr", ("step", "lr_at_step")) == {"step": "step", "lr_at_step": "lr"}
    assert mapped("lr max_lr", ("peak_lr",)) == {"peak_lr": "max_lr"}
    assert mapped(list(POINTS_COLUMNS), ("peak_lr",))["peak_lr"] == "peak_lr"
    with pytest.raises(TableError, match=r"column lr is taken for both peak_lr and lr_at_step"):
        mapped("step lr", ("peak_lr", "lr_at_step"))
    for name in ("lr_at_step lr_sum", "peak_lr_of_head"):
        with pytest.raises(TableError, match="no column for peak_lr"):
            mapped(name, ("peak_lr",))


def test_a_column_may_be_given_by_any_of_its_names():
    assert mapped("N D loss rate", ("n", "peak_lr"), lr="rate")["peak_lr"] == "rate"
    assert mapped("step rate", ("step", "lr_at_step"), lr="rate")["lr_at_step"] == "rate"
    assert mapped("size D loss", n_params="size")["n"] == "size"
    assert mapped("warm lr", ("lr", "warm")) == {"lr": "lr", "warm": "warm"}  # a user's law that says lr
    assert mapped(list(POINTS_COLUMNS), ("lr",))["lr"] == "peak_lr"
    with pytest.raises(TableError, match="found a and b given for peak_lr; give one of them"):
        mapped("a b", ("peak_lr",), lr="a", peak_lr="b")


def test_keys_of_the_configuration_have_columns():
    assert key_columns(["train.lr", "data.zipf.exponent"]) == {"train.lr": "peak_lr", "data.zipf.exponent": "exponent"}
    assert key_columns(["data.a.share", "data.b.share"]) == {
        "data.a.share": "data_a_share",
        "data.b.share": "data_b_share",
    }
