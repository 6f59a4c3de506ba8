"""The callback that lets a `fit` train on adversarial examples."""

from __future__ import annotations

import functools
import sys
from typing import Any

import keras
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.methods.adversarial.attack import (
    Tensors,
    as_floats,
    ascend,
    attacked_inputs,
    checked_attack,
    excess,
    loss_gradients_in,
    replaced_in,
    require_inside,
    started,
)
from keras_gcp.validation import require_seed

_NAME = "AdversarialTraining"


class AdversarialTraining(keras.callbacks.Callback):
    """Lets `fit` train on the examples near the given ones for which the loss is largest.

    In every step each example x is replaced by another one within `epsilon`: from a random point
    of that ball, `steps` times `x' <- clip(x' + step * sign(gradient of the loss at x'))`, with
    the weights as they are then, clipped to the ball and to the range of inputs. The model runs at
    inference for it, as it is attacked later: normalizations use their moving statistics, and these
    and dropout see nothing of the attack. Then the step goes on as usual, with the changed
    examples in place of the given ones.

    The loss, the metrics and their logs are those of the changed examples; validation, `evaluate`
    and `predict` look at what they are given. A step of the attack runs the model forwards and
    backwards to its inputs, two of the three passes of a training step. It goes together with
    `GradualChannelPruning` in the same `fit`, in any order: after a cut the narrow model is
    attacked.

    The attack is the one of Madry et al., 2018 (arXiv 1706.06083), section 2.1; as a short
    fine-tuning of a trained network, with `SlowStartFastDecay`, the method is that of Jeddi,
    Shafiee and Wong, 2020 (arXiv 2012.13628).

    Args:
        epsilon: Greatest change of any number of an input, in its unit: 8/255 where pixels lie
            between 0 and 1, 8 where they lie between 0 and 255.
        step: Change in one step of the attack; None: a quarter of `epsilon`.
        steps: Steps of the attack.
        clip: Least and greatest value of valid inputs; None: any value is valid.
        inputs: Names of the inputs that may be changed; needed only if the model has several of
            floating-point numbers. Others, such as tokens, stay as they are.
        seed: Seed of the random starts, which depend on it and on the optimizer's step alone; None
            draws one from Python's `random`, which `keras.utils.set_random_seed` sets.

    Raises:
        InvalidArgument: an argument is malformed; when training begins: the model has no loss, or
            several inputs of which none is named; after the second batch, or the first epoch:
            inputs lie outside of `clip`.
        UnsupportedModel: the model has no graph, or no input of floating-point numbers, or a
            `train_step` that is wrapped in a `tf.function`; when training begins.

    Example:

    ```python
    harden = keras_gcp.methods.AdversarialTraining(epsilon=8 / 255, step=2 / 255, steps=10)
    model.fit(x, y, epochs=10, callbacks=[harden])
    ```
    """

    def __init__(
        self,
        epsilon: float,
        step: float | None = None,
        steps: int = 10,
        *,
        clip: tuple[float, float] | None = (0.0, 1.0),
        inputs: Any = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        least = sys.float_info.min  # An attack that changes nothing is none.
        self.attack = checked_attack(epsilon, step, steps, clip, inputs, least_epsilon=least)
        self.seed = require_seed(seed)
        self._places: tuple[int, ...] = ()
        self._noise: keras.random.SeedGenerator | None = None
        self._outside: backend.LargestSeen | None = None
        self._looked = False

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model
        self._places = attacked_inputs(model, self.attack, _NAME)
        self._check_step()
        self._outside, self._looked = backend.LargestSeen(model), False
        with keras_state.strategy_scope(model):
            self._noise = keras.random.SeedGenerator(
                None if self.seed is None else self.seed % 2**31
            )
        # On JAX `self.model`, inside of a step, would end that step.
        keras_state.set_training_inputs(model, functools.partial(self._changed, model))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch and not self._looked:  # Once only: it waits for the device.
            self._looked = True
            self._check_range()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._check_range()

    def on_train_end(self, logs: Any = None) -> None:
        backend.forget_gradients(self.model.train_function)
        keras_state.take_back_training_inputs(self.model)

    def _check_step(self) -> None:
        model = self.model
        if keras_state.has_training_inputs(model):
            raise InvalidArgument(
                f"Two {_NAME} callbacks change the examples of the same `fit`. Expected one."
            )
        if "train_step" in keras_state.steps_compiled_by_hand(model):
            raise UnsupportedModel(
                f"`train_step` of model '{model.name}' (class {type(model).__name__}) is wrapped "
                f"in a `tf.function`. {_NAME} makes it part of a step that Keras compiles anyway: "
                "take the decorator away."
            )

    def _check_range(self) -> None:
        assert self._outside is not None
        if self.attack.clip is not None:
            require_inside(self._outside.value(), self.attack, _NAME)

    def _changed(
        self, model: Any, x: Any, y: Any, sample_weight: Any, values: keras_state.Values
    ) -> Any:
        """The batch with adversarial examples; part of the compiled step."""
        inputs = keras_state.ordered_inputs(model, x)
        clean = as_floats(model, inputs, self._places)
        if self.attack.clip is not None and self._outside is not None:
            self._outside.show(excess(clean, self.attack.clip))
        gradients = loss_gradients_in(model, x, y, sample_weight, self._places, values)
        start = started(clean, self._noise_of_step(model, clean, values), self.attack)
        found = ascend(gradients, clean, start, self.attack)
        return replaced_in(x, inputs, self._places, [ops.stop_gradient(part) for part in found])

    def _noise_of_step(self, model: Any, clean: Tensors, values: keras_state.Values) -> Tensors:
        """Random differences within the ball, others in each step of the optimizer.

        They follow from the number of the step, so a training that is resumed goes on with those
        that it would have had, and no state of a step is added.
        """
        assert self._noise is not None
        state = self._noise.state
        with values():
            step = ops.cast(model.optimizer.iterations, state.dtype)
        key = ops.stack([state.value[0], step])
        with keras.StatelessScope(state_mapping=[(state, key)]):
            return tuple(
                keras.random.uniform(
                    ops.shape(part),
                    -self.attack.epsilon,
                    self.attack.epsilon,
                    dtype=keras.backend.standardize_dtype(part.dtype),
                    seed=self._noise,
                )
                for part in clean
            )
