//! `pods/portforward` over a WebSocket, as a real server speaks it with clients that ask by GET: two channels a port, data and errors, each
//! message with its channel in front, the first of each with the port's number.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::access::Asked;
use super::failure::Failure;
use super::{Query, Server};

const PROTOCOL: &str = "v4.channel.k8s.io";
/// Bytes of one message.
const MESSAGE: usize = 16 << 10;

/// Where the pods listen that ports may be forwarded to: by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Forwards(Mutex<HashMap<(String, String, u16), SocketAddr>>);

impl Forwards {
    pub(super) fn lead(&self, namespace: &str, pod: &str, port: u16, to: SocketAddr) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.insert((namespace.to_owned(), pod.to_owned(), port), to);
    }

    fn find(&self, namespace: &str, pod: &str, port: u16) -> Option<SocketAddr> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&(namespace.to_owned(), pod.to_owned(), port)).copied()
    }
}

pub(super) async fn forward(
    State(server): State<Arc<Server>>,
    Path((namespace, pod)): Path<(String, String)>,
    axum::extract::Query(query): axum::extract::Query<Query>,
    headers: HeaderMap,
    mut request: Request,
) -> Result<Response, Failure> {
    // Asked by GET, and since 1.35 for what it does as well.
    for verb in ["get", "create"] {
        let resource = "pods/portforward".to_owned();
        let asked = Asked { verb, group: "", resource, namespace: &namespace, name: &pod };
        server.access.check(&server.store, &headers, &asked)?;
    }
    let port = query.get("ports").and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or_else(|| Failure::bad_request("one port is forwarded here, by `ports`"))?;
    let to = server.forwards.find(&namespace, &pod, port).ok_or_else(Failure::no_such_path)?;
    let key = headers.get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()));
    let key = key.ok_or_else(|| Failure::bad_request("no WebSocket is asked for"))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            // Whichever side ends it, there is nobody to tell.
            let _ = carry(socket, port, to).await;
        }
    });
    let upgraded = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, key),
        (header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL.to_owned()),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, upgraded).into_response())
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn carry(mut socket: Socket, port: u16, to: SocketAddr) -> anyhow::Result<()> {
    for channel in [0, 1] {
        let [low, high] = port.to_le_bytes();
        socket.send(Message::binary(vec![channel, low, high])).await?;
    }
    let mut there = TcpStream::connect(to).await?;
    let mut bytes = vec![0; MESSAGE];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(data))) if data.first() == Some(&0) => {
                    there.write_all(data.get(1..).unwrap_or_default()).await?;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            read = there.read(&mut bytes) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                let mut data = vec![0];
                data.extend(bytes.get(..length).unwrap_or_default());
                socket.send(Message::binary(data)).await?;
            }
        }
    }
}
