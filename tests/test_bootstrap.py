import numpy as np
import pytest
import scipy.stats

from gan_color import bootstrap


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(1).gamma(2, 3, size=(200, 2))
    resampled = bootstrap.resampled_means(values)
    for column in (0, 1):
        reference = scipy.stats.bootstrap(
            (values[:, column],), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
        ).confidence_interval
        width = reference.high - reference.low
        assert bootstrap.interval(resampled[:, column]) == pytest.approx(reference, abs=0.08 * width)


def test_every_measure_is_drawn_alike_and_every_time():
    values = np.random.default_rng(1).normal(size=(30, 1))
    resampled = bootstrap.resampled_means(np.concatenate([values, 2 * values + 1], axis=1))
    np.testing.assert_allclose(resampled[:, 1], 2 * resampled[:, 0] + 1)
    np.testing.assert_array_equal(bootstrap.resampled_means(values), bootstrap.resampled_means(values))


def test_what_does_not_vary_has_no_width():
    assert bootstrap.interval(bootstrap.resampled_means(np.full((7, 1), 3.5))[:, 0]) == pytest.approx((3.5, 3.5))
