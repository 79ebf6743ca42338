"""Face recognition in Keras 3: margin heads, embedders, evaluation and export.

The front door: names only. Rooms that need more than Keras (`data`, `evaluate`, `export`, `zoo`)
are opened by importing them.
"""

__version__ = "0.1.0"
