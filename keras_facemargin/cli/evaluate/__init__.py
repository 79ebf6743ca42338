"""`facemargin evaluate`: a file for each kind of protocol.

`images` are lists of pairs of images, `templates` of several images of a person, `sets` what needs
every image of a set. Each command says what is read and of which kind the list is; `tasks` say what
is measured on such a list, `run` prints and writes it. `all_pairs` needs no list.
"""
