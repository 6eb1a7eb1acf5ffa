"""TensorBoard event files, written without importing more of TensorBoard than its message formats.

`torch.utils.tensorboard` takes 0.4 s to import and starts a thread; this takes a tenth and writes where it is called.
T frames, H height, W width.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

NUM_BINS = 50


class EventFile:
    """One event file in a folder. Every call writes at once; `resume_step` makes viewers forget later steps."""

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)  # viewers read files in the order of their names
        name = f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.{os.getpid()}.{socket.gethostname()}"
        self._file = open(folder / name, "xb")  # noqa: SIM115 (closed by `close`)
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        if resume_step > 0:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(step=resume_step + 1, session_log=start))  # forget this step and later ones

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by tag."""
        self._summary([Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()], step)

    def histogram(self, tag: str, values: NDArray[Any], step: int) -> None:
        """The distribution of the finite elements of an array of any shape; nothing if there are none."""
        flat = np.asarray(values, np.float64).ravel()
        flat = flat[np.isfinite(flat)]
        if not flat.size:
            return
        counts, edges = np.histogram(flat, bins=NUM_BINS)
        proto = HistogramProto(
            min=flat.min(),
            max=flat.max(),
            num=flat.size,
            sum=flat.sum(),
            sum_squares=flat @ flat,
            bucket_limit=edges,  # the format gives right edges only: an empty first bucket gives the left edge
            bucket=[0, *counts],
        )
        self._summary([Summary.Value(tag=tag, histo=proto)], step)

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Text, shown as Markdown."""
        tensor = TensorProto(
            dtype="DT_STRING",
            string_val=[markdown.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        plugin = SummaryMetadata.PluginData(plugin_name="text")
        self._summary([Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)], step)

    def image(self, tag: str, encoded: bytes, height: int, width: int, step: int) -> None:
        """An encoded image; an animated GIF is shown moving."""
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self._summary([Summary.Value(tag=tag, image=image)], step)

    def hparams(self, settings: Mapping[str, Any], metrics: Mapping[str, float], step: int) -> None:
        """The settings of the run and how it ended, for TensorBoard's table of runs."""
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        start, infos = plugin_data_pb2.SessionStartInfo(), []
        for name, value in settings.items():
            info = api_pb2.HParamInfo(name=name)
            if isinstance(value, bool):
                start.hparams[name].bool_value, info.type = value, api_pb2.DATA_TYPE_BOOL
            elif isinstance(value, (int, float)):
                start.hparams[name].number_value, info.type = value, api_pb2.DATA_TYPE_FLOAT64
            else:
                start.hparams[name].string_value, info.type = str(value), api_pb2.DATA_TYPE_STRING
            infos.append(info)
        wanted = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=wanted)
        end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
        for tag, content in (
            (metadata.EXPERIMENT_TAG, {"experiment": experiment}),
            (metadata.SESSION_START_INFO_TAG, {"session_start_info": start}),
            (metadata.SESSION_END_INFO_TAG, {"session_end_info": end}),
        ):
            data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
            plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
            self._summary([Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))], step)
        self.scalars(metrics, step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _summary(self, values: list[Summary.Value], step: int) -> None:
        self._write(Event(step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._file.flush()
