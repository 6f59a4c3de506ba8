"""Which criterion, comparison of layers, ranking, rounds, alignment, evenness to take by default.

    python benchmarks/defaults.py --networks=resnet8,lite0_10 --settings=loss_aware,l2_norm/rank
    python benchmarks/defaults.py --criteria=loss_aware,l2_norm --normalize=mean,rank --rounds=1,3
    python benchmarks/defaults.py --summary

One cut of trained networks of several kinds, no training after it. A setting is
`criterion[/normalize[/ranking[/rounds[/align[/evenness]]]]]`; what is left out, or "auto", is the
default. With `--bare` there is no sample, and kernels are refitted on noise, as `prune` does. Every
row is written at once; a setting that fails is a row with the error, and is tried again once its
line is deleted.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.data import Missing
from benchmarks.records import Records, Row, machine
from benchmarks.regret import compared, markdown
from examples.datasets import DatasetUnavailable
from keras_gcp.formatting import table

COMPENSATIONS = {"auto": "auto", "none": None, "least_squares": "least_squares", "fold": "fold"}

flags.DEFINE_list("networks", list(trained_networks.NETWORKS), "Names of trained networks.")
flags.DEFINE_list("settings", None, "See above; instead of the product of the next four.")
flags.DEFINE_list("criteria", ["loss_aware", "feature_relevance", "l2_norm"], "Criteria.")
flags.DEFINE_list("normalize", ["auto"], "Ways of comparing layers: auto, norm, mean, rank, none.")
flags.DEFINE_list("rankings", ["auto"], "auto, score, score_per_cost or uniform.")
flags.DEFINE_list("rounds", ["1"], "Numbers of rounds.")
flags.DEFINE_enum("compensation", "auto", list(COMPENSATIONS), "Of the cut (not between rounds).")
flags.DEFINE_list("shares", ["0.75", "0.5", "0.35"], "Shares of the multiply-adds that remain.")
flags.DEFINE_list("seeds", ["0"], "Seeds of the sample.")
flags.DEFINE_integer("sample_size", 512, "Images of the sample.")
flags.DEFINE_integer("test_images", 2000, "Images that are measured on; 0: all of them.")
flags.DEFINE_boolean("bare", False, "Without a sample.")
flags.DEFINE_boolean("summary", False, "Only print the table of what is there.")
flags.DEFINE_string("resnet20", None, "File of the trained ResNet-20, as KERAS_GCP_RESNET20.")
flags.DEFINE_string("cache", None, "Folder of the networks on digits, as KERAS_GCP_CACHE.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


@dataclass(frozen=True)
class Setting:
    """How channels are chosen."""

    criterion: str
    normalize: str = "auto"
    ranking: str = "auto"
    rounds: int = 1
    align: str = "auto"
    evenness: float = 0.0

    @staticmethod
    def parse(text: str) -> Setting:
        """The setting of `criterion[/normalize[/ranking[/rounds[/align[/evenness]]]]]`."""
        criterion, *given = text.split("/")
        if len(given) > 5:
            raise ValueError(f"A setting has at most six parts. Received: {text!r}.")
        normalize, ranking, rounds, align, evenness = [*given, *[""] * 5][:5]
        return Setting(
            criterion,
            normalize or "auto",
            ranking or "auto",
            1 if rounds in ("", "auto") else int(rounds),
            align or "auto",
            0.0 if evenness in ("", "auto") else float(evenness),
        )

    def __str__(self) -> str:
        rounds = "auto" if self.rounds == 1 else str(self.rounds)
        evenness = f"{self.evenness:g}" if self.evenness else "auto"
        parts = [self.normalize, self.ranking, rounds, self.align, evenness]
        while parts and parts[-1] == "auto":
            parts.pop()
        return "/".join([self.criterion, *parts])


_SETTING = tuple(Setting.__dataclass_fields__)
_KEYS = ("network", *_SETTING, "compensation", "share", "seed", "sample_size", "test_images")


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the tables."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    for flag, variable in (("resnet20", "KERAS_GCP_RESNET20"), ("cache", "KERAS_GCP_CACHE")):
        if FLAGS[flag].value:
            os.environ[variable] = FLAGS[flag].value
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "defaults.jsonl")
    records = Records(output, _KEYS, today)
    if not FLAGS.summary:
        chosen = settings()
        for network in FLAGS.networks:
            _run_all(network, chosen, records)
            _load.cache_clear()
    for suffix, text in summary(records.rows()).items():
        if suffix == ".txt":
            print(text)
        output.with_suffix(suffix).write_text(text + "\n", encoding="utf-8")


def settings() -> list[Setting]:
    """Those that the flags name."""
    if FLAGS.settings:
        return [Setting.parse(text) for text in FLAGS.settings]
    ways = (FLAGS.criteria, FLAGS.normalize, FLAGS.rankings, map(int, FLAGS.rounds))
    return [Setting(*way) for way in itertools.product(*ways)]


def today(row: Row) -> Row:
    """Rows had a column "setting", fewer parts, and were compensated if there was a sample."""
    row = {"align": "auto", "evenness": 0.0, **row}
    if "setting" not in row:
        return row
    rest = {name: value for name, value in row.items() if name != "setting"}
    return {**vars(Setting.parse(row["setting"])), "compensation": "auto", **rest}


def _run_all(network: str, chosen: Sequence[Setting], records: Records) -> None:
    size = 0 if FLAGS.bare else FLAGS.sample_size
    shares, seeds = map(float, FLAGS.shares), map(int, FLAGS.seeds)
    for setting, share, seed in itertools.product(chosen, shares, seeds):
        try:
            row = records.get(
                partial(run, network, setting, share, seed, size),
                network=network,
                **vars(setting),
                compensation=FLAGS.compensation,
                share=share,
                seed=seed,
                sample_size=size,
                test_images=FLAGS.test_images,
            )
        except (Missing, DatasetUnavailable) as error:
            print(f"{network} is left out. {error}", flush=True)
            return
        print(network, setting, share, seed, row.get("score", row.get("error")), flush=True)


@cache
def _load(network: str) -> tuple[trained_networks.Trained, Any, float, float]:
    found = trained_networks.NETWORKS[network](FLAGS.test_images or None)
    model = found.build()
    return found, model, *_measured(model, found)


def run(network: str, setting: Setting, share: float, seed: int, size: int) -> Row:
    """One cut, and what is left of the accuracy; an error is a row, too."""
    found, model, dense_loss, dense = _load(network)
    before = {"dense": dense, "dense_loss": dense_loss, "machine": machine()}
    sample = keras_gcp.Sample((found.x_sample, found.y_sample), size=size) if size else None
    began = time.perf_counter()
    try:
        plan, narrow = _cut(model, setting, share, sample, seed)
        seconds = time.perf_counter() - began
        narrow.compile(loss=model.loss, metrics=["accuracy"])
        loss, score = _measured(narrow, found)
    except Exception as error:
        text = str(error).partition("\n")[0]
        return {"error": f"{type(error).__name__}: {text}", **before}
    return {
        "score": score,
        "loss": loss,
        "loss_rise": loss - dense_loss,
        "predicted_loss": getattr(plan, "predicted_loss", None),
        "decided": plan.criterion,
        "macs_share": plan.after.macs / plan.before.macs,
        "parameters_share": plan.after.parameters / plan.before.parameters,
        "widths": list(plan.widths().values()),
        "seconds": seconds,
        **before,
    }


def _cut(model: Any, setting: Setting, share: float, sample: Any, seed: int) -> tuple[Any, Any]:
    """The plan, and the narrow model."""
    selection = {
        "normalize": setting.normalize,
        "ranking": setting.ranking,
        "align": setting.align if setting.align == "auto" else int(setting.align),
        "evenness": setting.evenness,
    }
    plan = keras_gcp.plan(
        model,
        {"macs": share},
        setting.criterion,
        sample,
        selection=selection,
        rounds=setting.rounds,
        seed=seed,
    )
    compensation = COMPENSATIONS[FLAGS.compensation]
    if compensation == "auto" and sample is None:
        compensation = "least_squares"
    return plan, keras_gcp.apply(model, plan, sample, compensation=compensation, seed=seed)


def _measured(model: Any, found: trained_networks.Trained) -> tuple[float, float]:
    loss, score = model.evaluate(found.x_test, found.y_test, batch_size=100, verbose=0)[:2]
    return float(loss), float(score)


def summary(rows: Sequence[Row]) -> dict[str, str]:
    """A table for every share, size of the sample and number of test images: text and Markdown."""
    if not rows:
        return {".txt": "Nothing yet."}
    intro = (
        "One cut, no training after it: accuracy in % (vww: answers that stay the same), and how "
        "many points a setting is behind the best one.\n" + "\n".join(_machines(rows))
    )
    texts, marks = [intro], [intro]
    same = ("sample_size", "share", "test_images")
    for key in sorted({tuple(row[name] for name in same) for row in rows}, reverse=True):
        own = [{**row, "setting": _label(row)} for row in rows if key == _of(row, same)]
        comparison = compared(own)
        size, share, images = key
        sampled = f"a sample of {size}" if size else "no sample"
        title = f"{share:.0%} of the MACs, {sampled}, {images or 'all'} test images"
        texts.append(table(comparison.columns, comparison.lines, title=title, width=200))
        marks.append(markdown(comparison, title))
    return {".txt": "\n\n".join(texts), ".md": "\n\n".join(marks)}


def _of(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _machines(rows: Sequence[Row]) -> list[str]:
    return sorted({row["machine"] for row in rows if "machine" in row})


def _label(row: Row) -> str:
    setting = Setting(*_of(row, _SETTING))
    way = row["compensation"]
    return str(setting) if way == "auto" else f"{setting}, compensation {way}"


if __name__ == "__main__":
    app.run(main)
