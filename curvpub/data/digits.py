"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 pixels, inside its wheel."""

import numpy as np

from curvpub.config import DataConfig
from curvpub.data.source import Source, in_memory
from curvpub.types import Schema


def open_source(config: DataConfig) -> Source:
    """Opens the digits: images `[1797, 8, 8, 1]` in [0, 1], classes '0' to '9', no test split."""
    from sklearn.datasets import load_digits  # takes seconds to import; other sources need not wait

    flat, y = (np.asarray(part) for part in load_digits(return_X_y=True))
    x = (flat.reshape(-1, 8, 8, 1) / 16.0).astype(np.float32)  # 17 levels, 0 to 16
    schema = Schema(
        name=config.name or "digits",
        kind="image",
        shape=x.shape[1:],
        classes=tuple(str(name) for name in np.unique(y)),
    )
    return Source(schema=schema, train=in_memory(x, y))
