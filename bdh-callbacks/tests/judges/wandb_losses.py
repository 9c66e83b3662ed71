"""Prints `[step, train/loss]` of each row of several `.wandb` logs, as the data store of wandb 0.19 reads them.

Values are printed as the JSON texts of the logs.
"""

import json
import os
import sys

from wandb.proto import wandb_internal_pb2 as pb
from wandb.sdk.internal import datastore


def is_at_end(store, size):
    """Whether no record follows. The padding of a block comes with the next record, and without it wandb 0.19 fails."""
    left = datastore.LEVELDBLOG_BLOCK_LEN - store._index % datastore.LEVELDBLOG_BLOCK_LEN
    padding = left if left < datastore.LEVELDBLOG_HEADER_LEN else 0
    return store._index + padding >= size


def losses(path):
    store = datastore.DataStore()
    store.open_for_scan(path)
    size = os.path.getsize(path)
    while not is_at_end(store, size) and (data := store.scan_data()) is not None:
        record = pb.Record()
        record.ParseFromString(data)
        row = {item.key: item.value_json for item in record.history.item}
        if "train/loss" in row:
            yield [row["step"], row["train/loss"]]


print(json.dumps([list(losses(path)) for path in sys.argv[1:]]))
