"""Prints the values that TensorBoard's own `EventAccumulator` reads from directories or files, as JSON.

    tensorboard_accumulator.py PATH...
"""

import json
import math
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as Old
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util import tensor_util


def number(value):
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def read(path):
    events = EventAccumulator(path, tensor_size_guidance=dict.fromkeys(("scalars", "histograms", "text"), 0))
    events.Reload()
    shown = {"scalars": {}, "histograms": {}, "texts": {}}
    for tag in events.Tags()["tensors"]:
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        points = [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        if plugin == "scalars":
            shown["scalars"][tag] = [[step, number(float(value))] for step, value in points]
        elif plugin == "histograms":
            shown["histograms"][tag] = [[step, value.tolist()] for step, value in points]
        elif plugin == "text":
            shown["texts"][tag] = [[step, value.item().decode()] for step, value in points]
    old = Old(path)  # the class that scripts usually call
    old.Reload()
    shown["tags"] = sorted(old.Tags()["tensors"])
    return shown


json.dump([read(path) for path in sys.argv[1:]], sys.stdout)
