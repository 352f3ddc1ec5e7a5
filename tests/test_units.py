import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.units import parse_count, parse_seconds, show_count, show_seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10M", 10_000_000),
        ("0.5M", 500_000),
        ("1.2e18", 12 * 10**17),
        (2e6, 2_000_000),
        (7, 7),
        ("1_000", 1000),
        ("3b", 3 * 10**9),
    ],
)
def test_counts_are_read_as_people_write_them(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize(
    "text", ["", "ten", "1.5", "-3", "nan", "inf", None, True, [1], "1e", "0x10", 1.5, float("nan")]
)
def test_what_is_no_count_is_refused(text):
    with pytest.raises(ValueError, match="count is a"):
        parse_count(text)


@given(st.integers(1, 10**18))
def test_an_integer_is_taken_as_it_is(value):
    assert parse_count(value) == value


@given(st.floats(1, 1e17))
def test_shown_counts_read_back_to_three_digits(value):
    shown = show_count(value)
    number, suffix = (shown[:-1], shown[-1]) if shown[-1] in "kMBT" else (shown, "")
    scale = {"": 1, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[suffix]
    assert float(number) * scale == pytest.approx(value, rel=6e-3)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(999, "999"), (1000, "1k"), (999_999, "1M"), (2_048_000, "2.05M"), (1.2e18, "1.20e18"), (float("inf"), "inf")],
)
def test_show_count(value, shown):
    assert show_count(value) == shown


def test_show_count_to_fewer_digits():
    assert [show_count(value, 2) for value in (57.3e9, 114e9, 1.05e12)] == ["57B", "110B", "1.1T"]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.31, "0.3 s"), (59.7, "1 m 00 s"), (75.2, "1 m 15 s"), (7260, "2 h 01 m")]
)
def test_show_seconds(value, shown):
    assert show_seconds(value) == shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90 s", 90), ("4h", 14_400), ("1 h 30 m", 5400), ("2d", 172_800), ("1.5H", 5400), (75, 75), (0.5, 0.5)],
)
def test_times_are_read_as_people_write_them(text, seconds):
    assert parse_seconds(text) == seconds


@given(st.integers(10, 10**7))
def test_shown_times_read_back(seconds):
    assert parse_seconds(show_seconds(seconds)) == pytest.approx(seconds, abs=60 if seconds >= 3600 else 0)


@pytest.mark.parametrize(
    "text", ["", "4", "h", "4 x", "4 h x", "-1 h", -1, True, None, [1], float("inf"), float("nan")]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="a time is"):
        parse_seconds(text)
