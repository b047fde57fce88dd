"""Complementary pairs."""

import numpy as np
import pytest

from curvpub.audit import complementary_pairs
from curvpub.audit.membership import check_design


def test_every_record_is_a_member_of_half_the_shadows():
    member = complementary_pairs(np.random.default_rng(0), num_shadows=10, num_records=34)
    assert member.shape == (10, 34)
    assert member.dtype == np.bool_
    assert (member.sum(axis=0) == 5).all()
    assert (member.sum(axis=1) == 17).all()
    np.testing.assert_array_equal(member[0::2], ~member[1::2])
    check_design(member)


def test_splits_are_independent_and_uniform():
    member = complementary_pairs(np.random.default_rng(1), num_shadows=4000, num_records=6)
    first = member[0::2]
    # Share of splits that hold a record, and two records: 1/2, and 1/2 * 2/5; 2,000 splits.
    together = first.T.astype(float) @ first / len(first)
    expected = np.where(np.eye(6, dtype=bool), 0.5, 0.2)
    np.testing.assert_allclose(together, expected, atol=4.5 * 0.5 / np.sqrt(2000))


def test_same_seed_same_design():
    one, two = (
        complementary_pairs(np.random.default_rng(3), num_shadows=4, num_records=8)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("shadows", "records", "message"),
    [(7, 10, "num_shadows=7"), (0, 10, "num_shadows=0"), (4, 9, "num_records=9")],
)
def test_odd_numbers(shadows, records, message):
    with pytest.raises(ValueError, match=f"{message} must be even"):
        complementary_pairs(np.random.default_rng(0), num_shadows=shadows, num_records=records)
