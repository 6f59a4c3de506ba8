"""tensorflow-model-optimization after pruning: int8 training, single zeros, shared weights.

tfmot knows models of Keras 2 (`tf_keras`) only. Here a Keras 3 model is carried over, proved equal,
handed to tfmot, and its weights are carried back. Needs `pip install "keras-gcp[tfmot]"`; nothing
of it is imported before one of these functions is called, and no environment variable stays set.

```python
tuned = keras_gcp.tfmot.quantize_aware(pruned)
tuned.fit(x, y, epochs=2, learning_rate=1e-4)
tuned.export("exported")
```
"""

from keras_gcp.tfmot.clustered import Clustered, cluster
from keras_gcp.tfmot.quantized import QuantizeAware, quantize_aware
from keras_gcp.tfmot.sparse import Sparse, sparsify

__all__ = ["Clustered", "QuantizeAware", "Sparse", "cluster", "quantize_aware", "sparsify"]
