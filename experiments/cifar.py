"""CIFAR-10: 32 x 32 colour photographs through TFDS, convolutional networks.

    python -m curvpub.main --config=experiments/cifar.py         # one GPU or TPU
    python -m curvpub.main --config=experiments/cifar.py:small   # two CPU cores, under 15 minutes

`small` draws a pool of 4,000 records (2,000 are published) and narrow networks; the full run
publishes 25,000 records. Needs the prepared data set in `TFDS_DATA_DIR`.
"""

from curvpub.config import config_dict


def get_config(size: str = "full"):
    if size not in ("full", "small"):
        raise ValueError(f"size={size!r} must be 'full' or 'small'")
    config = config_dict(
        name="cifar10",
        secret=0,  # public data: reproducible from the seed
        data={"source": "tfds", "name": "cifar10", "test_is_public": True, "duplicates": "drop"},
        model={
            "kind": "conv",
            "latent_dim": 64,
            "hidden": (512,),
            "disc_hidden": (512,),
            "channels": 128,
        },
        train={"steps": 30_000, "batch_size": 256, "learning_rate": 1e-3},
        audit={
            "classifier": "conv",
            "hidden": (256,),
            "channels": 64,
            "shadows": 64,
            "steps": 6_000,
            "batch_size": 256,
        },
    )
    if size == "small":
        config.data.update({"pool_size": 4_000, "test_size": 2_000})
        config.model.update({"latent_dim": 16, "hidden": (256,), "channels": 24})
        config.model.disc_hidden = (128,)
        # A convolutional decoder's metric costs one pass per latent: the perturbation moves in
        # training alone.
        config.lower.batch_fraction = 0.125
        config.train.update({"steps": 800, "batch_size": 64, "learning_rate": 2e-3})
        config.publish.update({"drift_steps": 0, "curvature_probes": 4})
        config.audit.update({"hidden": (128,), "channels": 16, "shadows": 8, "steps": 500})
        config.audit.batch_size = 64
    return config
