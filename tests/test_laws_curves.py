"""Laws of whole loss curves against their definitions and the curves of nine schedules."""

import numpy as np
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.laws import LAWS
from testbed.errors import TableError
from tests.helpers.evaluation import objective, table, value
from tests.helpers.public_tables import needs_shared

# Luo et al., arXiv:2503.12811: the parameters of their released fits, and the mean relative error over their test schedules.
MULTI_POWER = {
    "25M": ((3.04045, 0.52469, 0.50787, 363.788, 2.06561, 0.58279, 0.64142), 0.00110),
    "100M": ((2.65145, 0.60115, 0.45296, 437.946, 2.13246, 0.59786, 0.65524), 0.00142),
    "400M": ((2.37474, 0.65421, 0.42879, 523.425, 2.02463, 0.59350, 0.63472), 0.00168),
}
MULTI_POWER_NAMES = ("L0", "A", "alpha", "B", "C", "beta", "gamma")


def schedule(kind, steps=3000, warmup=300, peak=6e-4, end=6e-5, begin=1801):
    """The LR at every step from 0."""
    step = np.arange(steps + 1.0)
    share = np.clip((step - begin) / (steps - begin), 0, 1)
    if kind == "cosine":
        after = end + (peak - end) * (1 + np.cos(np.pi * np.clip((step - warmup) / (steps - warmup), 0, 1))) / 2
    else:
        fall = {
            "constant": 0 * step,
            "jump": 1.0 * (step >= begin),
            "linear": share,
            "to zero": share / (1 - end / peak),
        }
        after = peak + (end - peak) * fall[kind]
    return np.where(step < warmup, peak * step / warmup, after)


def logged(lr, rows, run="r"):
    """Columns of a curve's rows."""
    return {"run": np.full(len(rows), run), "step": rows * 1.0, "lr_at_step": lr[rows], "lr_sum": np.cumsum(lr)[rows]}


KINDS = ("constant", "jump", "linear", "to zero", "cosine")
TISSUE = {"L0": 2.6, "A": 0.43, "C": 0.41, "alpha": 0.55, "lambda": 0.999}
LUO = dict(zip(MULTI_POWER_NAMES, MULTI_POWER["25M"][0], strict=True))


def tissue_by_definition(lr, momentum=0.999):
    warm = np.arange(len(lr)) <= lr.argmax()
    drops, area, gained = np.where(warm, 0.0, -np.diff(lr, prepend=0.0)), [], 0.0
    for drop in drops:
        gained = momentum * gained + drop
        area.append(gained)
    with np.errstate(divide="ignore"):
        return TISSUE["L0"] + TISSUE["A"] * np.cumsum(lr) ** -TISSUE["alpha"] - TISSUE["C"] * np.cumsum(area)


def luo_by_definition(lr, row, theta=LUO):
    total = np.cumsum(lr)
    k = np.arange(1, row + 1)
    k = k[lr[k] > 0]
    age = total[row] - total[k - 1]
    reached = 1 - (1 + theta["C"] * lr[k] ** -theta["gamma"] * age) ** -theta["beta"]
    annealed = ((lr[k - 1] - lr[k]) * reached).sum()
    return theta["L0"] + theta["A"] * total[row] ** -theta["alpha"] - theta["B"] * annealed


@pytest.mark.parametrize("kind", KINDS)
def test_annealing_law_of_every_step_is_its_definition(kind):
    lr = schedule(kind)
    rows = np.arange(1, len(lr))
    np.testing.assert_allclose(value("tissue", TISSUE, logged(lr, rows)), tissue_by_definition(lr)[rows], rtol=1e-9)
    for decay in (0.6, 0.99, 0.99999):
        by_decay = value("tissue", TISSUE | {"lambda": decay}, logged(lr, rows))
        np.testing.assert_allclose(by_decay, tissue_by_definition(lr, decay)[rows], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [1, 400])
def test_curves_do_not_depend_on_how_often_they_were_logged(kind, first):
    lr = schedule(kind)
    rows = np.append(np.arange(first, len(lr) - 1, 128), len(lr) - 1)
    sparse = logged(lr, rows)
    unseen = 3e-4 if kind == "cosine" else 1e-4  # the peak lies between rows, and what falls before the next one
    np.testing.assert_allclose(value("tissue", TISSUE, sparse), tissue_by_definition(lr)[rows], rtol=unseen)
    exact = [luo_by_definition(lr, row) for row in rows]
    np.testing.assert_allclose(value("multi_power", LUO, sparse)[1:], exact[1:], rtol=4e-4)


def test_curves_of_several_runs_may_be_shuffled():
    parts = [logged(schedule(kind), np.arange(400, 3001, 100), kind) for kind in KINDS]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.random.default_rng(0).permutation(len(columns["step"]))
    shuffled = {name: values[order] for name, values in columns.items()}
    for name, theta in (("tissue", TISSUE), ("multi_power", LUO)):
        apart = np.concatenate([value(name, theta, part) for part in parts])
        np.testing.assert_allclose(value(name, theta, shuffled), apart[order], rtol=1e-12)


@pytest.mark.parametrize("name", ["tissue", "multi_power"])
def test_an_lr_sum_that_is_no_sum_is_refused(name):
    curve = logged(schedule("cosine"), np.arange(400, 3001, 200))
    with pytest.raises(TableError, match=r"run r: lr_sum is .* at step 1400; it must be above 0 and grow"):
        LAWS[name].prepare({**curve, "lr_sum": np.where(curve["step"] == 1400, 0.001, curve["lr_sum"])})
    with pytest.raises(TableError, match=r"run r: steps from 400, lr_at_step from -0\.000598174 to -6e-05; give both"):
        LAWS[name].prepare({**curve, "lr_at_step": -curve["lr_at_step"]})


def curves(model):
    rows = table("multipowerlaw_lr_schedules/curves.csv").rename(
        columns={"run_id": "run", "cum_lr": "lr_sum", "lr": "lr_at_step"}
    )
    rows = rows[rows["model"] == model]
    return rows[rows["published_split"] == "train"], rows[rows["published_split"] == "test"]


def mean_error(predicted, rows):
    """Mean relative error of each schedule, averaged."""
    return (np.abs(predicted / rows["loss"] - 1)).groupby(rows["schedule"]).mean().mean()


@needs_shared
@pytest.mark.parametrize("model", MULTI_POWER)
def test_published_multi_power_law_errs_as_published(model):
    published, error = MULTI_POWER[model]
    _, test = curves(model)
    predicted = value("multi_power", dict(zip(MULTI_POWER_NAMES, published, strict=True)), test)
    assert mean_error(predicted, test) == pytest.approx(error, abs=3e-5)


def published_schedule(name):
    """The LR at every step of one of the authors' schedules, as their repository makes it."""
    kind, *numbers = name.split("_")
    total = {"wsdcon": 16000}.get(kind) or int(numbers[-1])
    step, peak, end = np.arange(total + 1.0), 3e-4, 3e-5
    share = np.clip((step - 20000) / (total - 20000), 0, 1) if kind in ("wsd", "wsdld") else step / total
    after = {
        "constant": peak + 0 * step,
        "cosine": end + (peak - end) * (1 + np.cos(np.pi * np.clip((step - 2160) / (total - 2160), 0, 1))) / 2,
        "wsd": peak ** (1 - share) * end**share,
        "wsdld": peak + (end - peak) * share,
        "wsdcon": np.where(step < 8000, peak, int(numbers[0]) * 1e-5),
    }[kind]
    return np.where(step < 2160, peak * step / 2160, after)


@needs_shared
@pytest.mark.parametrize("model", MULTI_POWER)
@pytest.mark.slow
def test_published_multi_power_law_at_every_step_errs_as_published_to_the_digit(model):
    published, error = MULTI_POWER[model]
    theta = dict(zip(MULTI_POWER_NAMES, published, strict=True))
    _, test = curves(model)
    predicted = np.empty(len(test))
    for name in test["schedule"].unique():
        rows, lr = np.flatnonzero(test["schedule"] == name), published_schedule(name)
        np.testing.assert_allclose(test["lr_at_step"].to_numpy()[rows], lr[test["step"].to_numpy()[rows]], rtol=1e-4)
        predicted[rows] = [luo_by_definition(lr, row, theta) for row in test["step"].to_numpy()[rows]]
    assert mean_error(predicted, test) == pytest.approx(error, abs=6e-6)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("model", MULTI_POWER)
def test_multi_power_law_fitted_to_three_schedules_predicts_six_others(model):
    """The released parameters are far from the optimum of their own objective, 2 to 10 times above it.

    At the optimum the two schedules that decay at the end of 24000 steps are predicted 1.5 to 3 times better than
    with them, cosine_72000, three times longer than any fitted, 1.5 to 3 times worse: they were stopped early.
    The optimum is searched everywhere for one model, and next to the released parameters for the others.
    """
    published, error = MULTI_POWER[model]
    theta = dict(zip(MULTI_POWER_NAMES, published, strict=True))
    train, test = curves(model)
    released = value("multi_power", theta, train)
    fit = fit_law("multi_power", train, start=None if model == "25M" else theta, n_boot=0)
    assert fit.converged
    assert fit.objective < 0.45 * objective(np.log(train["loss"] / released))
    assert mean_error(fit.predict(test), test) < 1.3 * error
    decays = test[test["schedule"].str.startswith("wsd_") | test["schedule"].str.startswith("wsdld")]
    assert mean_error(fit.predict(decays), decays) < 0.0009
    longest = test[test["schedule"] == "cosine_72000"]
    end = longest["step"] > 71000
    assert fit.predict(longest)[end].mean() == pytest.approx(longest["loss"][end].mean(), rel=0.009)


# With lambda fitted, and held at the paper's: mean relative errors over six schedules that were not fitted.
TISSUE_ERRORS = {"25M": (0.00130, 0.00141), "100M": (0.00144, 0.00153), "400M": (0.00231, 0.00228)}


@needs_shared
@pytest.mark.parametrize("model", TISSUE_ERRORS)
def test_annealing_law_fitted_to_three_schedules_predicts_six_others(model):
    """Curves of 24,000 steps and more put lambda near the paper's 0.999; L0 moves with it, the errors hardly do."""
    train, test = curves(model)
    near = TISSUE | {"L0": train["loss"].min() - 0.2}
    held = fit_law("tissue", train, n_boot=0, fixed={"lambda": 0.999}, start=near)
    fitted = fit_law("tissue", train, n_boot=0, start=near)
    assert held.theta["lambda"] == 0.999
    assert 0.9975 < fitted.theta["lambda"] < 0.999
    assert fitted.objective < held.objective
    for fit, error in zip((fitted, held), TISSUE_ERRORS[model], strict=True):
        assert fit.converged
        assert mean_error(fit.predict(test), test) == pytest.approx(error, abs=2e-5)
        longest = test[test["schedule"] == "cosine_72000"]
        end = longest["step"] > 71000
        assert fit.predict(longest)[end].mean() == pytest.approx(longest["loss"][end].mean(), rel=0.006)
