"""Adult: 14 columns of the 1994 US census, six numeric and eight categorical, through TFDS.

    python -m curvpub.main --config=experiments/adult.py         # one GPU or TPU
    python -m curvpub.main --config=experiments/adult.py:small   # two CPU cores, 4 to 25 minutes

`small` draws a pool of 4,000 records (2,000 are published); the full run publishes half of 32,000.
Needs the prepared data set in `TFDS_DATA_DIR`.
"""

from curvpub.config import config_dict


def get_config(size: str = "full"):
    if size not in ("full", "small"):
        raise ValueError(f"size={size!r} must be 'full' or 'small'")
    config = config_dict(
        name="adult",
        secret=0,  # public data: reproducible from the seed
        data={"source": "tfds", "name": "adult", "test_is_public": True, "duplicates": "drop"},
        model={"latent_dim": 16, "label_scale": 3.0, "x_sigma": 0.3},
        train={"steps": 10_000, "batch_size": 256},
        audit={"shadows": 64, "steps": 4_000, "batch_size": 256},
    )
    if size == "small":
        config.data.pool_size = 4_000
        config.train.update({"steps": 1_500, "batch_size": 128})
        config.audit.update({"shadows": 16, "steps": 600, "batch_size": 128})
    return config
