"""A bundle: an exported embedder with all that an app needs to use it, and to prove that it does.

`write` writes a folder: the model files, the manifest (`manifest`), a self-test (`selftest`), and
code in four languages with a README (`clients`). `check` verifies the folder and, with the app's
own program, names the fault between the photo and the embedding.
"""
