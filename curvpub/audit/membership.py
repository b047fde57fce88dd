"""Who is a member of which shadow."""

import numpy as np


def complementary_pairs(
    rng: np.random.Generator, *, num_shadows: int, num_records: int
) -> np.ndarray:
    """Random halves of a pool in complementary pairs.

    Shadows `2 j` and `2 j + 1` hold the two halves of one random split, so that every record is a
    member of exactly half the shadows.

    Args:
      rng: source of the splits.
      num_shadows: K, even.
      num_records: N, even.

    Returns:
      Membership, bool `[K, N]`.

    Raises:
      ValueError: an odd number.
    """
    for name, value in (("num_shadows", num_shadows), ("num_records", num_records)):
        if value < 2 or value % 2:
            raise ValueError(f"{name}={value!r} must be even and at least 2")
    member = np.zeros((num_shadows, num_records), bool)
    for pair in range(num_shadows // 2):
        half = rng.permutation(num_records)[: num_records // 2]
        member[2 * pair, half] = True
        member[2 * pair + 1] = ~member[2 * pair]
    return member


def check_design(member: np.ndarray) -> None:
    """Checks that a membership matrix consists of complementary pairs.

    Raises:
      ValueError: shape, type or pairing is wrong.
    """
    if member.ndim != 2 or member.dtype != np.bool_:
        raise ValueError(f"member must be a bool matrix [K, N], got {member.dtype} {member.shape}")
    if member.shape[0] % 2 or not np.array_equal(member[0::2], ~member[1::2]):
        raise ValueError("member must consist of complementary pairs of rows 2 j and 2 j + 1")
