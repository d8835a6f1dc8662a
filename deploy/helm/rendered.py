"""Checks what `helm template` wrote: each object against Kubernetes' schemas, and what must hold between objects.

    helm template … | python3 deploy/helm/rendered.py

Needs kubernetes-validate and PyYAML.
"""

import sys
import warnings

import yaml

warnings.filterwarnings("ignore")
import kubernetes_validate  # noqa: E402

VERSION = "1.31"
# Kinds of operators, whose schemas are not Kubernetes'.
FOREIGN = {"ScaledObject", "Certificate", "ServiceMonitor", "PrometheusRule"}
# What our images know; a misspelt variable would be ignored without a word.
VARIABLES = {
    "coordinator": {
        "PACELINE_LISTEN", "PACELINE_STORE", "PACELINE_LEASE_TTL", "PACELINE_HEARTBEAT", "PACELINE_DRAIN", "PACELINE_INSECURE",
        "PACELINE_LOG", "PACELINE_LOG_FORMAT", "PACELINE_ADMIN_ADDRESS", "PACELINE_SERVER_CERT", "PACELINE_SERVER_KEY",
        "PACELINE_CLIENT_CA",
    },
    "worker": {
        "PACELINE_COORDINATOR", "PACELINE_DEVICE", "PACELINE_THREADS", "PACELINE_DATA", "PACELINE_LOG", "PACELINE_LOG_FORMAT",
        "PACELINE_WORKER_ADMIN_ADDRESS", "PACELINE_ADMIN_INSECURE", "PACELINE_CA", "PACELINE_TOKEN_FILE", "PACELINE_CERT", "PACELINE_KEY",
    },
}


def fail(thing, message):
    sys.exit(f"error: {thing['kind']}/{thing['metadata']['name']}: {message}")


def seconds(text):
    return int(text.removesuffix("s"))


def pod_of(thing):
    return thing["spec"]["template"]


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def check_pod(thing):
    """Hardened, with resources, only known variables, every mount with its volume."""
    pod = pod_of(thing)["spec"]
    labels = pod_of(thing)["metadata"]["labels"]
    if not matches(thing["spec"]["selector"]["matchLabels"], labels):
        fail(thing, "its selector does not match its own pods")
    if pod["automountServiceAccountToken"] is not False or pod["securityContext"]["runAsNonRoot"] is not True:
        fail(thing, "is root, or has a token of the cluster")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in thing["spec"].get("volumeClaimTemplates", [])}
    for container in pod["containers"]:
        security = container["securityContext"]
        if not security["readOnlyRootFilesystem"] or security["capabilities"] != {"drop": ["ALL"]}:
            fail(thing, f"{container['name']} is not hardened")
        if security["allowPrivilegeEscalation"] is not False:
            fail(thing, f"{container['name']} may gain privileges")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        if mounted != volumes:
            fail(thing, f"mounts {sorted(mounted)} and volumes {sorted(volumes)} differ")
        ours = {entry["name"] for entry in container["env"] if entry["name"].startswith("PACELINE_")}
        if unknown := ours - VARIABLES[container["name"]]:
            fail(thing, f"the image knows no {sorted(unknown)}")


def environment(thing):
    entries = pod_of(thing)["spec"]["containers"][0]["env"]
    return {entry["name"]: entry.get("value") for entry in entries}


def check_between(things):
    """One coordinator; services, budgets and scalers that find their pods; times that fit."""
    of_kind = lambda *kinds: [thing for thing in things if thing["kind"] in kinds]  # noqa: E731
    (coordinator,) = of_kind("StatefulSet")
    workers = of_kind("Deployment")
    pods = {thing["metadata"]["name"]: pod_of(thing)["metadata"]["labels"] for thing in [coordinator, *workers]}
    services = {thing["metadata"]["name"]: thing for thing in of_kind("Service")}
    if coordinator["spec"]["replicas"] != 1:
        fail(coordinator, "the store has one writer")
    if coordinator["spec"]["serviceName"] not in services:
        fail(coordinator, "its service is not there")
    for service in services.values():
        if not matches(service["spec"]["selector"], pods[coordinator["metadata"]["name"]]):
            fail(service, "does not find the coordinator")
        named = {port["name"] for port in pod_of(coordinator)["spec"]["containers"][0]["ports"]}
        if missing := {port["targetPort"] for port in service["spec"]["ports"]} - named:
            fail(service, f"the coordinator has no port {sorted(missing)}")
    for budget in of_kind("PodDisruptionBudget"):
        if not any(matches(budget["spec"]["selector"]["matchLabels"], labels) for labels in pods.values()):
            fail(budget, "guards no pod")
    for scaler in of_kind("ScaledObject", "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        deployment = next((worker for worker in workers if worker["metadata"]["name"] == target), None)
        if deployment is None:
            fail(scaler, f"scales {target}, which is not there")
        if "replicas" in deployment["spec"]:
            fail(deployment, "has a fixed number of replicas and a scaler, which would fight")
    lease = seconds(environment(coordinator)["PACELINE_LEASE_TTL"])
    grace = pod_of(coordinator)["spec"]["terminationGracePeriodSeconds"]
    if grace <= seconds(environment(coordinator)["PACELINE_DRAIN"]):
        fail(coordinator, "is killed before its drain is over")
    for worker in workers:
        if pod_of(worker)["spec"]["terminationGracePeriodSeconds"] <= lease:
            fail(worker, f"is killed before its lease of {lease} s is over")
        scheme, _, rest = environment(worker)["PACELINE_COORDINATOR"].partition("://")
        service = services[rest.split(".")[0]]
        if service["spec"].get("publishNotReadyAddresses") is not True:
            fail(worker, "registers by a service that waits for readiness")
        if (scheme == "https") != ("PACELINE_SERVER_CERT" in environment(coordinator)):
            fail(worker, f"speaks {scheme}, and the coordinator does not")


def main():
    things = [thing for thing in yaml.safe_load_all(sys.stdin) if thing]
    for thing in things:
        if thing["kind"] not in FOREIGN:
            try:
                kubernetes_validate.validate(thing, VERSION, strict=True)
            except kubernetes_validate.ValidationError as error:
                fail(thing, f"{'.'.join(map(str, error.path))}: {error.message}")
        if thing["kind"] in ("StatefulSet", "Deployment"):
            check_pod(thing)
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in things]
    if len(set(names)) != len(names):
        sys.exit("error: two objects of one kind and name")
    check_between(things)
    print(f"{len(things)} objects are valid and fit together")


if __name__ == "__main__":
    main()
