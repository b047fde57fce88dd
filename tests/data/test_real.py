"""The real data in `TFDS_DATA_DIR`, against what is known of them."""

import os
import subprocess
import sys

import numpy as np
import pytest

from curvpub import data
from curvpub.config import DataConfig

pytestmark = pytest.mark.tfds
FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
CIFAR = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
# Published figures: mean pixel, classes.
IMAGES = {
    "mnist": ((28, 28, 1), [0.1307], "0,1,2,3,4,5,6,7,8,9"),
    "fashion_mnist": ((28, 28, 1), [0.2860], FASHION),
    "cifar10": ((32, 32, 3), [0.4914, 0.4822, 0.4465], CIFAR),
}


def load(name, seed=0, **settings):
    config = DataConfig(source="tfds", name=name, duplicates="drop", **settings)
    return data.load(config, seed=seed)


@pytest.mark.parametrize("name", IMAGES)
def test_image_sets(name):
    shape, mean, classes = IMAGES[name]
    dataset = load(name, pool_size=2000, test_size=500)
    assert dataset.schema.shape == shape
    assert dataset.schema.classes == tuple(classes.split(","))
    assert dataset.pool.x.shape == (2000, *shape)
    assert dataset.test.x.shape == (500, *shape)
    assert dataset.pool.x.min() == 0
    assert dataset.pool.x.max() == 1
    # An image's own mean varies by about 0.15, a mean over 2,000 by 0.0034: four standard errors.
    np.testing.assert_allclose(dataset.pool.x.mean(axis=(0, 1, 2)), mean, atol=0.0136)
    again = load(name, pool_size=2000, test_size=500)
    np.testing.assert_array_equal(again.pool.x, dataset.pool.x)
    other = load(name, seed=1, pool_size=2000, test_size=20)
    assert not np.array_equal(other.pool.y, dataset.pool.y)


def test_mnist_as_a_whole():
    dataset = load("mnist")
    assert (len(dataset.pool), len(dataset.test)) == (60_000, 10_000)
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(dataset.pool.y).tolist() == train
    assert np.bincount(dataset.test.y).tolist() == test


def test_adult_as_a_whole():
    dataset = load("adult")
    # 24 of 32,561 rows repeat an earlier one (32,537 distinct, one dropped for an even pool).
    assert len(dataset.pool) == 32_536
    assert dataset.schema.classes == ("<=50K", ">50K")
    numeric = [c.name for c in dataset.schema.columns if not c.categories]
    expected = "age,fnlwgt,education_num,capital_gain,capital_loss,hours_per_week"
    assert numeric == expected.split(",")
    assert all(c.integer != bool(c.categories) for c in dataset.schema.columns)
    index = {c.name: i for i, c in enumerate(dataset.schema.columns)}
    age, sex = dataset.pool.x[:, index["age"]], dataset.pool.x[:, index["sex"]]
    assert (age.min(), age.max()) == (17, 90)
    # 10,771 women and 7,841 earners above 50K among the 32,561 rows; copies and one row are gone.
    sexes = dataset.schema.columns[index["sex"]].categories
    assert 10_771 - 25 <= np.sum(sex == sexes.index("Female")) <= 10_771
    assert 7_841 - 25 <= np.sum(dataset.pool.y) <= 7_841
    assert 16_281 - 30 <= len(dataset.test) < 16_281
    with pytest.raises(ValueError, match=r"24 of 32561 pool records and 28 of 16281 test records"):
        data.load(DataConfig(source="tfds", name="adult"), seed=0)


def test_the_sizes_of_adult():
    with pytest.raises(ValueError, match="pool_size=32562 but only 32561 records are there"):
        load("adult", pool_size=32_562)
    with pytest.raises(ValueError, match="test_size=16282 but only 16281 records are there"):
        load("adult", test_size=16_282)
    with pytest.raises(ValueError, match="pool_size=32560 but only 32537 distinct records"):
        load("adult", pool_size=32_560)


def test_neither_tensorflow_nor_the_network_is_touched():
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
from curvpub import data
from curvpub.config import DataConfig
for name in ("mnist", "adult"):
    config = DataConfig(source="tfds", name=name, pool_size=200, test_size=20, duplicates="drop")
    assert len(data.load(config, seed=0).pool) == 200
try:
    data.load(DataConfig(source="tfds", name="emnist/letters"), seed=0)
except FileNotFoundError:
    pass
print("tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
