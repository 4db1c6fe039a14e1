//! The accept loop: unlike a library's, it can break its connections and refuse new ones on demand.

use std::net::SocketAddr;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::faults::Line;

/// Serves until it is aborted.
pub(super) async fn accept(
    mut listener: TcpListener,
    address: SocketAddr,
    router: Router,
    mut control: UnboundedReceiver<Line>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that is gone before it is accepted is the client's affair.
                let Ok((connection, _)) = accepted else { continue };
                let service = TowerToHyperService::new(router.clone());
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(connection), service).with_upgrades();
                connections.spawn(connection);
            }
            Some(line) = control.recv() => {
                // Aborted tasks close their sockets: the client sees the connection end in the middle.
                connections.abort_all();
                if let Line::Refuse(time) = line {
                    drop(listener);
                    tokio::time::sleep(time).await;
                    listener = match TcpListener::bind(address).await {
                        Ok(listener) => listener,
                        Err(error) => {
                            eprintln!("stand-in-api-server: cannot listen on {address} again: {error}");
                            return;
                        }
                    };
                }
            }
            // Finished connections are collected so that the set holds only live ones.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}
