"""Values with which tests/deploy/chart.py renders helm/forge, and values it must refuse."""

# Passwords of a rendered release, by role.
PASSWORDS = {role: f"{role}-secret" for role in ("planner", "worker", "worker-gpu", "verifier", "aggregator", "client")}

KEDA = {"kind": "keda", "keda": {"monitoringEndpoint": "nats-headless.nats.svc:8222"}}
CONFINED = {
    "volumeMounts": [],
    "env": [],
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}
MATRIX = {
    "defaults": {},
    "GPU": {
        "workerGpu": {"enabled": True, "replicas": 3, "nodeSelector": {"gpu": "h100"}},
        "imageGpu": {"repository": "registry.example/forge", "tag": "1-gpu"},
    },
    "GPU without a runtime class": {
        "workerGpu": {"enabled": True, "runtimeClassName": "", "tolerations": [], "gpuCount": 2}
    },
    "pools of workers": {
        "workerPools": [
            {"name": "acme", "credentialsSecret": "forge-acme", "replicas": 5},
            {"name": "render", "target": "gpu", "nodeSelector": {"gpu": "h100"}},
        ]
    },
    "KEDA": {
        "workerCpu": {"autoscaling": KEDA},
        "workerGpu": {"enabled": True, "autoscaling": dict(KEDA, minReplicas=0)},
    },
    "HPA": {"workerCpu": {"autoscaling": {"kind": "hpa", "minReplicas": 2, "maxReplicas": 40}}},
    "existing NATS with TLS": {
        "nats": {
            "url": "tls://nats-0.example:4222, tls://nats-1.example:4222",
            "tls": {"caSecret": "nats-ca", "clientSecret": "forge-client-tls"},
        },
        "networkPolicy": {"nats": {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}},
    },
    "credentials files": {"nats": {"auth": {"method": "creds", "existingSecret": "forge-creds"}}},
    "nkeys": {"nats": {"auth": {"method": "nkey"}}},
    "no authentication": {"nats": {"auth": {"method": "none"}, "replicas": 1}},
    "Object Lock": {
        "store": {
            "endpoint": "https://s3.example:8333",
            "caSecret": "s3-ca",
            "caKey": "tls.crt",
            "objectLock": "compliance:3650",
            "keepShards": "unlimited",
        }
    },
    "AWS with a role": {
        "store": {"existingSecret": "", "url": "s3://risk/forge", "region": "eu-central-1"},
        "aggregator": {"serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/forge"}},
    },
    "passwords in values": {"nats": {"auth": {"plainTextPasswords": PASSWORDS}}},
    "identities": {
        "workerCpu": {"replicas": 1, "identitySecret": "worker-seed"},
        "aggregator": {"identitySecret": "aggregator-seed"},
        "verifier": {"identitySecret": "verifier-seed"},
    },
    "observed": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
        "settings": {"otlpEndpoint": "http://collector.telemetry:4318"},
        "networkPolicy": {
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
        },
    },
    "workers alone": {
        "planner": {"enabled": False},
        "verifier": {"enabled": False},
        "aggregator": {"enabled": False},
        "test": {"enabled": False},
        "nats": {"auth": {"users": {"worker": "worker-of-acme"}}},
    },
    "everything by hand": {
        "fullnameOverride": "mc",
        "commonLabels": {"team": "risk"},
        "image": {"digest": "sha256:" + "a" * 64, "pullPolicy": "Always", "pullSecrets": ["registry"]},
        "planner": {
            "extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"}],
            "extraEnvFrom": [{"secretRef": {"name": "more"}}],
            "extraVolumes": [{"name": "extra", "configMap": {"name": "extra"}}],
            "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
            "quotas": {"schema": "forge.quotas.v1", "default": {"concurrent_jobs": 10}},
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
        },
        "topologySpread": {"keys": ["kubernetes.io/hostname"], "whenUnsatisfiable": "DoNotSchedule"},
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "networkPolicy": {"enabled": False},
    },
    "usual extensions": {
        "global": {"imageRegistry": "mirror.example:5000", "imagePullSecrets": ["everywhere", {"name": "first"}]},
        "image": {"pullSecrets": [{"name": "first"}, "second"]},
        "store": {"existingSecretKeys": {"accessKeyId": "user", "secretAccessKey": "password"}},
        "planner": {
            "deploymentAnnotations": {"reloader.stakater.com/auto": "true"},
            "serviceAccountName": "of-the-platform",
            "initContainers": [{"name": "wait", "image": "busybox", "command": ["true"]}],
            "extraContainers": [{"name": "proxy", "image": "proxy", **CONFINED}],
            "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["nats.example"]}],
            "dnsPolicy": "ClusterFirst",
            "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        },
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "of-{{ .Release.Name }}"},
                "data": {"a": "b"},
            },
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: text}\ndata: {namespace: '{{ .Release.Namespace }}'}\n",
        ],
    },
    "no extras": {
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "topologySpread": {"keys": []},
        "test": {"enabled": False},
    },
}

# Invalid values, and the word that each error message must contain.
REFUSED = [
    ({"workerCPU": {}}, "workerCPU"),
    ({"workerCpu": {"replica": 3}}, "replica"),
    ({"workerCpu": {"replicas": "3"}}, "replicas"),
    ({"workerCpu": {"autoscaling": {"enabled": True}}}, "enabled"),
    ({"workerCpu": {"autoscaling": {"kind": "vpa"}}}, "kind"),
    ({"workerCpu": {"autoscaling": {"keda": {"lag": 3}}}}, "lag"),
    ({"workerGpu": {"gpu": 1}}, "gpu"),
    ({"workerPools": [{"name": "gpu"}]}, "name"),
    ({"workerPools": [{"name": "Acme"}]}, "name"),
    ({"workerPools": [{"name": "acme"}, {"name": "acme"}]}, "acme"),
    ({"workerPools": [{"name": "acme", "pool": "x"}]}, "pool"),
    ({"planner": {"backend": "simd"}}, "backend"),
    ({"planner": {"resources": {"limit": {}}}}, "limit"),
    ({"planner": {"extraEnv": [{"name": "A", "val": "b"}]}}, "val"),
    ({"planner": {"quotas": {"default": {}}, "quotasConfigMap": "q"}}, "quotasConfigMap"),
    ({"nats": {"urls": "nats://a"}}, "urls"),
    ({"nats": {"url": "nats.example:4222"}}, "url"),
    ({"nats": {"url": "nats://user:password@nats:4222"}}, "url"),
    ({"nats": {"replicas": 2}}, "replicas"),
    ({"nats": {"storageMib": 100}}, "storageMib"),
    ({"nats": {"auth": {"method": "token"}}}, "method"),
    ({"nats": {"auth": {"plainTextPasswords": {"planner": "x"}}}}, "plainTextPasswords"),
    ({"nats": {"auth": {"existingSecret": ""}}}, "nats.auth.existingSecret"),
    ({"nats": {"auth": {"users": {"planner": "a.b"}}}}, "planner"),
    ({"nats": {"tls": {"caSecret": "ca"}}}, "tls://"),
    ({"nats": {"tls": {"enabled": True}}}, "enabled"),
    ({"store": {"url": "file:///data"}}, "url"),
    ({"store": {"objectLock": "compliance"}}, "objectLock"),
    ({"store": {"secretAccessKey": "x"}}, "secretAccessKey"),
    ({"store": {"endpoint": "http://s3:8333", "existingSecret": ""}}, "store.endpoint"),
    ({"store": {"endpoint": "http://s3:8333", "caSecret": "ca"}}, "https://"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"image": {"pullSecrets": [{"secret": "x"}]}}, "pullSecrets"),
    ({"global": {"imageRegistry": "https://mirror"}}, "imageRegistry"),
    ({"planner": {"dnsPolicy": "First"}}, "dnsPolicy"),
    ({"planner": {"extraContainers": {"name": "x"}}}, "extraContainers"),
    ({"networkPolicy": {"store": {"ports": ["443"]}}}, "ports"),
    ({"networkPolicy": {"nats": {"to": [{"podSelectors": {}}]}}}, "podSelectors"),
    ({"settings": {"logFormat": "xml"}}, "logFormat"),
    ({"podMonitor": {"interval": "often"}}, "interval"),
    ({"prometheusRule": {"enabled": True, "disabled": ["ForgeNothing"]}}, "ForgeNothing"),
    ({"prometheusRule": {"enabled": True, "overrides": {"ForgeNothing": {"for": "1h"}}}}, "ForgeNothing"),
    ({"prometheusRule": {"overrides": {"ForgeNoWorkers": {"for": "long"}}}}, "for"),
    ({"workerCpu": {"identitySecret": "seed"}}, "one replica"),
    ({"workerCpu": {"autoscaling": {"kind": "keda"}}}, "monitoringEndpoint"),
    ({"workerCpu": {"autoscaling": {"kind": "hpa", "minReplicas": 5, "maxReplicas": 2}}}, "minReplicas"),
]
