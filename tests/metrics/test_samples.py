"""Resamples: how they are drawn, their percentiles, and few units or groups of units."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.metrics import samples
from detzoo.metrics.samples import Samples, draw_sets, method, units_of

LINE = np.arange(1, 1000) / 1000  # of S = 999 samples the 1000 q-th is q


def test_percentiles_and_p_by_hand():
    found = Samples(np.array(0.5), LINE)
    assert found.interval() == pytest.approx([0.025, 0.975])
    assert found.interval(0.5) == pytest.approx([0.25, 0.75])
    above = Samples(np.array(0.5), LINE - 0.02)  # 2% are below 0
    assert above.p_value() == pytest.approx(0.04, abs=0.002)
    below = Samples(np.array(-0.5), 0.02 - LINE)
    assert below.p_value() == pytest.approx(above.p_value())
    unknown = Samples(np.array(0.5), np.append(LINE, np.nan))
    assert unknown.interval() == found.interval()


@settings(max_examples=60, deadline=None)
@given(
    units=st.integers(1, 30),
    values=st.lists(st.floats(0, 1), min_size=2, max_size=12),
    same=st.booleans(),
)
def test_few_units_never_make_a_number_certain(units, values, same):
    """For any samples: an interval with a width that contains the estimate and is in the range, p
    no smaller than 2^(1 - units), and below 6 units 0 is inside the difference's interval."""
    values = np.array(values[:1] * 5 if same else values)
    number = Samples.from_values(values, units)
    difference = number - Samples.from_values(np.roll(values, 1) / 2, units)
    for found, (least, most) in ((number, (0, 1)), (difference, (-1, 1))):
        low, high = found.interval()
        assert least <= low < high <= most
        if units < 6:
            assert low <= found.estimate <= high
    assert difference.p_value() >= 2.0 ** (1 - units)
    if units < 6:
        low, high = difference.interval()
        assert low <= 0 <= high and difference.p_value() > 0.05


def test_one_image_has_no_p_and_six_that_agree_are_significant():
    """0.5 on every image and resample; the other way round it may be on 1 - 0.025^(1/6) of all."""
    certain = np.full(1001, 0.5)

    def difference(units):
        return Samples.from_values(certain, units) - Samples.from_values(certain * 0, units)

    assert Samples.from_values(certain, 1).interval() == [0, 1]
    assert difference(1).interval() == [-1, 1] and difference(1).p_value() == 1
    assert difference(5).p_value() == 1 / 16
    six = difference(6)
    assert six.p_value() == 1 / 32
    unseen = 1 - 0.025 ** (1 / 6)
    assert six.interval() == pytest.approx([0.5 - unseen, 0.5 + unseen])
    assert Samples.from_values(certain * 0, 100).interval() == pytest.approx([0, 1 - 0.025**0.01])


def test_the_widening_of_few_units_is_students():
    """Quantiles of Student's t at 97.5% (from tables), over the normal one, times sqrt(n/(n-1))."""
    for units, student in ((5, 2.776), (6, 2.571), (11, 2.228), (31, 2.042), (101, 1.984)):
        expected = student / 1.95996 * (units / (units - 1)) ** 0.5
        assert samples._widening(units) == pytest.approx(expected, rel=3e-3), units
    assert samples._widening(None) == samples._widening(1) == 1


def test_p_of_no_difference_and_of_a_certain_one():
    same = Samples(np.array(0.0), np.zeros(100))
    assert same.p_value() == pytest.approx(1) and same.interval() == [0, 0]
    apart = Samples(np.array(0.2), np.full(100, 0.2))
    assert apart.p_value() < 0.02 and apart.interval() == [0.2, 0.2]
    nothing = Samples(np.array(np.nan), np.full(9, np.nan))
    assert nothing.p_value() is None and nothing.interval() is None


def test_sets_of_images():
    sets = draw_sets(3, 500)
    assert sets[0].tolist() == [1, 1, 1] and (sets.sum(axis=1) == 3).all() and len(sets) == 501
    np.testing.assert_allclose(sets[1:].mean(axis=0), 1, atol=0.15)


def test_sets_of_groups_hold_whole_groups():
    """Three groups of 1, 2 and 4 images: a group drawn twice counts twice with all its images."""
    group = np.array([0, 1, 1, 2, 2, 2, 2])
    sets = draw_sets(7, 500, group=group)
    assert sets[0].tolist() == [1] * 7 and sets.shape == (501, 7) and sets.dtype == np.int32
    np.testing.assert_array_equal(sets[:, [0, 1, 3]][:, group], sets)
    assert (sets[:, [0, 1, 3]].sum(axis=1) == 3).all()
    np.testing.assert_array_equal(sets[:, [0, 1, 3]], draw_sets(3, 500))
    np.testing.assert_array_equal(draw_sets(5, 9, 4, np.arange(5)), draw_sets(5, 9, 4))


def test_units_and_words_of_groups():
    positives = np.array([[1, 0, 0, 2], [0, 0, 1, 0]])
    group = np.array([0, 1, 0, 2])
    assert units_of(positives) == 3 and units_of(positives, group) == 2
    assert units_of(positives[1], group) == 1
    assert method(1000) == "percentile bootstrap over images, 1000 resamples"
    assert method(9, group, seeds=True) == (
        "percentile bootstrap over 3 groups of images and seeds, 9 resamples"
    )
