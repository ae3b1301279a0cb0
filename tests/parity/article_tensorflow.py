"""The article's TensorFlow ResNet-50: writes a checkpoint, images and logits into a folder.

A program of its own: TensorFlow warns of things that the tests count as errors. The structure and the names,
``bottlencek`` included, are the article's listing; the helpers, which it does not show, follow its calls and
the code that it points to: batch normalization keeps its averages with ``assign_moving_average``, which makes
the variables ``biased`` and ``local_step`` beside each.

    python article_tensorflow.py draw FOLDER NUM_CLASSES SCOPE SIDE [SIDE …]
    python article_tensorflow.py train FOLDER NUM_CLASSES SCOPE SIDE OPTIMIZER UNITS,UNITS,UNITS,UNITS STEPS
    python article_tensorflow.py store FILE NUM_CLASSES SCOPE SIDE

``draw`` fills the variables with random numbers. ``train`` trains them on random images with OPTIMIZER
(``momentum``, ``adam``, or ``averaged``: momentum with an exponential moving average of every weight) and
saves all variables of the training graph, as the Saver does by default. ``store`` trains one unit a block of
few channels, ``averaged``, and writes the same variables, and the logits of :func:`pattern`, into one file of
NumPy: ``written/article.npz`` is one of 5 classes, ``tower/resnet50`` and 193 px.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.training import moving_averages

v1: Any = tf.compat.v1

UPDATES = "_update_ops_"
ARTICLE_UNITS = (3, 4, 6, 3)


def conv2d(x: Any, num_outputs: int, kernel_size: int, stride: int, scope: str) -> Any:
    with v1.variable_scope(scope):
        shape = [kernel_size, kernel_size, int(x.get_shape()[-1]), num_outputs]
        kernel = v1.get_variable("kernel", shape, dtype=tf.float32)
        return tf.nn.conv2d(x, kernel, strides=[1, stride, stride, 1], padding="SAME")


def batch_norm(x: Any, is_training: bool, scope: str, decay: float = 0.999, epsilon: float = 1e-3) -> Any:
    with v1.variable_scope(scope):
        shape = [int(x.get_shape()[-1])]
        beta, gamma, moving_mean, moving_variance = (
            v1.get_variable(name, shape, dtype=tf.float32, initializer=first, trainable=trainable)
            for name, first, trainable in (
                ("beta", v1.zeros_initializer(), True),
                ("gamma", v1.ones_initializer(), True),
                ("moving_mean", v1.zeros_initializer(), False),
                ("moving_variance", v1.ones_initializer(), False),
            )
        )
    if not is_training:
        return tf.nn.batch_normalization(x, moving_mean, moving_variance, beta, gamma, epsilon)
    mean, variance = tf.nn.moments(x, axes=[0, 1, 2])
    for moving, value in ((moving_mean, mean), (moving_variance, variance)):
        v1.add_to_collection(UPDATES, moving_averages.assign_moving_average(moving, value, decay))
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)


def max_pool(x: Any, size: int, stride: int, scope: str) -> Any:
    return tf.nn.max_pool2d(x, size, stride, "SAME", name=scope)


def avg_pool(x: Any, size: int, scope: str) -> Any:
    return tf.nn.avg_pool2d(x, size, size, "VALID", name=scope)


def fc(x: Any, num_outputs: int, scope: str) -> Any:
    with v1.variable_scope(scope):
        weight = v1.get_variable("weight", [int(x.get_shape()[-1]), num_outputs], dtype=tf.float32)
        bias = v1.get_variable("bias", [num_outputs], dtype=tf.float32)
        return v1.nn.xw_plus_b(x, weight, bias)


def resnet50(
    inputs: Any,
    num_classes: int,
    scope: str,
    is_training: bool = False,
    units: tuple[int, ...] = ARTICLE_UNITS,
    width: int = 64,
) -> Any:
    with v1.variable_scope(scope):
        net = conv2d(inputs, width, 7, 2, scope="conv1")
        net = tf.nn.relu(batch_norm(net, is_training=is_training, scope="bn1"))
        net = max_pool(net, 3, 2, scope="maxpool1")
        net = block(net, 4 * width, units[0], is_training, init_stride=1, scope="block2")
        net = block(net, 8 * width, units[1], is_training, scope="block3")
        net = block(net, 16 * width, units[2], is_training, scope="block4")
        net = block(net, 32 * width, units[3], is_training, scope="block5")
        net = avg_pool(net, 7, scope="avgpool5")
        net = tf.squeeze(net, [1, 2], name="SpatialSqueeze")
        return fc(net, num_classes, "fc6")


def block(x: Any, n_out: int, n: int, is_training: bool, scope: str, init_stride: int = 2) -> Any:
    with v1.variable_scope(scope):
        out = bottleneck(x, n_out // 4, n_out, is_training, stride=init_stride, scope="bottlencek1")
        for i in range(1, n):
            out = bottleneck(out, n_out // 4, n_out, is_training, stride=None, scope=f"bottlencek{i + 1}")
        return out


def bottleneck(x: Any, h_out: int, n_out: int, is_training: bool, stride: int | None, scope: str) -> Any:
    n_in = int(x.get_shape()[-1])
    if stride is None:
        stride = 1 if n_in == n_out else 2
    with v1.variable_scope(scope):
        h = conv2d(x, h_out, 1, stride=stride, scope="conv_1")
        h = tf.nn.relu(batch_norm(h, is_training=is_training, scope="bn_1"))
        h = conv2d(h, h_out, 3, stride=1, scope="conv_2")
        h = tf.nn.relu(batch_norm(h, is_training=is_training, scope="bn_2"))
        h = conv2d(h, n_out, 1, stride=1, scope="conv_3")
        h = batch_norm(h, is_training=is_training, scope="bn_3")
        shortcut = x
        if n_in != n_out:
            shortcut = conv2d(x, n_out, 1, stride=stride, scope="conv_4")
            shortcut = batch_norm(shortcut, is_training=is_training, scope="bn_4")
        return tf.nn.relu(shortcut + h)


def drawn(name: str, shape: list[int], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """A value for a variable, such that the logits are of the order of one."""
    last = name.rsplit("/", maxsplit=1)[-1]
    if last in ("kernel", "weight"):
        value = generator.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
    elif last in ("gamma", "moving_variance"):
        # The last BN of a unit adds little: the sum of many units stays small.
        value = (0.3 if name.endswith("bn_3/gamma") else 1.0) * generator.uniform(0.8, 1.2, shape)
    else:
        value = 0.05 * generator.normal(size=shape)
    return np.asarray(value, np.float32)


def draw(folder: Path, num_classes: int, scope: str, sides: list[int]) -> None:
    generator = np.random.default_rng(0)
    inputs = {side: v1.placeholder(tf.float32, [2, side, side, 3], name=f"images{side}") for side in sides}
    logits = {}
    for side, images in inputs.items():
        # The same variables at every size.
        with v1.variable_scope(v1.get_variable_scope(), reuse=v1.AUTO_REUSE):
            logits[side] = resnet50(images, num_classes, scope)
    variables = v1.global_variables()
    with v1.Session() as session:
        for variable in variables:
            variable.load(drawn(variable.op.name, variable.shape.as_list(), generator), session)
        v1.train.Saver(variables).save(session, str(folder / "model.ckpt"), write_meta_graph=False)
        for side in sides:
            values = generator.normal(size=(2, side, side, 3)).astype(np.float32)
            np.save(folder / f"images{side}.npy", values)
            np.save(folder / f"logits{side}.npy", session.run(logits[side], {inputs[side]: values}))


def train(
    folder: Path,
    num_classes: int,
    scope: str,
    side: int,
    optimizer: str,
    units: tuple[int, ...],
    num_steps: int,
    width: int = 64,
) -> dict[str, Any]:
    """Train, save a checkpoint, and return all of its variables and the logits of :func:`pattern`."""
    v1.set_random_seed(0)
    generator = np.random.default_rng(0)
    images = v1.placeholder(tf.float32, [2, side, side, 3], name="images")
    labels = v1.placeholder(tf.int32, [2], name="labels")
    training = resnet50(images, num_classes, scope, is_training=True, units=units, width=width)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=training))
    step = v1.train.get_or_create_global_step()
    # Small steps: after a few of two images the averages of BN have to be those of the weights, or logits of
    # a million come out.
    chosen = v1.train.AdamOptimizer(1e-5) if optimizer == "adam" else v1.train.MomentumOptimizer(1e-4, 0.9)
    after = [chosen.minimize(loss, global_step=step), *v1.get_collection(UPDATES)]
    if optimizer == "averaged":
        after.append(v1.train.ExponentialMovingAverage(0.9, num_updates=step).apply(v1.trainable_variables()))
    with v1.variable_scope(v1.get_variable_scope(), reuse=True):
        logits = resnet50(images, num_classes, scope, is_training=False, units=units, width=width)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        for _ in range(num_steps):
            batch = generator.normal(size=(2, side, side, 3)).astype(np.float32)
            session.run(after, {images: batch, labels: generator.integers(num_classes, size=2)})
        v1.train.Saver().save(session, str(folder / "model.ckpt"), global_step=step)
        values = generator.normal(size=(2, side, side, 3)).astype(np.float32)
        np.save(folder / f"images{side}.npy", values)
        np.save(folder / f"logits{side}.npy", session.run(logits, {images: values}))
        variables = {variable.op.name: variable for variable in v1.global_variables()}
        return {**session.run(variables), "logits": session.run(logits, {images: pattern(side)})}


def pattern(side: int) -> np.ndarray[Any, Any]:
    """Return two images that every computer draws alike."""
    values = np.sin(np.arange(2 * side * side * 3) ** 1.5)
    return np.asarray(values.reshape(2, side, side, 3), np.float32)


def store(file: Path, num_classes: int, scope: str, side: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stored = train(Path(folder), num_classes, scope, side, "averaged", (1, 1, 1, 1), 2, width=2)
    np.savez_compressed(file, **stored)


if __name__ == "__main__":
    v1.disable_v2_behavior()
    # Bit-identical choices of algorithms do not matter here, a stable number of threads does.
    v1.config.threading.set_intra_op_parallelism_threads(1)
    mode, folder, num_classes, scope, *rest = sys.argv[1:]
    if mode == "draw":
        draw(Path(folder), int(num_classes), scope, [int(side) for side in rest])
    elif mode == "store":
        store(Path(folder), int(num_classes), scope, int(rest[0]))
    else:
        side, optimizer, units, num_steps = rest
        numbers = tuple(int(number) for number in units.split(","))
        train(Path(folder), int(num_classes), scope, int(side), optimizer, numbers, int(num_steps))
