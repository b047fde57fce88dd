"""Private records in: sources, checks and splits. All on the host, in NumPy, without network.

What of the data becomes public. The `Schema` is published with every release, and a part of it is
read from private data: the names and the order of the columns, which of them hold whole numbers,
the names of the classes, the shape of an image, and for a CSV the names of categories that at least
`DataConfig.min_category_count` records share. Rarer names become `other`, so that no name is
published that few people bear. Nothing else of a record leaves this package except in `Dataset`;
error messages count records and never show one.
"""

from curvpub.data.checks import MIN_PER_CLASS, MIN_POOL, MIN_TEST
from curvpub.data.loading import describe_rows, load
from curvpub.data.source import Source, Split
from curvpub.data.splitting import generator

__all__ = ["MIN_PER_CLASS", "MIN_POOL", "MIN_TEST", "Source", "Split", "describe_rows", "generator"]
__all__ += ["load"]
