//! A small HTTP/1.1 client: one connection a request, JSON in and out, and watches line by line.

use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longest wait for an answer's head; a watch's body may then take as long as it likes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of one line of a watch; the largest object that etcd takes has 1.5 MiB.
const LONGEST_LINE: usize = 4 << 20;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    authority: String,
    token: Option<String>,
}

/// An answer whose code tells failure.
#[derive(Debug)]
pub struct Refused {
    /// HTTP code.
    pub code: u16,
    /// The body, as far as it is text.
    pub body: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the server answered {}: {}", self.code, self.body.trim())
    }
}

impl std::error::Error for Refused {}

impl Client {
    /// For a URL such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When it is no plain HTTP URL without a path.
    pub fn new(url: &str) -> anyhow::Result<Client> {
        match url.trim_end_matches('/').strip_prefix("http://") {
            Some(authority) if !authority.is_empty() && !authority.contains('/') => {
                Ok(Client { authority: authority.to_owned(), token: None })
            }
            _ => bail!("{url:?} is no plain HTTP address such as http://127.0.0.1:8080"),
        }
    }

    /// The same, for whoever has this token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self }
    }

    /// GET.
    ///
    /// # Errors
    /// When the server cannot be reached, or as [`Refused`].
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None, "").await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Some(body), "application/json").await
    }

    /// PUT of JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::PUT, path, Some(body), "application/json").await
    }

    /// PATCH with a JSON merge patch.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::PATCH, path, Some(body), "application/merge-patch+json").await
    }

    /// DELETE with options.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, path: &str, options: &Value) -> anyhow::Result<Value> {
        self.call(Method::DELETE, path, Some(options), "application/json").await
    }

    /// GET of a watch.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn watch(&self, path: &str) -> anyhow::Result<Watch> {
        let answer = self.send(Method::GET, path, None, "").await?;
        Ok(Watch { body: answer.into_body(), buffer: Vec::new() })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        kind: &str,
    ) -> anyhow::Result<Value> {
        let answer = self.send(method, path, body, kind).await?;
        let bytes = answer.into_body().collect().await.context("the answer broke off")?.to_bytes();
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{}{path} did not answer with JSON", self.authority))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        kind: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let what = || format!("{method} http://{}{path}", self.authority);
        let exchange = async {
            let stream = TcpStream::connect(&self.authority).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // It ends with the answer's body, or when the body is dropped.
            tokio::spawn(connection);
            let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
            let mut request =
                Request::builder().method(method.clone()).uri(path).header("host", &self.authority);
            if !kind.is_empty() {
                request = request.header("content-type", kind);
            }
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let request = request.header("accept", "application/json").body(Full::new(bytes))?;
            anyhow::Ok(sender.send_request(request).await?)
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .with_context(|| format!("{}: no answer within {ANSWER_TIMEOUT:?}", what()))?
            .with_context(what)?;
        let code = answer.status();
        if code.is_success() {
            return Ok(answer);
        }
        let body =
            answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        Err(anyhow::Error::new(Refused { code: code.as_u16(), body }).context(what()))
    }
}

/// The HTTP code of a [`Refused`] somewhere in an error.
pub fn refused(error: &anyhow::Error) -> Option<u16> {
    error.chain().find_map(|cause| cause.downcast_ref::<Refused>()).map(|refused| refused.code)
}

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` when the watch has ended.
    ///
    /// # Errors
    /// When the connection breaks or a line is no JSON.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).context("a line of the watch is no JSON");
            }
            if self.buffer.len() > LONGEST_LINE {
                bail!("a line of the watch is longer than {LONGEST_LINE} bytes");
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.context("the watch broke off")?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next event within a time.
    ///
    /// # Errors
    /// As [`Watch::next`]; also when nothing comes in time or the watch ends.
    pub async fn expect(&mut self, within: Duration) -> anyhow::Result<Value> {
        let event = tokio::time::timeout(within, self.next()).await;
        event.with_context(|| format!("no watch event within {within:?}"))??.context("the watch ended")
    }
}
