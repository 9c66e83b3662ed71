"""Prints everything that a running TensorBoard shows, as JSON, once it has the given number of runs up to a last step.

    tensorboard_http.py URL RUNS LAST_STEP
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

URL, RUNS, LAST_STEP = sys.argv[1].rstrip("/"), int(sys.argv[2]), int(sys.argv[3])
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(route, body=None, **query):
    url = f"{URL}/data/{route}?{urllib.parse.urlencode(query)}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with OPENER.open(request, timeout=30) as answer:
        return json.load(answer)


def each(plugin, route, point, **query):
    """`{run: {tag: [point, ...]}}`."""
    tags = get(f"plugin/{plugin}/tags")
    return {
        run: {
            tag: [point(p) for p in get(f"plugin/{plugin}/{route}", run=run, tag=tag, **query)]
            for tag in tags[run]
        }
        for run in tags
    }


def hparams():
    """Settings, status and metrics of each run, as the table shows them."""
    infos = get("plugin/hparams/experiment", {"experimentName": ""})
    columns = [{"hparam": info["name"]} for info in infos.get("hparamInfos", [])]
    columns += [{"metric": info["name"]} for info in infos.get("metricInfos", [])]
    statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    request = {"experimentName": "", "allowedStatuses": statuses, "colParams": columns}
    request |= {"startIndex": 0, "sliceSize": 100}
    groups = get("plugin/hparams/session_groups", request).get("sessionGroups", [])
    session = {group["name"]: group["sessions"][0] for group in groups}
    return {
        group["name"]: {
            "settings": group["hparams"],
            "metrics": {m["name"]["tag"]: m["value"] for m in group.get("metricValues", [])},
            "status": session[group["name"]].get("status", "STATUS_UNKNOWN"),
            "has_times": session[group["name"]].get("endTimeSecs", 0) >= session[group["name"]]["startTimeSecs"] > 0,
        }
        for group in groups
    }


def snapshot():
    return {
        "scalars": each("scalars", "scalars", lambda p: [p[1], p[2]]),
        "histograms": each("histograms", "histograms", lambda p: [p[1], p[2]]),
        "texts": each("text", "text", lambda p: [p["step"], p["text"]]),
        "images": each("images", "images", lambda p: p["step"], sample=0),
        "charts": get("plugin/custom_scalars/layout"),
        "hparams": hparams() if has_hparams() else {},
    }


def has_hparams():
    return get("plugins_listing").get("hparams", {}).get("enabled", False)


def is_complete(shown):
    steps = [
        max((points[-1][0] for points in tags.values() if points), default=-1)
        for tags in shown["scalars"].values()
    ]
    return len(steps) == RUNS and min(steps) >= LAST_STEP


def main():
    deadline = time.time() + 60
    last = None
    while time.time() < deadline:
        try:
            shown = snapshot()
        except (urllib.error.HTTPError, KeyError) as error:  # only a part has been read so far
            last, shown = repr(error), None
        if shown is not None and is_complete(shown) and shown == last:
            break
        last = shown or last
        time.sleep(0.5)
    json.dump(last, sys.stdout)


main()
