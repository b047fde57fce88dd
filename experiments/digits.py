"""scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, inside its wheel: no network, no files.

    python -m curvpub.main --config=experiments/digits.py

Two CPU cores: 5 to 25 minutes, by the machine. The argument `tiny` (`digits.py:tiny`) is for a
quick look.
"""

from curvpub.config import PUBLISHED_IMAGES, config_dict


def get_config(size: str = "full"):
    if size not in ("full", "tiny"):
        raise ValueError(f"size={size!r} must be 'full' or 'tiny'")
    config = config_dict(
        name="digits",
        secret=0,  # public data: reproducible from the seed
        data={"source": "digits", "test_is_public": True, "duplicates": "drop"},
        model={"latent_dim": 12, "label_scale": 4.0, "kl_weight": 4.0},
        lower={"left_out": 0.1},
        publish=PUBLISHED_IMAGES | {"warp": 0.75, "elastic": 0.9},
        train={"steps": 800, "batch_size": 128},
        audit={"shadows": 16, "steps": 500, "registered": 32, "traced": 16},
    )
    if size == "tiny":
        config.train.steps = 100
        config.audit.shadows = 8
        config.audit.steps = 100
        config.audit.flow_steps = 50
        config.audit.adaptive_steps = 100
        config.audit.update({"registered": 8, "traced": 8})
    return config
