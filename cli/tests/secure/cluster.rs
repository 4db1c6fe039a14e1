//! As much of the Kubernetes API as finding the aggregator takes: its pod, its authority, and a port forwarded to it.

use std::net::SocketAddr;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Longest head of a request here.
const HEAD: usize = 16 << 10;
const PORT: u16 = 7443;

/// Serves a cluster whose aggregator is there.
pub(crate) async fn start(aggregator: SocketAddr, authority: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, aggregator, authority.clone()));
        }
    });
    address
}

async fn answer(stream: TcpStream, aggregator: SocketAddr, authority: String) {
    // Looked at first: the hand-shake of a WebSocket reads its own.
    let mut head = vec![0; HEAD];
    let request = loop {
        let length = stream.peek(&mut head).await.unwrap();
        let text = String::from_utf8_lossy(&head[..length]).into_owned();
        if text.contains("\r\n\r\n") {
            break text;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    };
    let target = request.split(' ').nth(1).unwrap();
    let path = target.split('?').next().unwrap();
    match path {
        "/api/v1/namespaces/lastwords/pods/lastwords-aggregator-x/portforward" => {
            assert!(target.contains(&format!("ports={PORT}")), "{target}");
            forward(stream, aggregator).await;
        }
        "/api/v1/namespaces/lastwords/pods" => {
            assert!(target.contains("component%3Daggregator"), "{target}");
            respond(
                stream,
                &request,
                &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod()]}),
            )
            .await;
        }
        "/api/v1/namespaces/lastwords/configmaps/lastwords-ca" => {
            let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "lastwords-ca"}, "data": {"ca.crt": authority}});
            respond(stream, &request, &map).await;
        }
        _ => {
            respond(
                stream,
                &request,
                &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}),
            )
            .await
        }
    }
}

fn pod() -> Value {
    json!({
        "metadata": {
            "name": "lastwords-aggregator-x", "namespace": "lastwords",
            "annotations": {
                "lastwords.dev/authority": "lastwords-ca",
                "lastwords.dev/server-name": "lastwords-aggregator.lastwords.svc",
            },
        },
        "spec": {"containers": []},
        "status": {"phase": "Running"},
    })
}

async fn respond(mut stream: TcpStream, request: &str, body: &Value) {
    stream.read_exact(&mut vec![0; request.len()]).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// One port over a WebSocket, as the API server speaks it: channel 0 is data, 1 errors, and each begins with the port.
async fn forward(stream: TcpStream, aggregator: SocketAddr) {
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let choose = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap();
    for channel in [0, 1] {
        let [low, high] = PORT.to_le_bytes();
        socket.send(Message::binary(vec![channel, low, high])).await.unwrap();
    }
    let mut there = TcpStream::connect(aggregator).await.unwrap();
    let mut bytes = vec![0; 16 << 10];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(data))) if data.first() == Some(&0) => there.write_all(&data[1..]).await.unwrap(),
                Some(Ok(_)) => {}
                _ => return,
            },
            read = there.read(&mut bytes) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let mut data = vec![0];
                    data.extend(&bytes[..length]);
                    if socket.send(Message::binary(data)).await.is_err() {
                        return;
                    }
                }
            },
        }
    }
}
