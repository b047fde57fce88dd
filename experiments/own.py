"""Your own private data: an `.npz` of a table or of images, a folder of images by class, or a CSV.

    python -m curvpub.main --config=experiments/own.py:npz --config.data.path=table.npz
    python -m curvpub.main --config=experiments/own.py:npz_images --config.data.path=images.npz
    python -m curvpub.main --config=experiments/own.py:images --config.data.path=pictures/
    python -m curvpub.main --config=experiments/own.py:csv --config.data.path=people.csv \
        --config.data.target=income

Images are published deformed, which protects them most, and the tenth that sticks out most is left
out. Test records count as private here and do not appear in the public report, and part of the
randomness is drawn in secret. A pool of at least 2,000 records is advisable.
"""

from curvpub.config import PUBLISHED_IMAGES, config_dict

KINDS = ("npz", "npz_images", "images", "csv")


def get_config(kind: str = "npz"):
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
    config = config_dict(name="own", data={"source": kind.removesuffix("_images")})
    if kind in ("images", "npz_images"):
        config.model.kl_weight = 4.0
        config.publish.update(PUBLISHED_IMAGES)
        config.lower.left_out = 0.1  # who sticks out most; 0 where rare records must be represented
    if kind == "csv":
        config.model.update({"latent_dim": 16, "label_scale": 3.0, "x_sigma": 0.3})
    return config
