"""Side by side with Torch-Pruning: the same trained weights, the same budget, no training after it.

    python benchmarks/beside_torch_pruning.py --side=ours
    KERAS_BACKEND=torch .venv-peer/bin/python benchmarks/beside_torch_pruning.py --side=peer

The second runs in an environment of its own (`pip install torch torch-pruning "keras-gcp[test]"`):
PyTorch is not a dependency of this project. Either prints the table of what is there. With
`--keep=FOLDER` the peer's cut ResNet-8 is kept as a Keras file there, for `trained.py --runs=peer`.

Networks go to PyTorch call by call: the same layers, the same weights; the outputs are compared
before anything is cut. Torch-Pruning has no budget in multiply-adds; as in its own reproduction
scripts it is stepped (400 steps to 100 %) until the budget is met. Both rank filters by L2 norm
over the whole network. Multiply-adds of both are those of convolutions and dense layers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.data import cifar10
from benchmarks.records import Records, Row, machine
from keras_gcp.formatting import table

_STEPS = 400

flags.DEFINE_enum("side", "ours", ["ours", "peer"], "Which library runs.")
flags.DEFINE_list("networks", ["trained resnet8", "resnet56", "resnet110", "vgg16"], "Networks.")
flags.DEFINE_list("shares", ["0.75", "0.5"], "Shares of the multiply-adds that may remain.")
flags.DEFINE_list("widths", ["free", "8"], "Widths: any, or multiples of 8.")
flags.DEFINE_string("keep", None, "Folder of the networks that the peer has cut.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

OURS = {"ours": "auto", "ours, not compensated": None}
"""Name to what is done about what a cut takes away."""


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing of one side, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "torch_pruning.jsonl")
    records = Records(output, ("network", "share", "widths", "library"))
    for network in FLAGS.networks:
        for share in map(float, FLAGS.shares):
            for widths in FLAGS.widths:
                for library, make in _runs(network, share, widths).items():
                    key = {"network": network, "share": share, "widths": widths}
                    row = records.get(make, **key, library=library)
                    print(key, library, row["accuracy"], row["macs_share"], row["seconds"])
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def _runs(network: str, share: float, widths: str) -> dict[str, Callable[[], Row]]:
    align = 1 if widths == "free" else int(widths)
    if FLAGS.side == "peer":
        return {"Torch-Pruning": partial(peer, network, share, align)}
    # Networks with random weights are cut for the time it takes; there is nothing to compensate.
    names = OURS if network == "trained resnet8" else ["ours, not compensated"]
    return {name: partial(ours, network, share, align, OURS[name]) for name in names}


def _build(network: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    if network == "trained resnet8":
        return trained_networks.resnet8()
    return keras_gcp.models.build(network)


def _test_images() -> tuple[np.ndarray, np.ndarray]:
    data = cifar10()
    return data.x_test, data.y_test


# ---- ours


def ours(network: str, share: float, align: int, compensation: str | None) -> Row:
    """Plan, then cut in place; proof of the cut included."""
    model = _build(network)
    before = keras_gcp.count(model)
    sample = None
    if compensation is not None and network == "trained resnet8":
        data = cifar10()
        sample = keras_gcp.sample.draw_sample((data.x_train, data.y_train), 512, 0, model)
    began = time.perf_counter()
    plan = keras_gcp.plan(model, {"macs": share}, "l2_norm", selection={"align": align})
    planned = time.perf_counter()
    keras_gcp.narrow(model, plan, sample, compensation=compensation)
    ended = time.perf_counter()
    accuracy = None
    if network == "trained resnet8":
        x, y = _test_images()
        accuracy = float((model.predict(x, batch_size=500, verbose=0).argmax(1) == y).mean())
    return {
        "accuracy": accuracy,
        "macs_share": keras_gcp.count(model).macs / before.macs,
        "plan_seconds": planned - began,
        "seconds": ended - began,
        "machine": machine(),
    }


# ---- Torch-Pruning


def peer(network: str, share: float, align: int) -> Row:
    """Torch-Pruning, stepped until the budget is met."""
    import torch
    import torch_pruning

    model = _build(network)
    module = in_pytorch(model)
    example = torch.zeros(1, 3, 32, 32)
    full = _multiply_adds(module, example)
    assert full == keras_gcp.count(model).macs
    last = [one for one in module.modules() if isinstance(one, torch.nn.Linear)][-1]
    began = time.perf_counter()
    pruner = torch_pruning.pruner.MagnitudePruner(
        module,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=1.0,
        iterative_steps=_STEPS,
        ignored_layers=[last],
        round_to=align if align > 1 else None,
    )
    counting = 0.0
    for _ in range(_STEPS):
        pruner.step()
        start = time.perf_counter()
        now = _multiply_adds(module, example)
        counting += time.perf_counter() - start
        if now <= share * full:
            break
    ended = time.perf_counter()
    accuracy = None
    if network == "trained resnet8":
        x, y = _test_images()
        with torch.no_grad():
            parts = [module(torch.tensor(part).permute(0, 3, 1, 2)) for part in np.split(x, 20)]
        accuracy = float((torch.cat(parts).argmax(1).numpy() == y).mean())
        if FLAGS.keep:
            name = f"torch_pruning_{share:g}_{'free' if align == 1 else align}.keras"
            in_keras(model, module).save(Path(FLAGS.keep) / name)
    return {
        "accuracy": accuracy,
        "macs_share": _multiply_adds(module, example) / full,
        "plan_seconds": None,
        "seconds": ended - began,
        "counting_seconds": counting,
        "machine": f"{machine()}, torch {torch.__version__}, "
        f"torch-pruning {torch_pruning.__version__}",
    }


def _multiply_adds(module: Any, example: Any) -> int:
    """Of convolutions and dense layers, seen by hooks."""
    import torch

    found: list[int] = []

    def count(layer: Any, inputs: Any, output: Any) -> None:
        places = output[0, 0].numel() if output.ndim == 4 else 1
        found.append(layer.weight.numel() * places)

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        module(example)
    for hook in hooks:
        hook.remove()
    return sum(found)


def in_pytorch(model: keras.Model) -> Any:
    """The same network of PyTorch's own layers, in evaluation mode; outputs are compared."""
    import torch

    graph = keras_gcp.trace(model).graph

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by_path = {call.path: _layer(call) for call in graph.calls}
            self.layers = torch.nn.ModuleList(x for x in self.by_path.values() if x is not None)

        def forward(self, x: Any) -> Any:
            values = {graph.inputs[0].index: x}
            for call in graph.calls:
                inputs = [values[tensor.index] for tensor in call.inputs]
                values[call.outputs[0].index] = _run(call, self.by_path[call.path], inputs)
            return values[graph.outputs[0].index]

    network = Network().eval()
    _assert_same(network, model)
    return network


def in_keras(model: keras.Model, module: Any) -> keras.Model:
    """The way back: the Keras network in the widths and with the weights of the one in PyTorch."""
    made = {path: layer for path, layer in module.by_path.items() if layer is not None}

    def resized(layer: Any) -> Any:
        config, there = layer.get_config(), made.get(layer.path)
        if isinstance(layer, keras.layers.Conv2D):
            config["filters"] = there.out_channels
        return type(layer).from_config(config)

    narrow = keras.models.clone_model(model, clone_function=resized)
    for layer in narrow.layers:
        if layer.path in made:
            layer.set_weights(_weights(made[layer.path]))
    _assert_same(module, narrow)
    return narrow


def _weights(layer: Any) -> list[np.ndarray]:
    """In the order and layout of Keras."""
    import torch

    found = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    if isinstance(layer, torch.nn.BatchNorm2d):
        found += [layer.running_mean, layer.running_var]
    if isinstance(layer, torch.nn.Conv2d):
        found[0] = layer.weight.permute(2, 3, 1, 0)
    if isinstance(layer, torch.nn.Linear):
        found[0] = layer.weight.T
    return [one.detach().numpy() for one in found]


def _assert_same(module: Any, model: keras.Model) -> None:
    """That both compute the same of noise."""
    import torch

    shape = (2, *model.input_shape[1:])
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    with torch.no_grad():
        got = module(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(got, model.predict(x, verbose=0), rtol=1e-3, atol=1e-4)


def _layer(call: Any) -> Any:
    import torch

    layer, kind = call.operation, type(call.operation).__name__
    weights = [torch.tensor(np.array(w)) for w in getattr(layer, "get_weights", list)()]
    if kind == "Conv2D":
        made = torch.nn.Conv2d(
            weights[0].shape[2],
            layer.filters,
            layer.kernel_size,
            layer.strides,
            _padding(call) if _padding(call) is not None else 0,
            bias=layer.use_bias,
        )
        made.weight.data = weights[0].permute(3, 2, 0, 1).contiguous()
    elif kind == "Dense":
        made = torch.nn.Linear(*weights[0].shape, bias=layer.use_bias)
        made.weight.data = weights[0].T.contiguous()
    elif kind == "BatchNormalization":
        made = torch.nn.BatchNorm2d(len(weights[0]), layer.epsilon)
        made.weight.data, made.bias.data, made.running_mean, made.running_var = weights
        return made
    else:
        return None
    if layer.use_bias:
        made.bias.data = weights[1]
    return made


def _padding(call: Any) -> int | None:
    """Zeros on either side; None where there are more on one than on the other."""
    layer = call.operation
    size, stride = layer.kernel_size[0], layer.strides[0]
    if layer.padding == "valid":
        return 0
    total = max(size - stride, 0)
    return total // 2 if total % 2 == 0 else None


def _run(call: Any, layer: Any, inputs: list[Any]) -> Any:
    import torch

    kind, x = type(call.operation).__name__, inputs[0]
    if kind == "Conv2D":
        if _padding(call) is None:
            x = torch.nn.functional.pad(x, (0, 1, 0, 1))
        return _activated(call, layer(x))
    if kind == "Dense":
        return _activated(call, layer(x))
    if kind == "BatchNormalization":
        return layer(x)
    if kind in ("ReLU", "Activation"):
        return torch.relu(x) if kind == "ReLU" else _activated(call, x)
    if kind == "Add":
        return inputs[0] + inputs[1]
    if kind == "MaxPooling2D":
        return torch.nn.functional.max_pool2d(x, 2)
    if kind == "AveragePooling2D":
        return torch.nn.functional.avg_pool2d(x, call.operation.pool_size)
    if kind == "GlobalAveragePooling2D":
        return x.mean(dim=(2, 3))
    if kind == "Flatten":
        return torch.flatten(x, 1)
    raise NotImplementedError(kind)


def _activated(call: Any, x: Any) -> Any:
    import torch

    name = call.operation.activation.__name__
    functions = {"linear": lambda x: x, "relu": torch.relu, "softmax": lambda x: x.softmax(1)}
    return functions[name](x)


# ---- table


def summary(rows: Sequence[Row]) -> str:
    """Both sides in one table."""
    order = list(dict.fromkeys(row["network"] for row in rows))
    ordered = sorted(rows, key=lambda r: (order.index(r["network"]), -r["share"], r["widths"]))
    cells = [
        [
            row["network"],
            f"{row['share']:.0%}",
            row["widths"],
            row["library"],
            f"{row['macs_share']:.2%}",
            "" if row["accuracy"] is None else f"{row['accuracy']:.2%}",
            f"{row['seconds']:.2f}",
        ]
        for row in ordered
    ]
    columns = ["network", "budget", "widths", "library", "MACs left", "accuracy", "seconds"]
    machines = "\n".join(sorted({row["machine"] for row in rows}))
    return (
        "One cut by L2 norm, ranked over the whole network, no training after it; seconds of "
        f"planning and cutting\n{table(columns, cells)}\n{machines}"
    )


if __name__ == "__main__":
    app.run(main)
