"""Figures of a prediction against their formulas, and where softmax saturates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.audit import modified_entropy


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_modified_entropy_is_the_formula(dtype):
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(200, 5))
    y = rng.integers(0, 5, 200)
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    expected = []
    for row, label in zip(p, y, strict=True):
        value = -(1 - row[label]) * np.log(row[label])
        value -= sum(q * np.log(1 - q) for i, q in enumerate(row) if i != label)
        expected.append(value)
    found = modified_entropy(jax.nn.log_softmax(jnp.asarray(logits, dtype)), jnp.asarray(y))
    assert found.dtype == dtype
    # float32: a few units in the last place of terms up to 10.
    np.testing.assert_allclose(found, expected, rtol=2e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gap", [0.0, 20.0, 60.0])
def test_modified_entropy_stays_finite_near_one(gap, dtype):
    """Surely right: about p_other, twice; surely wrong: the gap, twice (log p_y and log(1 - p))."""
    logits = jnp.asarray([[gap, 0.0], [0.0, gap]], dtype)
    right, wrong = np.asarray(modified_entropy(jax.nn.log_softmax(logits), jnp.array([0, 0])))
    q = 1 / (1 + np.exp(gap))
    rtol = 1e-5 if dtype == np.float32 else 1e-11
    assert right == pytest.approx(-q * np.log1p(-q) - q * np.log1p(-q), rel=rtol)
    assert wrong == pytest.approx(-2 * (1 - q) * np.log(q), rel=rtol)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least two classes"):
        modified_entropy(jnp.zeros((3, 1)), jnp.zeros(3, int))
