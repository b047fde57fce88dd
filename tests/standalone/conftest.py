"""Small files to audit: digits as arrays, and a table of people in several formats."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from sklearn.datasets import load_digits

from curvpub.deform import deform


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory):
    """Private records, non-members, and three releases: the records, others, deformed copies."""
    folder = tmp_path_factory.mktemp("digits")
    x, y = load_digits().images / 16, load_digits().target
    order = np.random.default_rng(0).permutation(len(y))
    rows = {"private": order[:300], "nonmembers": order[300:600], "twin": order[600:900]}
    rows["raw"] = rows["private"][::-1]
    for name, index in rows.items():
        np.savez(folder / f"{name}.npz", x=x[index].astype(np.float32), y=y[index])
    images = jnp.asarray(x[rows["private"]], jnp.float32)[..., None]
    keys = jax.random.split(jax.random.key(0), 2 * len(images))
    bent = jax.vmap(lambda k, i: deform(k, i, warp=0.5, elastic=0.6))(
        keys, jnp.concatenate([images, images])
    )
    np.savez(folder / "augmented.npz", x=bent[..., 0], y=np.tile(y[rows["private"]], 2))
    return folder


def people(seed, count):
    """Job and income follow the age; the city is noise; the label follows the income."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, count)
    income = np.round(np.exp(rng.normal(size=count) + age / 40), 3)
    return pandas.DataFrame(
        {
            "age": age,
            "job": np.where(age > 50, rng.choice(["boss", "clerk"], count), "clerk"),
            "income": income,
            "city": rng.choice(["x", "y", "z"], count),
            "rich": np.where(income > 5, "yes", "no"),
        }
    )


@pytest.fixture(scope="session")
def people_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    everybody = people(2, 900)
    parts = {"private": everybody[:300], "nonmembers": everybody[300:600], "twin": everybody[600:]}
    parts["raw"] = parts["private"][::-1]
    for name, part in parts.items():
        part.to_csv(folder / f"{name}.csv", index=False)
        part.to_parquet(folder / f"{name}.parquet")
    return folder
