"""One of several PyTorch processes that train together."""

import os
import re

import torch

index, count, port = map(int, re.fullmatch(r"(\d+)/(\d+)@(\d+)", os.environ["PROCESS"]).groups())
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://localhost:{port}", rank=index, world_size=count
)

from helpers import random_plan  # noqa: E402  (after the processes have met)
from training import data, network, pruning, report  # noqa: E402

import keras_gcp  # noqa: E402
from keras_gcp.errors import UnsupportedModel  # noqa: E402


def refusal(work):
    try:
        work()
    except UnsupportedModel as error:
        return str(error)
    return None


model = network()
plan = random_plan(model, seed=index)
report(
    fit=refusal(lambda: model.fit(*data(), epochs=4, verbose=0, callbacks=[pruning("l2_norm")])),
    narrow=refusal(lambda: keras_gcp.narrow(model, plan)),
    width=model.get_layer("a").filters,
)
