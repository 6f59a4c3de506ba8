"""One of several JAX processes that train one model; each has its part of every batch.

Starting processes that train together is slow, so all that is looked at happens in one go.
"""

import os
import re
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import jax

index, count, port = map(int, re.fullmatch(r"(\d+)/(\d+)@(\d+)", os.environ["PROCESS"]).groups())
jax.distributed.initialize(f"localhost:{port}", count, index)

import keras  # noqa: E402  (after the processes have met)
import numpy as np  # noqa: E402
from helpers import random_plan  # noqa: E402
from training import BATCH, EXAMPLES, data, kept, network, pruning, report, trained  # noqa: E402

import keras_gcp.surgery.cut  # noqa: E402
from keras_gcp import criteria  # noqa: E402
from keras_gcp.errors import KerasGCPError, VerificationFailed  # noqa: E402
from keras_gcp.pruning.stages import score  # noqa: E402
from keras_gcp.sample import DrawnSample  # noqa: E402

keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
x, y = data()
OWN = BATCH // count
SIZES = [20, 30]  # examples in the samples of the processes


class OwnPart(keras.utils.PyDataset):
    """This process' part of every global batch."""

    def __len__(self):
        return EXAMPLES // BATCH

    def __getitem__(self, batch):
        rows = slice(batch * BATCH + index * OWN, batch * BATCH + (index + 1) * OWN)
        return x[rows], y[rows]


def own_sample(process=index):
    rows = slice(process * 32, process * 32 + SIZES[process])
    return x[rows].copy(), y[rows]


def fresh():
    keras.utils.set_random_seed(1)
    return network()


def numbers(model):
    """Weights and slots of this process, as one list of numbers."""
    variables = [*model.variables, *model.optimizer.variables]
    return np.concatenate([np.ravel(np.asarray(v.value)) for v in variables]).tolist()


def pruned_fit(criterion):
    """A fit in which every process scores with a sample of its own."""
    model, callback = fresh(), pruning(criterion, own_sample())
    history = trained(model, callback, OwnPart())
    shardings = [v.value.sharding for v in [*model.variables, *model.optimizer.variables]]
    return {
        "history": history,
        "kept": kept(callback.plan),
        "widths": callback.plan.widths(),
        "numbers": numbers(model),
        "loss_before": callback.events[0].loss_before,
        "accuracies": [event.metric_after for event in callback.events],
        "devices": sorted({len(sharding.device_set) for sharding in shardings}),
    }


def scores():
    """Mean scores as the callback sees them, next to each process' own."""
    channels = keras_gcp.trace(model := fresh())
    scorer = criteria.get("feature_relevance")
    shared = score(scorer, channels, DrawnSample(*own_sample()), "norm")
    each = [scorer(model, channels, DrawnSample(*own_sample(i))) for i in range(count)]
    total = sum(SIZES)
    mean = {
        name: sum(size * one[name] for size, one in zip(SIZES, each, strict=True)) / total
        for name in each[0]
    }
    by_hand = criteria.coupled_scores(mean, channels, "norm")
    return {"shared": shared.tolist(), "by_hand": by_hand.tolist()}


def failing(stage):
    """An event that fails in process 1 only, while it scores or after it has cut."""
    verify = keras_gcp.surgery.cut.verify_narrow
    norm = criteria.get("l2_norm")

    def failing_criterion(model, channels, sample):
        if index == 1:
            raise VerificationFailed("scores of process 1 are broken")
        return norm(model, channels, sample)

    def failing_verification(*arguments):
        if index == 1:
            raise VerificationFailed("the cut of process 1 is broken")
        return verify(*arguments)

    if stage == "verify":
        keras_gcp.surgery.cut.verify_narrow = failing_verification
    model = fresh()
    callback = pruning(failing_criterion if stage == "score" else "l2_norm", own_sample())
    before = {}

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):  # A criterion is tried before the first epoch.
            before["numbers"] = numbers(model)

        def on_epoch_begin(self, epoch, logs=None):
            before["numbers"] = numbers(model)

    try:
        error = raised_by(
            lambda: model.fit(
                OwnPart(), epochs=4, verbose=0, shuffle=False, callbacks=[Watch(), callback]
            )
        )
    finally:
        keras_gcp.surgery.cut.verify_narrow = verify
    # The model is whole: the processes go on with it together.
    same = before["numbers"] == numbers(model)
    further = model.fit(OwnPart(), verbose=0, shuffle=False).history["loss"]
    width = model.get_layer("a").filters
    return {"error": error, "taken_back": same, "width": width, "further": further}


def skipped():
    """An event that fails in process 1 only, where training goes on; the next one succeeds."""
    verify, calls = keras_gcp.surgery.cut.verify_narrow, []

    def failing_once(*arguments):
        calls.append(1)
        if index == 1 and len(calls) == 1:
            raise VerificationFailed("the cut of process 1 is broken")
        return verify(*arguments)

    keras_gcp.surgery.cut.verify_narrow = failing_once
    model, callback = fresh(), pruning("l2_norm", own_sample(), on_failure="skip")
    try:
        history = trained(model, callback, OwnPart())
    finally:
        keras_gcp.surgery.cut.verify_narrow = verify
    return {
        "history": history,
        "skipped": [one.error for one in callback.skipped],
        "events": len(callback.events),
        "kept": kept(callback.plan),
        "numbers": numbers(model),
    }


def bad_sample():
    """A sample that one process cannot use."""
    sample = own_sample()
    if index == 1:
        sample[0][3] = np.nan
    return raised_by(lambda: trained(fresh(), pruning("l2_norm", sample), OwnPart()))


def other_criteria():
    """A sample without labels in one process, where another criterion applies than elsewhere."""
    x, labels = own_sample()
    sample = x, None if index == 1 else labels
    error = raised_by(lambda: trained(fresh(), pruning("auto", sample), OwnPart()))
    callback = pruning("auto", own_sample())
    trained(fresh(), callback, OwnPart())
    return {"error": error, "criterion": callback.plan.criterion}


def resumed():
    """A training that is broken off in all processes, and started again with new models."""
    folder = sys.argv[1]

    def run(stop=None):
        model = fresh()
        callback = pruning("random", own_sample(), backup_dir=folder, on_failure="skip")
        stopping = keras.callbacks.LambdaCallback(on_epoch_begin=partial(break_off, stop))
        model.fit(OwnPart(), epochs=4, verbose=0, shuffle=False, callbacks=[callback, stopping])
        return model, callback

    def break_off(stop, epoch, logs):
        if epoch == stop:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        run(stop=3)
    written = sorted(path.name for path in Path(folder).glob("backup-*"))
    model, callback = run()
    return {
        "written": written,
        "numbers": numbers(model),
        "events": len(callback.events),
        "kept": kept(callback.plan),
        "seed": callback._seed,
    }


def other_plans():
    """Plans that differ between processes."""
    model = fresh()
    plans = [random_plan(model, seed=seed) for seed in range(count)]
    error = raised_by(lambda: keras_gcp.narrow(model, plans[index]))
    return {"error": error, "width": model.get_layer("a").filters}


def raised_by(work):
    try:
        work()
    except KerasGCPError as error:
        return [type(error).__name__, str(error)]
    return None


report(
    feature_relevance=pruned_fit("feature_relevance"),
    random=pruned_fit("random"),
    distilled=pruned_fit("distilled"),
    scores=scores(),
    failing_score=failing("score"),
    failing_verify=failing("verify"),
    skipped=skipped(),
    bad_sample=bad_sample(),
    other_criteria=other_criteria(),
    other_plans=other_plans(),
    resumed=resumed(),
)
