"""From a photo to an answer: the faces of a photo, and whether two photos show one person.

A `Recognizer` joins a detector, the alignment and an embedder with the thresholds on its card.
"""

from keras_facemargin.recognizer.recognizer import Face, Recognizer, load_recognizer
from keras_facemargin.recognizer.verification import Verification

__all__ = ["Face", "Recognizer", "Verification", "load_recognizer"]
