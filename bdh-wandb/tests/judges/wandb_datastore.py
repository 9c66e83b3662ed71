"""Reads a `.wandb` log with the data store of wandb 0.19 and prints its content as JSON.

Values are printed as the JSON texts in the log, so that numbers are not rounded.
"""

import json
import sys

from wandb.proto import wandb_internal_pb2 as pb
from wandb.sdk.internal import datastore


def items(record_items):
    return {item.key or ".".join(item.nested_key): item.value_json for item in record_items}


found = {"order": [], "history": [], "summary": {}, "config": {}, "files": [], "metrics": {}, "artifacts": [], "output": []}
store = datastore.DataStore()
store.open_for_scan(sys.argv[1])
while True:
    data = store.scan_data()
    if data is None:
        break
    record = pb.Record()
    record.ParseFromString(data)
    kind = record.WhichOneof("record_type")
    found["order"].append(kind)
    assert record.num == len(found["order"]), f"record {record.num} is number {len(found['order'])}"
    if kind == "run":
        run = record.run
        found["config"].update(items(run.config.update))
        found["run"] = {
            "id": run.run_id,
            "entity": run.entity,
            "project": run.project,
            "name": run.display_name,
            "notes": run.notes,
            "group": run.run_group,
            "job_type": run.job_type,
            "tags": list(run.tags),
            "sweep": run.sweep_id,
            "host": run.host,
        }
    elif kind == "config":
        found["config"].update(items(record.config.update))
    elif kind == "history":
        found["history"].append(items(record.history.item))
        assert record.history.step.num == len(found["history"]) - 1
    elif kind == "summary":
        found["summary"].update(items(record.summary.update))
    elif kind == "files":
        found["files"] += [file.path for file in record.files.files]
    elif kind == "metric":
        found["metrics"][record.metric.name] = record.metric.step_metric
    elif kind == "output_raw":
        found["output"].append(record.output_raw.line)
    elif kind == "exit":
        found["exit"] = record.exit.exit_code
    elif kind == "artifact":
        artifact = record.artifact
        found["artifacts"].append(
            {
                "type": artifact.type,
                "name": artifact.name,
                "digest": artifact.digest,
                "aliases": list(artifact.aliases),
                "files": [[entry.path, entry.size] for entry in artifact.manifest.contents],
            }
        )
print(json.dumps(found))
