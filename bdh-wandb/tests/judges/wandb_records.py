"""Prints end, length and CRC-32 of each record of a `.wandb` log, as the data store of wandb 0.19 reads them."""

import json
import sys
import zlib

from wandb.sdk.internal import datastore

store = datastore.DataStore()
store.open_for_scan(sys.argv[1])
records = []
while (data := store.scan_data()) is not None:
    records.append([store.get_offset(), len(data), zlib.crc32(data)])
print(json.dumps(records))
