"""How TensorFlow runs the functions that tests trace."""


def run_graphs_as_traced():
    """Without Grappler, which rewrites each traced function before its first run.

    That is a third of the time of tests that trace, whose functions run a few steps. A rewritten
    function rounds differently, so a process that must give the same bits calls this too.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
