"""Everything that asks which Keras backend runs.

`arrays` holds the operations missing from `keras.ops`, implemented per backend; `replicas` what a
replica of `tf.distribute` knows of the others; `host_call` calls Python from a compiled step;
`random_state` is the state that a backend keeps outside of Keras; `dry_run` tells a trial run of
Keras from a real one.
"""
