//! Connections of agents and people: taken from the listener, encrypted where TLS is on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::caller::User;

/// Hand-shakes at once at most; the next connections wait in the listener's queue. All agents of a large cluster come back within
/// seconds, and each hand-shake takes a millisecond.
const HAND_SHAKES: usize = 256;
/// How long a hand-shake may take, so that who connects and says nothing gives its place away.
const HAND_SHAKE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection, which is mostly for want of descriptors.
const REFUSED: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The user whom its certificate names, where it showed one.
    pub user: Option<Arc<User>>,
}

/// One connection.
pub struct Connection {
    stream: Pin<Box<dyn Stream>>,
    peer: Peer,
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

impl Connection {
    fn plain(stream: TcpStream) -> Self {
        Self { stream: Box::pin(stream), peer: Peer { user: None } }
    }

    async fn encrypted(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<Self> {
        let stream = tokio::time::timeout(HAND_SHAKE, acceptor.accept(stream)).await??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let user = certificate.and_then(|certificate| User::from_certificate(certificate)).map(Arc::new);
        Ok(Self { stream: Box::pin(stream), peer: Peer { user } })
    }
}

/// The connections that `listener` gets, as long as somebody takes them. Without `tls` they are plain text.
pub fn connections(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(HAND_SHAKES);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = accept(listener, tls.map(TlsAcceptor::from), &sender) => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    sender: &mpsc::Sender<io::Result<Connection>>,
) {
    let places = Arc::new(Semaphore::new(HAND_SHAKES));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("a connection was not accepted: {error}");
                tokio::time::sleep(REFUSED).await;
                continue;
            }
        };
        // Answers are small, and wait for nothing.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor.clone() else {
            let _ = sender.send(Ok(Connection::plain(stream))).await;
            continue;
        };
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let sender = sender.clone();
        tokio::spawn(async move {
            match Connection::encrypted(stream, acceptor).await {
                Ok(connection) => {
                    let _ = sender.send(Ok(connection)).await;
                }
                Err(error) => tracing::debug!(%from, "no TLS hand-shake: {error}"),
            }
            drop(place);
        });
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }
}
