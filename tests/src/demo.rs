//! Three pods that crash without a log line, for the demonstration and for the test that holds it to its word.

use serde_json::{Value, json};

/// Where pods of the namespace `default` are made.
pub const PODS: &str = "/api/v1/namespaces/default/pods";

/// One pod of the demonstration, and what is to be said of it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What its user did wrong, for whoever watches.
    pub story: &'static str,
    /// The cause to be named.
    pub cause: &'static str,
    /// The object to be named.
    pub object: &'static str,
}

/// The three.
pub const CASES: [Case; 3] = [
    Case {
        name: "report-builder",
        story: "reads an endless file into a memory limit of 32Mi",
        cause: "CAUSE_OUT_OF_MEMORY",
        object: "memory limit 32Mi",
    },
    Case {
        name: "payments-api",
        story: "runs as user 4242 and needs a key file that only root may read",
        cause: "CAUSE_PERMISSION_DENIED",
        object: "/etc/payments/tls.key",
    },
    Case {
        name: "mail-relay",
        story: "needs a configuration that nobody mounted",
        cause: "CAUSE_FILE_NOT_FOUND",
        object: "/etc/mail-relay/relay.conf",
    },
];

/// The Secret that `payments-api` mounts.
#[must_use]
pub fn secret() -> Value {
    json!({"metadata": {"name": "payments-tls"}, "data": {"tls.key": "bm90IGEgcmVhbCBrZXk="}})
}

/// The pods, in the order of [`CASES`]. Each program hides what it would say, as many do.
#[must_use]
pub fn pods() -> [Value; 3] {
    let mut memory = pod("report-builder", "exec tail /dev/zero >/dev/null 2>&1");
    memory["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "32Mi"}});
    // As most programs it does not fail in its first millisecond, after which nobody could look at the file through its root.
    let mut key = pod("payments-api", "sleep 0.3; exec cat /etc/payments/tls.key >/dev/null 2>&1");
    key["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 4242, "runAsGroup": 4242});
    key["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "tls", "mountPath": "/etc/payments"}]);
    key["spec"]["volumes"] =
        json!([{"name": "tls", "secret": {"secretName": "payments-tls", "defaultMode": 0o400}}]);
    let config = pod("mail-relay", "exec cat /etc/mail-relay/relay.conf >/dev/null 2>&1");
    [memory, key, config]
}

fn pod(name: &str, script: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app",
                "image": "localhost/busybox:1",
                "command": ["/bin/sh", "-c", script],
            }],
        },
    })
}
