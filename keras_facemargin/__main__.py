"""`python -m keras_facemargin` is the command `facemargin`."""

from keras_facemargin.cli import main

main()
