"""Files of events that TensorBoard shows; TensorFlow writes them, whatever Keras runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class EventFile:
    """A run of its own in TensorBoard.

    Nobody else may write to its folder: TensorBoard reads the newest file of a folder only.

    Args:
        folder: The folder; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._summary: Any = tf.summary
        self._decode = tf.io.decode_png
        self._writer = tf.summary.create_file_writer(str(folder))

    def scalar(self, name: str, value: float, step: int) -> None:
        """A number on a curve."""
        self._write(self._summary.scalar, name, value, step)

    def text(self, name: str, text: str, step: int) -> None:
        """A text, as Markdown."""
        self._write(self._summary.text, name, text, step)

    def picture(self, name: str, png: bytes, step: int) -> None:
        """A picture."""
        self._write(self._summary.image, name, self._decode(png)[None], step)

    def flush(self) -> None:
        """Puts on disk what was written so far."""
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()

    def _write(self, function: Any, name: str, value: Any, step: int) -> None:
        # In `fit`, Keras' own callback may have said that nothing is recorded at this step.
        with self._writer.as_default(), self._summary.record_if(True):
            function(name, value, step=step)
