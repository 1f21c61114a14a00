"""Renders a chart with Helm, and holds what comes out to the schemas of Kubernetes. Runs in the environment of requirements-chart.txt.

Standard input is JSON: `chart`, a folder, and `cases`, a list of values. Standard output is JSON: `helm`, its version, and for each case either `error`, or `objects`,
`notes`, `lint` (warnings and errors) and `invalid`.
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

# The oldest version that the chart names, and the newest that there are schemas of.
VERSIONS = ["1.30", max(kubernetes_validate.utils.all_versions(), key=lambda version: [int(part) for part in version.split(".")[:2]])]
WARNING = 2
# Of the Prometheus operator, which has schemas of its own.
WITHOUT_SCHEMA = {"ServiceMonitor"}


def invalid(obj: dict) -> list[str]:
    faults = []
    for version in VERSIONS:
        if obj["kind"] in WITHOUT_SCHEMA:
            continue
        try:
            kubernetes_validate.validate(obj, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{version}: {obj['kind']}: {'.'.join(map(str, error.path))}: {error.message}")
    return faults


def rendered(chart: helm_python.Chart, folder: str, values: dict) -> dict:
    try:
        files = chart.render(values, name="keymill", namespace="keymill")
    except helm_python.HelmError as error:
        return {"error": str(error)}
    notes = next(text for name, text in files.items() if name.endswith("NOTES.txt"))
    objects = [obj for name, text in files.items() if name.endswith(".yaml") for obj in yaml.safe_load_all(text) if obj]
    lint = helm_python.lint(folder, values, strict=True, kube_version="v1.30.0")
    told = [message["error"] for message in lint["messages"] if message["severity"] >= WARNING] + lint["errors"]
    return {"objects": objects, "notes": notes, "lint": told, "invalid": [fault for obj in objects for fault in invalid(obj)]}


def main() -> None:
    asked = json.load(sys.stdin)
    with helm_python.Chart.load(asked["chart"]) as chart:
        results = [rendered(chart, asked["chart"], yaml.safe_load(case) if isinstance(case, str) else case) for case in asked["cases"]]
    json.dump({"helm": helm_python.helm_sdk_version(), "schemas": VERSIONS, "results": results}, sys.stdout)


if __name__ == "__main__":
    main()
