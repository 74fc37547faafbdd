#!/usr/bin/env python3
"""Tests helm/forge with helm, Kubernetes' schemas and real servers.

    tests/deploy/chart.py target/release/forge

1. Lints and renders the chart with many sets of values.
2. Validates every object strictly against the OpenAPI schemas of the oldest Kubernetes that the
   chart supports and of the newest known one.
3. Checks by rules in this file what those schemas do not cover (KEDA, the Prometheus operator) and
   what the chart promises (security, probes, secrets).
4. Checks that invalid values are refused.
5. Starts every container of a rendered release as a process on loopback, with the container's
   environment and files, against an S3 store and a NATS server with TLS and
   deploy/nats/nats-server.conf. Runs the script of `helm test` against it.

Needs openssl.
"""

import copy
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from chart_values import MATRIX, PASSWORDS, REFUSED
from release import check_compose_server, check_running, find_object, pod_spec
from tools import (
    KUBERNETES_VALIDATE,
    ROOT,
    TOOLS,
    Checks,
    Failure,
    environment,
    kubernetes_tools,
    missing_programs,
    require,
    run,
)

TOOLS.mkdir(parents=True, exist_ok=True)
PYTHON = environment(KUBERNETES_VALIDATE) / "bin/python"
try:
    import kubernetes_validate
    import yaml
except ImportError:
    # Restart in the virtual environment that has the modules.
    os.execv(PYTHON, [str(PYTHON), *sys.argv])

CHART = ROOT / "helm/forge"
NATS_VALUES = ROOT / "helm/nats-values.yaml"
VERSIONS = ["1.29", kubernetes_validate.latest_version()]
# Files of the chart that are copies, because a chart cannot read outside its directory.
COPIES = {
    "insurance.json": "examples/insurance.json",
    "alerts.yaml": "deploy/prometheus/alerts.yaml",
    "dashboard.json": "deploy/grafana/forge.json",
}
# Kinds that Kubernetes' own schemas do not define.
THIRD_PARTY_KINDS = {"ScaledObject", "PodMonitor", "PrometheusRule"}
USER = 65532


class Chart:
    """Calls helm on the chart."""

    def __init__(self, directory):
        self.helm, self.kubectl = kubernetes_tools()
        self.directory = directory
        # Keeps the user's helm caches and settings out of the test.
        self.environment = dict(
            os.environ,
            HELM_CACHE_HOME=str(directory / "c"),
            HELM_CONFIG_HOME=str(directory / "g"),
            HELM_DATA_HOME=str(directory / "d"),
        )

    def call(self, verb, values, *more, check=True):
        path = self.directory / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        return run(self.helm, verb, *more, CHART, "--values", path, env=self.environment, check=check)

    def render(self, values):
        text = self.call("template", values, "release", "--namespace", "forge")
        return [document for document in yaml.safe_load_all(text) if document]


def check_sources(checks):
    for name, source in COPIES.items():
        require(
            (CHART / "files" / name).read_bytes() == (ROOT / source).read_bytes(),
            f"helm/forge/files/{name} differs from {source}",
        )
    version = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    require(chart["appVersion"] == version, f"Chart.yaml has version {chart['appVersion']}, Cargo.toml {version}")
    hash_of_example = re.search(r"expected=([0-9a-f]{64})", (CHART / "templates/tests/submit.yaml").read_text()).group(
        1
    )
    require(hash_of_example in (ROOT / "README.md").read_text(), "helm test and README.md expect different hashes")
    # Every value, or a group that contains it, is documented in the table of README.md.
    readme = (CHART / "README.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def paths(value, prefix):
        for key, below in value.items():
            yield from paths(below, f"{prefix}{key}.") if isinstance(below, dict) and below else [f"{prefix}{key}"]

    common = {
        "enabled",
        "replicas",
        "resources",
        "serviceAccountAnnotations",
        "podAnnotations",
        "podLabels",
        "nodeSelector",
        "tolerations",
        "affinity",
        "priorityClassName",
        "extraEnv",
        "extraEnvFrom",
        "extraVolumes",
        "extraVolumeMounts",
        "initContainers",
        "extraContainers",
        "serviceAccountName",
        "deploymentAnnotations",
        "hostAliases",
        "dnsPolicy",
        "dnsConfig",
    }
    for path in paths(values, ""):
        parts = path.split(".")
        shown = (
            f"*.{parts[1]}"
            if len(parts) > 1
            and parts[1] in common
            and parts[0] in ("planner", "workerCpu", "workerGpu", "verifier", "aggregator")
            else path
        )
        shown = re.sub(r"^worker(Cpu|Gpu)\.(autoscaling|identitySecret|backend)", r"worker*.\2", shown)
        require(
            any(f"`{'.'.join(shown.split('.')[:end])}`" in readme for end in range(1, len(shown.split(".")) + 1)),
            f"helm/forge/README.md does not explain {shown}",
        )
    checks.ok("the chart's example, version, hash and README match the repository")


def check_pod(document):
    """Checks what the chart promises of every pod."""
    name, pod = document["metadata"]["name"], pod_spec(document)
    security = pod["securityContext"]
    require(
        security["runAsNonRoot"]
        and security["runAsUser"] == USER
        and security["seccompProfile"] == {"type": "RuntimeDefault"},
        f"{name}: {security}",
    )
    require(pod["automountServiceAccountToken"] is False, f"{name} has a token")
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        require(not pod.get(flag), f"{name}: {flag}")
    for volume in pod["volumes"]:
        require(set(volume) - {"name"} <= {"secret", "configMap", "emptyDir"}, f"{name}: {volume}")
        if "secret" in volume:
            require(volume["secret"]["items"], f"{name} mounts all keys of a secret")
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        security = container["securityContext"]
        require(
            security
            == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
            f"{name}: {security}",
        )
        require({mount["name"] for mount in container["volumeMounts"]} <= volumes, f"{name} mounts an undefined volume")
        variables = [variable["name"] for variable in container["env"]]
        require(len(variables) == len(set(variables)), f"{name} defines a variable twice: {variables}")
        for variable in container["env"]:
            secret = re.search("PASSWORD$|SECRET|_KEY_ID$", variable["name"])
            require(not secret or "value" not in variable, f"{name} has {variable['name']} in plain text")
    if document["kind"] == "Deployment":
        container = pod["containers"][0]
        require(container["livenessProbe"]["httpGet"]["path"] == "/healthz", f"{name}: liveness")
        require(container["readinessProbe"]["httpGet"]["path"] == "/readyz", f"{name}: readiness")
        require(pod["terminationGracePeriodSeconds"] > 20, f"the grace period of {name} is too short to finish its shards")
        selector = document["spec"]["selector"]["matchLabels"]
        require(
            selector.items() <= document["spec"]["template"]["metadata"]["labels"].items(),
            f"{name} does not select its own pods",
        )
        mounted = {
            item["key"]
            for volume in pod["volumes"]
            if volume["name"] == "nats-auth"
            for item in volume["secret"]["items"]
        }
        require(len(mounted) <= 1, f"{name} mounts credentials of other roles: {mounted}")
        store = {variable["name"] for variable in container["env"] if variable["name"].startswith("AWS_")}
        require(not store or name.endswith("-aggregator"), f"{name} has credentials for the store")


def check_third_party(document):
    """Checks that objects of KEDA and the Prometheus operator have exactly the documented fields.
    """
    spec = document["spec"]
    if document["kind"] == "ScaledObject":
        require(document["apiVersion"] == "keda.sh/v1alpha1", document["apiVersion"])
        require(
            set(spec)
            == {
                "scaleTargetRef",
                "minReplicaCount",
                "maxReplicaCount",
                "pollingInterval",
                "cooldownPeriod",
                "triggers",
            },
            f"{set(spec)}",
        )
        queues = set()
        for trigger in spec["triggers"]:
            require(set(trigger) == {"type", "metadata"} and trigger["type"] == "nats-jetstream", f"{trigger}")
            metadata = trigger["metadata"]
            require(
                set(metadata)
                == {
                    "natsServerMonitoringEndpoint",
                    "account",
                    "stream",
                    "consumer",
                    "lagThreshold",
                    "activationLagThreshold",
                    "useHttps",
                },
                f"{metadata}",
            )
            require(all(isinstance(value, str) for value in metadata.values()), f"KEDA accepts only strings: {metadata}")
            queues.add(metadata["consumer"])
        kind = document["metadata"]["labels"]["app.kubernetes.io/component"].removeprefix("worker-")
        require(queues == {f"workers-{kind}{suffix}" for kind in (kind, "any") for suffix in ("", "-long")}, f"{queues}")
        topology = (ROOT / "crates/bus/src/topology.rs").read_text()
        require(all(f'"{queue}"' in topology for queue in queues) and '"FORGE_SHARDS"' in topology, "the bus has no such queue")
    elif document["kind"] == "PrometheusRule":
        require(document["apiVersion"] == "monitoring.coreos.com/v1", document["apiVersion"])
        require(set(spec) == {"groups"} and spec["groups"], f"{set(spec)}")
        for group in spec["groups"]:
            require(set(group) == {"name", "rules"}, f"{set(group)}")
            for rule in group["rules"]:
                require(set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}, f"{set(rule)}")
    else:
        require(document["apiVersion"] == "monitoring.coreos.com/v1", document["apiVersion"])
        require(set(spec) == {"selector", "podTargetLabels", "podMetricsEndpoints"}, f"{set(spec)}")
        require([set(endpoint) for endpoint in spec["podMetricsEndpoints"]] == [{"port", "path", "interval"}], "endpoints")


def check_documents(documents):
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    require(len(names) == len(documents), "two objects have the same kind and name")
    for document in documents:
        kind = document["kind"]
        if kind in THIRD_PARTY_KINDS:
            check_third_party(document)
        else:
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    raise Failure(
                        f"{kind} {document['metadata']['name']}, Kubernetes {version}: {error.message} at {list(error.path)}"
                    ) from None
        require(kind not in ("Ingress", "Service", "Role", "ClusterRole"), f"unexpected kind {kind}")
        if kind in ("Deployment", "Pod"):
            check_pod(document)
        target = document["spec"].get("scaleTargetRef") if "spec" in document else None
        if target:
            require((target["kind"], target["name"]) in names, f"the scaled object {target} does not exist")
            deployment = next(
                d for d in documents if d["kind"] == "Deployment" and d["metadata"]["name"] == target["name"]
            )
            require("replicas" not in deployment["spec"], "both the deployment and its autoscaler set the number of replicas")


def check_particulars(chart, checks):
    """Checks the effect of single values."""
    gpu = find_object(chart.render(MATRIX["GPU"]), "Deployment", "release-forge-worker-gpu")["spec"]["template"]["spec"]
    (container,) = gpu["containers"]
    require(container["resources"]["limits"]["nvidia.com/gpu"] == 1, f"{container['resources']}")
    require(container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}, f"{container['resources']}")
    require(gpu["runtimeClassName"] == "nvidia" and gpu["tolerations"][0]["key"] == "nvidia.com/gpu", "no GPU")
    require(container["image"] == "registry.example/forge:1-gpu", container["image"])

    documents = chart.render(MATRIX["defaults"])
    require(
        {d["metadata"]["name"] for d in documents if d["kind"] == "Deployment"}
        == {f"release-forge-{c}" for c in ("planner", "worker-cpu", "verifier", "aggregator")},
        "deployments",
    )
    require(find_object(documents, "ConfigMap", "release-forge-settings")["data"]["FORGE_REPLICAS"] == "3", "replicas of streams")
    settings = find_object(chart.render({"nats": {"storageMib": 2048}}), "ConfigMap", "release-forge-settings")["data"]
    require(settings["FORGE_STORAGE_MIB"] == "2048", "nats.storageMib does not reach the services")
    require(not any(d["kind"] == "Secret" for d in documents), "a secret is rendered although no password is given")
    policy = find_object(documents, "NetworkPolicy", "release-forge")["spec"]
    require(policy["policyTypes"] == ["Ingress", "Egress"] and policy["ingress"] == [], f"{policy}")
    require({port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 4222}, f"{policy}")
    store = find_object(documents, "NetworkPolicy", "release-forge-store")["spec"]
    require(store["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "aggregator", f"{store}")
    for budget in (d for d in documents if d["kind"] == "PodDisruptionBudget"):
        require(budget["spec"]["maxUnavailable"] == 1, f"{budget}")

    def annotations(values):
        deployment = find_object(chart.render(values), "Deployment", "release-forge-planner")
        return deployment["spec"]["template"]["metadata"]["annotations"]

    require(annotations({}) != annotations({"settings": {"log": "debug"}}), "a changed setting does not restart the pods")
    passwords = copy.deepcopy(MATRIX["passwords in values"])
    before = annotations(passwords)
    passwords["nats"]["auth"]["plainTextPasswords"]["planner"] = "another"
    require(before != annotations(passwords), "a changed password does not restart the pods")
    documents = chart.render(MATRIX["pools of workers"])
    for name, secret, queue_gpu in (("acme", "forge-acme", False), ("render", "forge-nats", True)):
        pool = find_object(documents, "Deployment", f"release-forge-worker-{name}")["spec"]["template"]["spec"]
        (container,) = pool["containers"]
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        require(variables["FORGE_NATS_USER"] == f"worker-{name}", f"{variables}")
        require(variables["FORGE_NATS_INBOX_PREFIX"] == f"_INBOX_worker-{name}", f"{variables}")
        (mounted,) = [volume["secret"] for volume in pool["volumes"] if volume["name"] == "nats-auth"]
        require(mounted["secretName"] == secret and mounted["items"][0]["key"] == f"worker-{name}", f"{mounted}")
        require(("nvidia.com/gpu" in container["resources"]["limits"]) == queue_gpu, f"{container['resources']}")
    lock = find_object(chart.render(MATRIX["Object Lock"]), "Deployment", "release-forge-aggregator")
    require(
        {"name": "FORGE_OBJECT_LOCK", "value": "compliance:3650"}
        in lock["spec"]["template"]["spec"]["containers"][0]["env"],
        "no Object Lock",
    )
    address = find_object(chart.render({}), "ConfigMap", "release-forge-settings")["data"]["FORGE_HTTP"]
    require(address == "[::]:9464", f"probes need both families of addresses: {address}")
    documents = chart.render(MATRIX["everything by hand"])
    planner = find_object(documents, "Deployment", "mc-planner")["spec"]["template"]["spec"]
    (container,) = planner["containers"]
    volumes = {volume["name"]: volume for volume in planner["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    require(volumes["extra"]["configMap"] == {"name": "extra"} and mounts["extra"] == "/extra", f"{planner}")
    require({"secretRef": {"name": "more"}} in container["envFrom"], f"{container['envFrom']}")
    require(volumes["quotas"]["configMap"]["name"] == "mc-quotas", f"{volumes}")
    quotas = json.loads(find_object(documents, "ConfigMap", "mc-quotas")["data"]["quotas.json"])
    require(quotas == MATRIX["everything by hand"]["planner"]["quotas"], f"{quotas}")
    path = {variable["name"]: variable.get("value") for variable in container["env"]}["FORGE_QUOTAS"]
    require(path == f"{mounts['quotas']}/quotas.json", path)
    check_extensions(chart)
    notes = chart.call("install", {}, "release", "--dry-run=client", "--namespace", "forge")
    require("helm test release --namespace forge" in notes, "NOTES.txt does not name the command of helm test")
    checks.ok("values change GPU pods, pools, secrets, policies, budgets, checksums, Object Lock and NOTES.txt")


def check_extensions(chart):
    """Checks what users of charts add to pods and releases, by the usual names."""
    documents = chart.render(MATRIX["usual extensions"])
    deployment = find_object(documents, "Deployment", "release-forge-planner")
    require(deployment["metadata"]["annotations"] == {"reloader.stakater.com/auto": "true"}, f"{deployment['metadata']}")
    pod = deployment["spec"]["template"]["spec"]
    for key, value in MATRIX["usual extensions"]["planner"].items():
        if key in ("hostAliases", "dnsPolicy", "dnsConfig", "initContainers", "serviceAccountName"):
            require(pod[key] == value, f"{key}: {pod.get(key)}")
    require([container["name"] for container in pod["containers"]] == ["planner", "proxy"], f"{pod['containers']}")
    accounts = {d["metadata"]["name"] for d in documents if d["kind"] == "ServiceAccount"}
    require("release-forge-verifier" in accounts and "release-forge-planner" not in accounts, f"{accounts}")
    secrets = [{"name": name} for name in ("everywhere", "first", "second")]
    for document in documents:
        if document["kind"] in ("Deployment", "Pod"):
            pod = pod_spec(document)
            require(pod["imagePullSecrets"] == secrets, f"{pod['imagePullSecrets']}")
            image = pod["containers"][0]["image"]
            require(image.startswith("mirror.example:5000/forge"), image)
    keys = [
        variable["valueFrom"]["secretKeyRef"]["key"]
        for variable in pod_spec(find_object(documents, "Deployment", "release-forge-aggregator"))["containers"][0]["env"]
        if variable["name"].startswith("AWS_") and "valueFrom" in variable
    ]
    require(keys == ["user", "password"], f"{keys}")
    require(find_object(documents, "ConfigMap", "of-release")["data"] == {"a": "b"}, "an object of extraObjects")
    require(find_object(documents, "ConfigMap", "text")["data"] == {"namespace": "forge"}, "a text of extraObjects")
    unset = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    for document in chart.render({"podSecurityContext": unset}):
        if document["kind"] in ("Deployment", "Pod"):
            security = pod_spec(document)["securityContext"]
            require(security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, f"{security}")
    rules = [{"action": "drop", "regex": "forge_.*"}]
    monitored = {"podMonitor": {"enabled": True, "relabelings": rules, "metricRelabelings": rules}}
    (endpoint,) = find_object(chart.render(monitored), "PodMonitor", "release-forge")["spec"]["podMetricsEndpoints"]
    require(endpoint["relabelings"] == rules == endpoint["metricRelabelings"], f"{endpoint}")


def check_monitoring(chart, checks):
    """Checks that alerts and dashboard are those of deploy, as values change them."""
    source = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]

    def groups(**values):
        documents = chart.render({"prometheusRule": {"enabled": True, **values}})
        return find_object(documents, "PrometheusRule", "release-forge")["spec"]["groups"]

    require(groups() == source, "the rendered alerts differ from deploy/prometheus/alerts.yaml")
    extra = {"name": "more", "rules": [{"alert": "More", "expr": "vector(1)"}]}
    changed = groups(
        disabled=["ForgeNoWorkers"],
        overrides={"ForgeJobsWaiting": {"for": "1h", "labels": {"severity": "info"}}},
        extraGroups=[extra],
    )
    expected = copy.deepcopy(source)
    for group in expected:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != "ForgeNoWorkers"]
        for rule in group["rules"]:
            if rule["alert"] == "ForgeJobsWaiting":
                rule.update({"for": "1h", "labels": {"severity": "info"}})
    require(changed == [*expected, extra], f"{changed}")
    observed = chart.render(MATRIX["observed"])
    dashboard = find_object(observed, "ConfigMap", "release-forge-dashboard")
    require(dashboard["metadata"]["labels"]["grafana_dashboard"] == "1", f"{dashboard['metadata']}")
    rendered = json.loads(dashboard["data"]["forge.json"])
    require(rendered == json.loads((ROOT / "deploy/grafana/forge.json").read_text()), "another dashboard")
    names = {(document["kind"], document["metadata"]["name"]) for document in chart.render({})}
    require(("ConfigMap", "release-forge-dashboard") not in names, "a dashboard that is not enabled")
    require("PrometheusRule" not in {kind for kind, _ in names}, "alerts that are not enabled")
    checks.ok("dashboard and alerts are those of deploy; values omit, change and add some alerts")


def check_kubectl(chart, checks):
    """Checks that kubectl parses the rendered release and applies a kustomization to it."""
    (chart.directory / "release.yaml").write_text(yaml.safe_dump_all(chart.render(MATRIX["defaults"])))
    (chart.directory / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["release.yaml"], "namespace": "elsewhere"})
    )
    built = list(yaml.safe_load_all(run(chart.kubectl, "kustomize", chart.directory)))
    require(built and all(d["metadata"]["namespace"] == "elsewhere" for d in built), "kubectl kustomize")
    checks.ok("kubectl parses the rendered release")


def check_nats_values(checks):
    """Checks that helm/nats-values.yaml requests durable storage and the generated accounts."""
    values = yaml.safe_load(NATS_VALUES.read_text())
    config = values["config"]
    require(config["cluster"] == {"enabled": True, "replicas": 3}, f"{config['cluster']}")
    require(config["jetstream"]["enabled"] and config["jetstream"]["fileStore"]["enabled"], "no file storage")
    require(config["jetstream"]["merge"]["sync_interval"] == "always", "an acknowledged message may be lost")
    # One amount of storage: the pods' setting, the servers' max_file_store, below the volume.
    store, chart = config["jetstream"]["fileStore"], yaml.safe_load((CHART / "values.yaml").read_text())
    require(store["maxSize"] == f"{chart['nats']['storageMib'] >> 10}Gi", f"{store} does not fit {chart['nats']}")
    require(int(store["maxSize"][:-2]) < int(store["pvc"]["size"].removesuffix("Gi")), f"{store}")
    require("env" not in values["container"], "nats-server takes passwords from its environment")
    (volume,) = values["podTemplate"]["merge"]["spec"]["volumes"]
    require(volume["secret"] == {"secretName": "forge-nats-accounts"}, f"{volume}")
    checks.ok("helm/nats-values.yaml: three servers, storage as in values.yaml, sync_interval always, accounts from a Secret")


def generate_accounts(directory, forge, checks):
    """Runs the commands of helm/forge/README.md that create the Secrets, as far as they write files.

    Returns the generated accounts. The generated passwords become those of the rendered releases.
    """
    readme = (CHART / "README.md").read_text()
    for command in ("forge credentials secrets\n", "--from-file=secrets/passwords\n", "--from-file=secrets/accounts.conf\n"):
        require(command in readme, f"helm/forge/README.md does not say {command!r}")
    run(forge, "credentials", directory / "secrets")
    passwords = {path.name: path.read_text() for path in (directory / "secrets/passwords").iterdir()}
    # People have these, and no pod.
    users = set(PASSWORDS) | {"operator", "console"}
    require(set(passwords) == users, f"forge credentials makes passwords for {set(passwords)}")
    PASSWORDS.update({user: passwords[user] for user in PASSWORDS})
    accounts = (directory / "secrets/accounts.conf").read_text()
    require(accounts.startswith("accounts {"), f"not the accounts: {accounts[:60]}")
    checks.ok("forge credentials makes a password for each key of the Secret")
    return accounts


def check_compose(directory, forge, checks):
    """Checks that every installed Compose accepts docker-compose.yml, and only with credentials."""
    commands = [["docker-compose"]] if shutil.which("docker-compose") else []
    if shutil.which("docker") and run("docker", "compose", "version", check=False).returncode == 0:
        commands.append(["docker", "compose"])
    require(commands, "no Compose: install docker-compose or Docker's plugin")
    run(forge, "credentials", directory / "compose", "--compose")
    credentials = directory / "compose/compose.env"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("FORGE_", "AWS_"))}
    for command in commands:
        files = ["--project-directory", ROOT, "--file", ROOT / "docker-compose.yml"]
        # Both calls name a file, because the working tree may contain a developer's .env.
        (directory / "empty").write_text("")
        refused = run(*command, *files, "--env-file", directory / "empty", "config", env=own, check=False)
        require(refused.returncode != 0 and "forge credentials" in refused.stderr, f"{command} accepts missing credentials")
        config = yaml.safe_load(run(*command, *files, "--env-file", credentials, "config", env=own))
        for name, service in config["services"].items():
            require(
                service["read_only"] and service["cap_drop"] == ["ALL"] and service["user"] == f"{USER}:{USER}",
                f"{name} is not confined",
            )
            require(service["security_opt"] == ["no-new-privileges:true"], f"{name} may gain privileges")
            require(service["mem_limit"] and service["cpus"] and service["pids_limit"], f"{name} has no limits")
            # AWS_ variables of the user's shell, meant for another system, must not be passed on.
            require(
                "AWS_" not in str([v for k, v in service.get("environment", {}).items() if k.startswith("AWS_")]), name
            )
        check_compose_metrics(config)
        for storage in ({}, {"FORGE_STORAGE_MIB": "512"}):
            check_compose_storage(
                yaml.safe_load(run(*command, *files, "--env-file", credentials, "config", env=own | storage)),
                storage.get("FORGE_STORAGE_MIB", "4096"),
            )
        checks.ok(f"{' '.join(command)} config: every service is confined; missing credentials are refused")


def check_compose_storage(config, storage):
    """Checks that all services and the NATS server of a Compose file have the same storage."""
    services = {
        name: service["environment"]["FORGE_STORAGE_MIB"]
        for name, service in config["services"].items()
        if "FORGE_HTTP" in service.get("environment", {})
    }
    require(set(services) == {"planner", "worker", "worker-gpu", "verifier", "aggregator"} - absent_profiles(config), f"{services}")
    require({str(value) for value in services.values()} == {storage}, f"FORGE_STORAGE_MIB: {services}")
    server = config["services"]["nats"]["environment"]["FORGE_NATS_MAX_FILE_STORE"]
    require(server == f"{storage}MB", f"the server has {server}, the services {storage} MiB")


def check_compose_metrics(config):
    """Checks that Prometheus of a Compose file scrapes all services, at the port they listen on."""
    (job,) = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())["scrape_configs"]
    (targets,) = job["dns_sd_configs"]
    addresses = {
        name: service["environment"]["FORGE_HTTP"]
        for name, service in config["services"].items()
        if "FORGE_HTTP" in service.get("environment", {})
    }
    require(set(addresses) == set(targets["names"]) - absent_profiles(config), f"{targets} {addresses}")
    require(set(addresses.values()) == {f"0.0.0.0:{targets['port']}"}, f"{addresses}")


def absent_profiles(config):
    """Returns the services of profiles that `config` leaves out."""
    return {"worker-gpu"} - set(config["services"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    forge = Path(sys.argv[1]).resolve()
    missing = missing_programs("openssl")
    require(not missing, f"missing: {missing}")
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="forge-chart-") as directory:
        directory = Path(directory)
        chart = Chart(directory)
        check_sources(checks)
        for name, values in MATRIX.items():
            chart.call("lint", values, "--strict")
            documents = chart.render(values)
            check_documents(documents)
            checks.ok(f"{name}: {len(documents)} objects, Kubernetes {' and '.join(VERSIONS)}")
        check_particulars(chart, checks)
        check_monitoring(chart, checks)
        check_kubectl(chart, checks)
        for values, word in REFUSED:
            refused = chart.call("template", values, "release", check=False)
            require(
                refused.returncode != 0 and word in refused.stderr,
                f"not refused for {word!r}: {json.dumps(values)}\n{refused.stderr}",
            )
        checks.ok(f"{len(REFUSED)} invalid values are refused by name")
        check_nats_values(checks)
        permissions = generate_accounts(directory, forge, checks)
        check_compose(directory, forge, checks)
        check_compose_server(directory, forge, checks)
        include = yaml.safe_load(NATS_VALUES.read_text())["config"]["merge"]["$include"]
        for kind in ("one server", "three servers", "TLS"):
            check_running(chart, forge, kind, (include, permissions), checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"chart.py: {failure}")
