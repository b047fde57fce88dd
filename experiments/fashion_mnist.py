"""Fashion-MNIST: 28 x 28 pictures of clothes through TFDS.

    python -m curvpub.main --config=experiments/fashion_mnist.py         # one GPU or TPU
    python -m curvpub.main --config=experiments/fashion_mnist.py:small   # two cores, 15 to 55 min

`small` draws a pool of 4,000 records (2,000 are published) and uses multilayer perceptrons; the
full run publishes 30,000 records with convolutional networks. Needs the prepared data set in
`TFDS_DATA_DIR`.
"""

from curvpub.config import PUBLISHED_IMAGES, config_dict


def get_config(size: str = "full"):
    if size not in ("full", "small"):
        raise ValueError(f"size={size!r} must be 'full' or 'small'")
    config = config_dict(
        name="fashion_mnist",
        secret=0,  # public data: reproducible from the seed
        data={
            "source": "tfds",
            "name": "fashion_mnist",
            "test_is_public": True,
            "duplicates": "drop",
        },
        model={
            "kind": "conv",
            "latent_dim": 16,
            "hidden": (512,),
            "disc_hidden": (512,),
            "kl_weight": 4.0,
        },
        lower={"left_out": 0.1},
        publish=PUBLISHED_IMAGES,
        train={"steps": 20_000, "batch_size": 256},
        audit={"classifier": "conv", "shadows": 64, "steps": 6_000, "batch_size": 256},
    )
    if size == "small":
        config.data.pool_size = 4_000
        config.model.update({"kind": "mlp", "latent_dim": 12, "hidden": (256, 256)})
        config.model.disc_hidden = (256, 256)
        config.train.update({"steps": 1_500, "batch_size": 128})
        config.audit.update({"classifier": "mlp", "shadows": 16, "steps": 600, "batch_size": 128})
    return config
