"""CIFAR-10: 32 x 32 colour photographs through TFDS.

    python -m curvpub.main --config=experiments/cifar.py         # one GPU or TPU
    python -m curvpub.main --config=experiments/cifar.py:small   # two CPU cores

The full run publishes 25,000 records with convolutional networks. `small` draws a pool of 4,000
records (2,000 are published) and uses multilayer perceptrons: with `--config.audit.classifier=conv`
models of records are more accurate, and take longer to train. Needs the prepared data set in
`TFDS_DATA_DIR`.
"""

from curvpub.config import PUBLISHED_IMAGES, config_dict


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
            "kl_weight": 4.0,
        },
        publish=PUBLISHED_IMAGES,
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
        config.model.update({"kind": "mlp", "latent_dim": 16, "hidden": (256, 256)})
        config.model.disc_hidden = (256, 256)
        config.train.update({"steps": 800, "batch_size": 128, "learning_rate": 2e-3})
        config.publish.drift_steps = 0
        config.audit.update({"classifier": "mlp", "hidden": (256,), "shadows": 8, "steps": 600})
        config.audit.batch_size = 128
    return config
