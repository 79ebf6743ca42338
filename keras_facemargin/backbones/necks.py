"""Necks: from the last feature map of a backbone to the embedding."""

from keras import layers


def global_depthwise(feature_map, embedding_dim, dropout):
    """MobileFaceNet's neck (arXiv:1804.07573, section 3.1).

    A depthwise convolution as large as the map, which weighs each place of the face, then a linear
    layer, each followed by batch normalisation.
    """
    kernel = feature_map.shape[1:3]
    x = layers.DepthwiseConv2D(kernel, use_bias=False, name="neck_depthwise")(feature_map)
    x = layers.BatchNormalization(name="neck_depthwise_bn")(x)
    x = layers.Flatten(name="neck_flatten")(x)
    x = _drop(x, dropout)
    return _normalize(layers.Dense(embedding_dim, use_bias=False, name="neck_linear")(x))


def fully_connected(feature_map, embedding_dim, dropout):
    """ArcFace's option E (arXiv:1801.07698, section 3.2.2): BN, dropout, linear layer, BN.

    The last batch normalisation has no scale, as in InsightFace, where its gamma stays 1.
    """
    x = layers.BatchNormalization(epsilon=1e-5, name="neck_bn")(feature_map)
    x = _drop(x, dropout)
    x = layers.Flatten(name="neck_flatten")(x)
    x = layers.Dense(embedding_dim, name="neck_linear")(x)
    return _normalize(x, epsilon=1e-5, scale=False)


def average_pooling(feature_map, embedding_dim, dropout):
    """FaceNet's neck: global average pooling, dropout, linear layer, BN."""
    x = layers.GlobalAveragePooling2D(name="neck_pool")(feature_map)
    x = _drop(x, dropout)
    return _normalize(layers.Dense(embedding_dim, use_bias=False, name="neck_linear")(x))


NECKS = {"gdc": global_depthwise, "fc": fully_connected, "gap": average_pooling}


def _drop(x, dropout):
    return layers.Dropout(dropout, name="neck_dropout")(x) if dropout else x


def _normalize(x, **arguments):
    # Embeddings leave in float32 under a mixed policy: float16 ends at 65,504.
    return layers.BatchNormalization(dtype="float32", name="embedding", **arguments)(x)
