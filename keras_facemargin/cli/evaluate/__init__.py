"""`facemargin evaluate`: one file for each kind of protocol.

`images` has protocols of pairs of images, `templates` of pairs or searches of templates (several
images of a person), `sets` protocols that need every image of a set. Each command names the files
to read and the task. `tasks` measures an embedder on each kind of list; `run` prints and writes the
results. `all_pairs` needs no list.
"""
