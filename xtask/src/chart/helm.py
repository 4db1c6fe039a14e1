"""Lints and renders a chart with Helm's own library, and holds every object against Kubernetes' schemas.

Reads {"chart", "namespace", "name", "values": {file: path}, "oldest"} on standard input and prints
{"rendered": {file: {template: text}}, "problems": [sentence]}.
"""

import copy
import json
import sys

import cel
import helm_python.chart as helm
import jsonschema
import kubernetes_validate
import yaml

WARNING = 2

# Kinds that Kubernetes itself does not know: of the Prometheus operator's API (v1) the part that the chart uses, as strict as the rest.
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}


def monitor(endpoints):
    """The schema of an operator's object that names what is to be asked under `endpoints`."""
    endpoint = {
        "type": "object",
        "additionalProperties": False,
        "required": ["port"],
        "properties": {
            "port": {"type": "string"},
            "path": {"type": "string"},
            "interval": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w|y))+$"},
            "honorLabels": {"type": "boolean"},
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {},
            "kind": {},
            "metadata": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "namespace"],
                "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}, "labels": LABELS},
            },
            "spec": {
                "type": "object",
                "additionalProperties": False,
                "required": ["selector", endpoints],
                "properties": {
                    "selector": {"type": "object", "additionalProperties": False, "properties": {"matchLabels": LABELS}},
                    endpoints: {"type": "array", "items": endpoint},
                },
            },
        },
    }


OPERATOR = {
    ("monitoring.coreos.com/v1", "PodMonitor"): monitor("podMetricsEndpoints"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): monitor("endpoints"),
}

asked = json.load(sys.stdin)
chart = helm.Chart.load(asked["chart"])
versions = [asked["oldest"], kubernetes_validate.latest_version()]
rendered = {}
problems = []

for file, path in asked["values"].items():
    with open(path, encoding="utf-8") as text:
        values = yaml.safe_load(text) or {}
    report = helm.lint(asked["chart"], values, strict=True, namespace=asked["namespace"])
    for message in report["messages"]:
        if message["severity"] >= WARNING:
            problems.append(f"{file}: helm lint: {message['path']}: {message['error']}")
    rendered[file] = chart.render(values, name=asked["name"], namespace=asked["namespace"])
    for template, text in rendered[file].items():
        if not template.endswith(".yaml"):
            continue
        for document in yaml.safe_load_all(text):
            if document is None:
                continue
            operators = OPERATOR.get((document.get("apiVersion"), document.get("kind")))
            for version in versions:
                try:
                    if operators:
                        jsonschema.validate(document, operators)
                    else:
                        kubernetes_validate.validate(document, version, strict=True)
                except Exception as error:  # each of its exceptions says what is wrong in its own way
                    what = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
                    problems.append(f"{file}: {what} is none of Kubernetes {version}: {str(error).splitlines()[0]}")

wrong = [
    {"agents": {}},
    {"agent": {"tolerance": []}},
    {"agent": {"tolerations": [{"effect": "NoScheduling"}]}},
    {"agent": {"config": {"log_tail": {"line": 10}}}},
    {"agent": {"config": {"spool_directory": "/elsewhere"}}},
    {"agent": {"resources": {"limits": {"memory": "256 MB"}}}},
    {"agent": {"seccompProfile": {"type": "None"}}},
    {"aggregator": {"config": {"retention": {"max_age": 30}}}},
    {"aggregator": {"config": {"listen": "0.0.0.0:1"}}},
    {"aggregator": {"config": {"kubernetes": {"annotate_pods": "yes"}}}},
    {"image": {"pullPolicy": "Sometimes"}},
    {"metrics": {"podMonitor": {"interval": "30"}}},
    {"metrics": {"from": [{"pods": {}}]}},
    {"metrics": {"enabled": False, "podMonitor": {"enabled": True}}},
    {"metrics": {"serviceMonitor": {"interval": "30"}}},
    {"metrics": {"enabled": False, "serviceMonitor": {"enabled": True}}},
    {"agent": {"config": {"metrics_listen": "0.0.0.0:1"}}},
    {"aggregator": {"persistence": {"size": "much"}}},
    {"aggregator": {"persistence": {"size": "1.2.3Gi"}}},
]
# Kubernetes writes kilo small and kibi large.
wrong += [{"agent": {"resources": {"limits": {"memory": size}}}} for size in ["64ki", "64K", "1.2.3", "."]]
right = [
    {"agent": {"resources": {"limits": {"memory": size, "cpu": 0.5}}}}
    for size in ["262144Ki", "1e9", "1E+9", "1.5Gi", "64k", "268435456", 268435456, "64M"]
]
right += [{"agent": {"resources": {"requests": {"cpu": cpu}}}} for cpu in ["20m", ".5", "1"]]
right += [{"aggregator": {"persistence": {"size": size}}} for size in ["1048576Ki", "10Gi", "1e10"]]


def found(values, kind):
    """The objects of a kind, over all templates."""
    texts = chart.render(values, name=asked["name"], namespace=asked["namespace"])
    documents = [it for name, text in texts.items() if name.endswith(".yaml") for it in yaml.safe_load_all(text)]
    return [it for it in documents if it and it.get("kind") == kind]


# What a ServiceMonitor selects has to be there, with the port that it names; and nothing is asked for twice.
on = {"enabled": True}
for values in [{"metrics": {"serviceMonitor": on}}, {"metrics": {"serviceMonitor": on, "podMonitor": on}}]:
    monitors = found(values, "ServiceMonitor")
    wanted = monitors[0]["spec"]["selector"]["matchLabels"] if len(monitors) == 1 else {"": ""}
    services = [it for it in found(values, "Service") if wanted.items() <= it["metadata"]["labels"].items()]
    ports = [port["name"] for it in services for port in it["spec"]["ports"]]
    if ports.count("metrics") != 1:
        problems.append(f"{json.dumps(values)}: the ServiceMonitor selects no service with its port: {ports}")
    for pods in found(values, "PodMonitor"):
        if pods["spec"]["selector"]["matchLabels"].get("app.kubernetes.io/component") != "agent":
            problems.append(f"{json.dumps(values)}: the PodMonitor asks the aggregators too")
if found({}, "ServiceMonitor") or any(len(it["spec"]["ports"]) > 1 for it in found({}, "Service")):
    problems.append("a ServiceMonitor or its port is there without being asked for")


# Who may patch pods may do anything, so that the aggregator gets it only when asked for, with a policy that leaves of it its own annotations.
def may_patch_pods(role):
    return any("pods" in rule["resources"] and {"patch", "update", "*"} & set(rule["verbs"]) for rule in role["rules"])


def decides(policy, user, before, after):
    """What the API server makes of a change by this user: None where the policy says nothing of it, else whether it lets it pass."""
    context = {"request": {"userInfo": {"username": user}}, "oldObject": before, "object": after, "variables": {}}
    spec = policy["spec"]
    if not all(cel.evaluate(condition["expression"], context) for condition in spec["matchConditions"]):
        return None
    for variable in spec["variables"]:
        context["variables"][variable["name"]] = cel.evaluate(variable["expression"], context)
    return all(cel.evaluate(validation["expression"], context) for validation in spec["validations"])


def changed(pod, *path_and_value):
    """The pod with one field set; without a value it is removed."""
    *path, last, value = path_and_value
    pod = copy.deepcopy(pod)
    field = pod
    for name in path:
        field = field[name] if isinstance(name, int) else field.setdefault(name, {})
    if value is None:
        del field[last]
    else:
        field[last] = value
    return pod


if found({}, "ValidatingAdmissionPolicy") or any(map(may_patch_pods, found({}, "ClusterRole") + found({}, "Role"))):
    problems.append("the aggregator may patch pods without being asked to")
annotating = {"aggregator": {"config": {"kubernetes": {"annotate_pods": True}}}}
policies, bindings = (found(annotating, "ValidatingAdmissionPolicy" + kind) for kind in ["", "Binding"])
if not any(map(may_patch_pods, found(annotating, "ClusterRole"))) or len(policies) != 1:
    problems.append(f"{json.dumps(annotating)}: the right to patch pods and its policy are not there")
for policy in policies:
    if [(it["spec"]["policyName"], it["spec"]["validationActions"]) for it in bindings] != [(policy["metadata"]["name"], ["Deny"])]:
        problems.append("the policy of the annotations is bound by nothing that denies")
    [subject] = [
        it["subjects"][0] for it in found(annotating, "ClusterRoleBinding") if it["metadata"]["name"].endswith("-aggregator")
    ]
    user = f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    bare = {"metadata": {"name": "api"}, "spec": {"containers": [{"name": "app", "image": "api:1"}]}}
    annotations, cause = ("metadata", "annotations"), "lastwords.dev/cause"
    pod = changed(bare, *annotations, {"example.com/team": "shop", cause: "Killed"})
    pod = changed(pod, "metadata", "labels", {"app": "api"})
    pod = changed(pod, "metadata", "ownerReferences", [{"kind": "ReplicaSet", "name": "api-5d8", "uid": "r"}])
    for what, before, after, lets_pass in [
        ("nothing", bare, bare, True),
        ("a first annotation", bare, changed(bare, *annotations, cause, "Killed"), True),
        ("a newer cause", pod, changed(pod, *annotations, cause, "OutOfMemory"), True),
        ("one more of its own", pod, changed(pod, *annotations, "lastwords.dev/summary", "it was killed"), True),
        ("one of its own removed", pod, changed(pod, *annotations, cause, None), True),
        ("another image", pod, changed(pod, "spec", "containers", 0, "image", "evil:1"), False),
        ("a toleration", pod, changed(pod, "spec", "tolerations", [{"operator": "Exists"}]), False),
        ("another's annotation", pod, changed(pod, *annotations, "example.com/team", "mine"), False),
        ("another's annotation removed", pod, changed(pod, *annotations, "example.com/team", None), False),
        ("all annotations removed", pod, changed(pod, *annotations, None), False),
        ("an annotation that is not listed", pod, changed(pod, *annotations, "lastwords.dev/authority", "mine"), False),
        ("a label", pod, changed(pod, "metadata", "labels", "app", "web"), False),
        ("labels removed", pod, changed(pod, "metadata", "labels", None), False),
        ("first labels", bare, changed(bare, "metadata", "labels", {"app": "api"}), False),
        ("a finalizer", pod, changed(pod, "metadata", "finalizers", ["example.com/stay"]), False),
        ("no owner", pod, changed(pod, "metadata", "ownerReferences", None), False),
    ]:
        if decides(policy, user, before, after) is not lets_pass:
            problems.append(f"the policy of the annotations is wrong about a change of the aggregator's: {what}")
        if decides(policy, "system:serviceaccount:kube-system:deployment-controller", before, after) is not None:
            problems.append(f"the policy of the annotations is not the aggregator's alone: {what}")


def refused(values):
    try:
        chart.render(values, name=asked["name"], namespace=asked["namespace"])
    except Exception as error:
        return str(error)
    return None


for values in wrong:
    if refused(values) is None:
        problems.append(f"the schema of the values lets {json.dumps(values)} pass")
for values in right:
    if why := refused(values):
        problems.append(f"the schema of the values refuses {json.dumps(values)}: {why}")

json.dump({"rendered": rendered, "problems": problems}, sys.stdout)
