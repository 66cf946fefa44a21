"""How sure a mean over photographs is: bootstrap intervals."""

import numpy as np

RESAMPLES, SEED = 1000, 0


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Means over photographs that are drawn with replacement; always the same draws for the same number.

    Args:
        values: (N, K) float, a row a photograph.

    Returns:
        (1000, K) float64: the means of each of 1,000 resamples.

    Source: Efron & Tibshirani, "An introduction to the bootstrap", 1993, ch. 13.
    """
    chance = np.random.default_rng(SEED)
    means = np.empty((RESAMPLES, values.shape[1]))
    for i in range(RESAMPLES):
        drawn = np.bincount(chance.integers(len(values), size=len(values)), minlength=len(values))
        means[i] = drawn @ values / len(values)
    return means


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of a figure's resamples, (R,) float."""
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)
