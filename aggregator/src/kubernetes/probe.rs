//! A container's probes, in the words of `kubectl describe`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lastwords_diagnosis::pod::Probe;
use serde::Deserialize;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    name: Option<String>,
    container_port: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ProbeSpec {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    exec: Option<Exec>,
    initial_delay_seconds: Option<u32>,
    period_seconds: Option<u32>,
    timeout_seconds: Option<u32>,
    failure_threshold: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct HttpGet {
    scheme: Option<String>,
    host: Option<String>,
    port: IntOrString,
    path: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct TcpSocket {
    port: IntOrString,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Grpc {
    port: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Exec {
    command: Vec<String>,
}

/// A container's probes by their kinds, for the container that stands at that path and has these ports.
pub(super) fn probes(
    probes: [(&str, &Option<ProbeSpec>); 3],
    ports: &[Port],
    field_path: &str,
) -> Vec<Probe> {
    probes
        .into_iter()
        .filter_map(|(kind, probe)| {
            let probe = probe.as_ref()?;
            let (action, port) = action(probe, ports);
            Some(Probe {
                kind: kind.to_owned(),
                action,
                port,
                initial_delay_seconds: probe.initial_delay_seconds.unwrap_or(0),
                period_seconds: probe.period_seconds.unwrap_or(10),
                timeout_seconds: probe.timeout_seconds.unwrap_or(1),
                failure_threshold: probe.failure_threshold.unwrap_or(3),
                field_path: format!("{field_path}.{kind}Probe"),
            })
        })
        .collect()
}

/// As `kubectl describe` writes it, with the number behind a port's name.
fn action(probe: &ProbeSpec, ports: &[Port]) -> (String, u16) {
    if let Some(get) = &probe.http_get {
        let port = number(&get.port, ports);
        let scheme = match get.scheme.as_deref() {
            Some("HTTPS") => "https://",
            _ => "",
        };
        let (host, path) = (get.host.as_deref().unwrap_or_default(), get.path.as_deref().unwrap_or("/"));
        return (format!("http-get {scheme}{host}:{}{path}", shown(port, &get.port)), port);
    }
    if let Some(socket) = &probe.tcp_socket {
        let port = number(&socket.port, ports);
        return (format!("tcp-socket :{}", shown(port, &socket.port)), port);
    }
    if let Some(grpc) = &probe.grpc {
        return (format!("grpc :{}", grpc.port), u16::try_from(grpc.port).unwrap_or(0));
    }
    match &probe.exec {
        Some(exec) => (format!("exec [{}]", exec.command.join(" ")), 0),
        None => ("probe".to_owned(), 0),
    }
}

/// The number of a port; 0 for a name that none of the container's ports has.
fn number(port: &IntOrString, ports: &[Port]) -> u16 {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match ports.iter().find(|port| port.name.as_ref() == Some(name)) {
            Some(port) => port.container_port,
            None => name.parse().unwrap_or(0),
        },
    };
    u16::try_from(number).unwrap_or(0)
}

fn shown(number: u16, written: &IntOrString) -> String {
    match (number, written) {
        (0, IntOrString::String(name)) => name.clone(),
        (number, _) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_as_people_write_them() {
        let probes = |probe: serde_json::Value| {
            let ports = serde_json::json!([{"name": "http", "containerPort": 8081}]);
            let ports: Vec<Port> = serde_json::from_value(ports).unwrap();
            let probe = serde_json::from_value(probe).unwrap();
            let all = [("liveness", &Some(probe)), ("startup", &None), ("readiness", &None)];
            let found = super::probes(all, &ports, "spec.containers[0]");
            found.into_iter().map(|probe| (probe.action, probe.port)).collect::<Vec<_>>()
        };
        let get =
            |port: serde_json::Value| serde_json::json!({"httpGet": {"path": "/healthz", "port": port}});
        assert_eq!(probes(get(8081.into())), [("http-get :8081/healthz".to_owned(), 8081)]);
        assert_eq!(probes(get("http".into())), [("http-get :8081/healthz".to_owned(), 8081)]);
        assert_eq!(probes(get("htp".into())), [("http-get :htp/healthz".to_owned(), 0)]);
        let exec = serde_json::json!({"exec": {"command": ["cat", "/tmp/healthy"]}});
        assert_eq!(probes(exec), [("exec [cat /tmp/healthy]".to_owned(), 0)]);
        let socket = serde_json::json!({"tcpSocket": {"port": 5432}});
        assert_eq!(probes(socket), [("tcp-socket :5432".to_owned(), 5432)]);
    }
}
