"""Prints the offset after each record of a `.wandb` log, in bytes, as the data store of wandb 0.19 reads it."""

import json
import sys

from wandb.sdk.internal import datastore

store = datastore.DataStore()
store.open_for_scan(sys.argv[1])
ends = []
while store.scan_data() is not None:
    ends.append(store.get_offset())
print(json.dumps(ends))
