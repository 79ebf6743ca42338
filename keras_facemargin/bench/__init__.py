"""The bench: several embedders on the same faces, side by side on one page.

`run` is the function behind `facemargin bench`. `models` opens the embedders and knows the facts
that need no face, `latency` times them, `faces` reads the folder and its lists, and `page` writes
the page of all pairs with these facts.
"""

from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.bench.latency import Latency, measure_latency
from keras_facemargin.bench.models import Facts
from keras_facemargin.bench.run import Benched, bench, terminal_table

__all__ = [
    "BenchFaces",
    "Benched",
    "Facts",
    "Latency",
    "bench",
    "measure_latency",
    "terminal_table",
]
