"""The only package that touches private state of Keras.

- `reading`: `read_graph` turns a functional model into plain data (`keras_gcp.graph`).
- `inputs`: which input of a model each array, tensor or symbol is for.
- `sharing`: other models of the process that hold weights of a model, and what they do with them.
- `steps`: models that `TimeDistributed` repeats.
- `replaying`: what `keras_gcp.flatten` needs to run a graph again on other symbolic tensors.
- `optimizers`: which optimizers a model has, and their slots.
- `call_context`: what belongs to one call of a model.
- `compiling`: the loss that a model was compiled with, for copies of it.
- `devices`: where its variables live.
- `states`: batches of a fixed size, and what recurrent layers keep between them.
- `fitting`: a `fit` that is about to begin, or is running.
- `metrics`: metrics that a model was compiled with, and which way they are better.
- `retiring`: what the user's own compiled code still holds of a model after a cut.
- `writing`: `Transaction` changes variables, layers, optimizer slots and symbolic shapes of a
  *living* model, remembers how each of them was, and takes all of it back on request.

`keras_gcp.versions` says which versions of Keras have it. What each piece of state is for:

- `Variable._value`, `Variable._shape`: the backend's tensor and its recorded shape. `assign`
  refuses another shape, so surgery replaces both.
- `Layer._build_shapes_dict`: written to `.keras` files; when stale, saving works, loading fails.
- `KerasTensor._shape`: what `summary()`, `layer.output` and submodels built later see.
- `BaseOptimizer._trainable_variables_indices`: slot positions; on TensorFlow keyed by the inner
  `tf.Variable`, so it is stale after a replacement.
- `train_function`, `test_function`, `predict_function`: compiled code that captured the old
  variables. If kept, TensorFlow goes on training the old, wide variables without any error.
"""

from keras_gcp.versions import check_keras

check_keras()  # Before any module that relies on private state of Keras is imported.

from keras_gcp.keras_state.attention import OUTPUT_SHAPE, Projections, projections
from keras_gcp.keras_state.call_context import once_per_call
from keras_gcp.keras_state.compiling import compile_alike, loss_weights
from keras_gcp.keras_state.devices import (
    check_strategy,
    least_width_of_strided_pointwise,
    strategy_scope,
)
from keras_gcp.keras_state.fit_state import (
    Values,
    global_seed,
    has_training_inputs,
    has_training_loss,
    put_state_back,
    renew_state,
    set_global_seed,
    set_initial_epoch,
    set_training_inputs,
    set_training_loss,
    steps_compiled_by_hand,
    take_back_training_inputs,
    take_back_training_loss,
    tells_training,
    watched_loss,
)
from keras_gcp.keras_state.functional import functional_of, input_structure, require_functional
from keras_gcp.keras_state.graph_reader import is_layer, read_graph
from keras_gcp.keras_state.graph_replay import (
    all_layers,
    calls_between,
    carries_mask,
    copied_lambda,
    fixed_output_shape,
    has_unknown_size,
    innermost,
    input_symbols,
    is_lambda,
    is_wrapper,
    layer_calls,
    new_inputs,
    operations,
    own_state,
    run_graph,
    shipped_by_keras,
    sublayers,
    twin,
)
from keras_gcp.keras_state.inputs import ordered_inputs, pack_inputs, packed_inputs
from keras_gcp.keras_state.metrics import compiled_metrics, higher_is_better
from keras_gcp.keras_state.optimizers import (
    build_optimizer,
    factored_slots,
    optimizer_chain,
    optimizer_slots,
    optimizer_variables,
    optimizers_of,
    reset_slots,
    unknown_to_optimizer,
    unsliceable_slots,
)
from keras_gcp.keras_state.retiring import backend_values, notice_cut
from keras_gcp.keras_state.sharing import (
    models_sharing,
    read_with_neighbours,
    retrack_torch_family,
    supersede,
    superseded_by,
)
from keras_gcp.keras_state.states import (
    fixed_batch,
    fresh_states,
    stateful_layers,
    states_put_back,
    whole_batches,
)
from keras_gcp.keras_state.steps import (
    ExamplesAsSteps,
    StepsAsExamples,
    is_repeatable,
    not_repeatable,
    repeated_model,
)
from keras_gcp.keras_state.traced_whole import traced_whole
from keras_gcp.keras_state.transaction import (
    COMPILED_FUNCTIONS,
    Transaction,
    replaced_call,
    retrack_torch_parameters,
)

__all__ = [
    "loss_weights",
    "COMPILED_FUNCTIONS",
    "OUTPUT_SHAPE",
    "ExamplesAsSteps",
    "Projections",
    "StepsAsExamples",
    "Transaction",
    "Values",
    "backend_values",
    "build_optimizer",
    "calls_between",
    "carries_mask",
    "check_strategy",
    "compile_alike",
    "compiled_metrics",
    "copied_lambda",
    "factored_slots",
    "fixed_batch",
    "fixed_output_shape",
    "fresh_states",
    "functional_of",
    "global_seed",
    "has_training_inputs",
    "has_training_loss",
    "higher_is_better",
    "has_unknown_size",
    "innermost",
    "input_structure",
    "input_symbols",
    "is_lambda",
    "is_layer",
    "is_repeatable",
    "is_wrapper",
    "layer_calls",
    "least_width_of_strided_pointwise",
    "models_sharing",
    "new_inputs",
    "not_repeatable",
    "notice_cut",
    "once_per_call",
    "operations",
    "optimizer_chain",
    "optimizer_slots",
    "optimizer_variables",
    "optimizers_of",
    "ordered_inputs",
    "own_state",
    "pack_inputs",
    "packed_inputs",
    "projections",
    "put_state_back",
    "read_graph",
    "read_with_neighbours",
    "repeated_model",
    "renew_state",
    "replaced_call",
    "require_functional",
    "reset_slots",
    "retrack_torch_family",
    "retrack_torch_parameters",
    "run_graph",
    "set_global_seed",
    "set_initial_epoch",
    "set_training_inputs",
    "set_training_loss",
    "shipped_by_keras",
    "stateful_layers",
    "states_put_back",
    "steps_compiled_by_hand",
    "strategy_scope",
    "all_layers",
    "sublayers",
    "supersede",
    "superseded_by",
    "take_back_training_inputs",
    "take_back_training_loss",
    "tells_training",
    "twin",
    "watched_loss",
    "traced_whole",
    "unknown_to_optimizer",
    "unsliceable_slots",
    "whole_batches",
]
