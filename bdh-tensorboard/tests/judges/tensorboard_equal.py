"""Compares an event file with what TensorBoard's own functions make of the same values.

    tensorboard_equal.py DIRECTORY VALUES.json

Prints the differences. The values of bdh-tensorboard have their data class, which readers otherwise fill in, and only
the first value of a tag has metadata.
"""

import html
import json
import pathlib
import sys

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.plugins.text.text_plugin import text_array_to_html

DIRECTORY, VALUES = pathlib.Path(sys.argv[1]), json.load(open(sys.argv[2]))
SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
differences = []
compared = 0


def floats(values):
    return np.array([SPECIAL.get(v, v) if isinstance(v, str) else v for v in values], np.float32)


def same(name, ours, theirs):
    global compared
    compared += 1
    if ours.metadata.data_class:
        ours.metadata.data_class = 0
    else:
        theirs.ClearField("metadata")
    # Byte for byte: NaN is not equal to itself.
    if ours.SerializeToString(deterministic=True) != theirs.SerializeToString(deterministic=True):
        differences.append(f"{name}: {ours} is not {theirs}"[:2000])


found = {}
for path in sorted(DIRECTORY.glob("*tfevents*")):
    for event in LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append(value)

for tag, values in VALUES["scalars"].items():
    for ours, value in zip(found.pop(tag), floats(values), strict=True):
        same(tag, ours, scalar_pb(tag, value).value[0])
for tag, case in VALUES["histograms"].items():
    values = floats(case["values"])
    finite = values[np.isfinite(values)]
    [ours] = found.pop(tag)
    same(tag, ours, histogram_pb(tag, finite, buckets=case["bins"]).value[0])
    if finite.size < values.size:
        [count] = found.pop(f"{tag}/nonfinite")
        same(tag, count, scalar_pb(f"{tag}/nonfinite", values.size - finite.size).value[0])
for tag, text in VALUES["texts"].items():
    [ours] = found.pop(tag)
    same(tag, ours, text_pb(tag, ours.tensor.string_val[0]).value[0])
    markup = text_array_to_html(np.array(ours.tensor.string_val[0]), True)
    lines = markup.removeprefix("<p><code>").removesuffix("</code></p>").split("<br>")
    shown = "\n".join(html.unescape(line) for line in lines if "<" not in line)
    if shown.replace("\xa0", " ") != text:
        differences.append(f"{tag} is shown as {markup}")
[ours] = found.pop("_hparams_/session_start_info")
theirs = hparams_pb(VALUES["hparams"], trial_id="", start_time_secs=VALUES["start"]).value[0]
content = [HParamsPluginData.FromString(v.metadata.plugin_data.content) for v in (ours, theirs)]
if content[0] != content[1]:  # maps have no order
    differences.append(f"hparams: {content[0]} is not {content[1]}")
ours.metadata.plugin_data.content = theirs.metadata.plugin_data.content
same("hparams", ours, theirs)
found.pop("_hparams_/session_end_info")
differences += [f"{tag} was not expected" for tag in found]
json.dump({"compared": compared, "differences": differences}, sys.stdout)
