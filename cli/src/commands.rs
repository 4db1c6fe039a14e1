//! What each command asks and how its answer is printed.

use std::io::Write;
use std::time::SystemTime;

use lastwords_proto::v1::{
    Crash, ExplainOwnerRequest, ExplainPodRequest, ExplainPodResponse, GetCrashRequest, ListCrashesRequest,
    ListCrashesResponse, ListNodesRequest, WatchCrashesRequest,
};
use lastwords_render::{crash_text, escape, explain_text, list_text, nodes_text, owner_text, watch_line};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::Status;

use crate::args::{Arguments, Command, Explain, Get, List, Target, Watch};
use crate::connect::{Aggregator, connect};
use crate::output::cannot_print;
use crate::{Error, Output};

/// The largest page the aggregator gives.
const PAGE: u32 = 1000;

/// Asks what `arguments` ask and writes the answer to `to`.
///
/// # Errors
/// See [`Error`]: each says what, where and what to do, and has its exit code.
pub async fn run(arguments: &Arguments, output: &Output, to: &mut dyn Write) -> Result<(), Error> {
    let mut aggregator = connect(&arguments.server).await?;
    match &arguments.command {
        Command::Explain(explain) => aggregator.explain(explain, *output, to).await,
        Command::List(list) => aggregator.list(list, *output, to).await,
        Command::Watch(watch) => aggregator.watch(watch, *output, to).await,
        Command::Get(get) => aggregator.get(get, *output, to).await,
        Command::Nodes => aggregator.nodes(*output, to).await,
    }
}

impl Aggregator {
    async fn explain(&mut self, explain: &Explain, output: Output, to: &mut dyn Write) -> Result<(), Error> {
        match &explain.target {
            Some(Target::Pod(pod)) => self.explain_pod(pod, explain, output, to).await,
            Some(Target::Owner(..)) | None => self.explain_owner(explain, output, to).await,
        }
    }

    async fn explain_pod(
        &mut self,
        pod: &str,
        explain: &Explain,
        output: Output,
        to: &mut dyn Write,
    ) -> Result<(), Error> {
        let Explain { namespace, container, .. } = explain;
        let namespace = namespace.as_ref().unwrap_or(&self.namespace);
        let request = ExplainPodRequest {
            namespace: namespace.clone(),
            pod_name: pod.to_owned(),
            container: container.clone(),
            max_crashes: 0,
        };
        let not_found = format!(
            "neither a pod {pod} nor a crash of one is known in namespace {namespace}; look with: lastwords list -A"
        );
        let answer = self.client.explain_pod(request).await;
        let answer = answer.map_err(|status| self.failed(&status, &not_found))?.into_inner();
        let printed = output.one(|colour| explain_text(&answer, &now(), colour), || json_of_pod(&answer))?;
        print(to, &printed)
    }

    async fn explain_owner(
        &mut self,
        explain: &Explain,
        output: Output,
        to: &mut dyn Write,
    ) -> Result<(), Error> {
        let Explain { target, selector, namespace, container } = explain;
        let namespace = namespace.as_ref().unwrap_or(&self.namespace);
        let (kind, name) = match target {
            Some(Target::Owner(kind, name)) => (kind.clone(), name.clone()),
            Some(Target::Pod(_)) | None => Default::default(),
        };
        let selector = selector.clone().unwrap_or_default();
        let asked = if selector.is_empty() { format!("{kind}/{name}") } else { selector.clone() };
        let not_found = format!(
            "no pod of {asked} is known in namespace {namespace}, nor a crash of one; look with: lastwords list -A"
        );
        let request = ExplainOwnerRequest {
            namespace: namespace.clone(),
            kind,
            name,
            selector: selector.clone(),
            container: container.clone(),
            max_crashes: 0,
        };
        let answer = self.client.explain_owner(request).await;
        let answer = answer.map_err(|status| self.failed(&status, &not_found))?.into_inner();
        let printed = output.one(
            |colour| owner_text(&answer, &asked, &now(), colour),
            || {
                let pods: Vec<Value> = answer.pods.iter().map(json_of_pod).collect::<Result<_, _>>()?;
                let whose = if selector.is_empty() { "owner" } else { "selector" };
                let asked = if selector.is_empty() { &answer.owner } else { &selector };
                Ok(json!({ whose: asked, "pods": pods, "pods_left_out": answer.pods_left_out }))
            },
        )?;
        print(to, &printed)
    }

    async fn list(&mut self, list: &List, output: Output, to: &mut dyn Write) -> Result<(), Error> {
        let mut crashes: Vec<Crash> = Vec::new();
        let mut page_token = String::new();
        let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
        loop {
            let page = self.page(list, page_token).await?;
            crashes.extend(page.crashes);
            page_token = page.next_page_token;
            if page_token.is_empty() || crashes.len() >= limit {
                break;
            }
        }
        let more = crashes.len() > limit || !page_token.is_empty();
        crashes.truncate(limit);
        let printed = output.one(
            |colour| match (crashes.is_empty(), list.namespaces.wanted(&self.namespace)) {
                (true, "") => "no crash\n".to_owned(),
                (true, namespace) => {
                    format!("no crash in namespace {}; -A looks in all\n", escape(namespace))
                }
                _ => list_text(&crashes, &now(), colour),
            },
            || Ok(json!({ "crashes": json_of_all(&crashes)? })),
        )?;
        print(to, &printed)?;
        if more {
            eprintln!(
                "lastwords: there are more than these {limit}; ask for more with --limit, or for fewer with --since"
            );
        }
        Ok(())
    }

    async fn page(&mut self, list: &List, page_token: String) -> Result<ListCrashesResponse, Error> {
        let request = ListCrashesRequest {
            namespace: list.namespaces.wanted(&self.namespace).to_owned(),
            cause: list.cause.map(Into::into),
            since: list.since.map(ago),
            node: list.node.clone(),
            include_completed: list.all,
            page_size: list.limit.min(PAGE),
            page_token,
            ..ListCrashesRequest::default()
        };
        let answer = self.client.list_crashes(request).await;
        Ok(answer.map_err(|status| self.failed(&status, "there is no such list"))?.into_inner())
    }

    async fn watch(&mut self, watch: &Watch, output: Output, to: &mut dyn Write) -> Result<(), Error> {
        let request = WatchCrashesRequest {
            namespace: watch.namespaces.wanted(&self.namespace).to_owned(),
            include_completed: watch.all,
        };
        let answer = self.client.watch_crashes(request).await;
        let mut crashes =
            answer.map_err(|status| self.failed(&status, "there is no such watch"))?.into_inner();
        while let Some(answer) =
            crashes.message().await.map_err(|status| self.failed(&status, "the watch is gone"))?
        {
            let Some(crash) = answer.crash else { continue };
            let printed =
                output.one_of_many(|colour| watch_line(&crash, colour), || json_of("Crash", &crash))?;
            print(to, &printed)?;
        }
        Err(Error::Unreachable { address: self.address.clone(), problem: "it ended the watch".to_owned() })
    }

    async fn get(&mut self, get: &Get, output: Output, to: &mut dyn Write) -> Result<(), Error> {
        let not_found =
            format!("there is no crash with the id {}; look with: lastwords list -A -o json", get.id);
        let answer = self.client.get_crash(GetCrashRequest { id: get.id.clone() }).await;
        let answer = answer.map_err(|status| self.failed(&status, &not_found))?.into_inner();
        let crash = answer.crash.ok_or(Error::NotFound(not_found))?;
        let printed = output.one(|colour| crash_text(&crash, colour), || json_of("Crash", &crash))?;
        print(to, &printed)
    }

    async fn nodes(&mut self, output: Output, to: &mut dyn Write) -> Result<(), Error> {
        let answer = self.client.list_nodes(ListNodesRequest {}).await;
        let nodes =
            answer.map_err(|status| self.failed(&status, "there is no such list"))?.into_inner().nodes;
        let printed = output.one(
            |colour| match nodes.is_empty() {
                true => "no node is known: no agent has reported since the aggregator started\n".to_owned(),
                false => nodes_text(&nodes, &now(), colour),
            },
            || {
                let nodes: Vec<Value> =
                    nodes.iter().map(|node| json_of("Node", node)).collect::<Result<_, _>>()?;
                Ok(json!({ "nodes": nodes }))
            },
        )?;
        print(to, &printed)
    }

    fn failed(&self, status: &Status, not_found: &str) -> Error {
        Error::from_status(status, &self.address, not_found)
    }
}

fn json_of_pod(answer: &ExplainPodResponse) -> Result<Value, Error> {
    let pod = answer.pod.as_ref().map(|pod| json_of("Pod", pod)).transpose()?;
    Ok(json!({ "pod": pod, "crashes": json_of_all(&answer.crashes)? }))
}

fn json_of(name: &str, message: &impl prost::Message) -> Result<Value, Error> {
    lastwords_proto::to_json(name, message).map_err(cannot_print)
}

fn json_of_all(crashes: &[Crash]) -> Result<Vec<Value>, Error> {
    crashes.iter().map(|crash| json_of("Crash", crash)).collect()
}

fn print(to: &mut dyn Write, text: &str) -> Result<(), Error> {
    to.write_all(text.as_bytes())?;
    to.flush()?;
    Ok(())
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn ago(seconds: i64) -> Timestamp {
    let now = now();
    Timestamp { seconds: now.seconds.saturating_sub(seconds), nanos: now.nanos }
}
