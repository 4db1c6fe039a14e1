//! Over real sockets: what an agent sends is acknowledged, judged, stored, and answered.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::time::Instant;

use common::{Agent, SOON, SPOOL, channel, query, report, settings, start};
use lastwords_aggregator::serve;
use lastwords_proto::v1;
use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::stream_crashes_request::Message;
use tonic::Code;

#[tokio::test]
async fn a_report_becomes_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut query = query(&aggregator).await;
    let watch = v1::WatchCrashesRequest { namespace: "prod".to_owned(), include_completed: false };
    let mut watched = query.watch_crashes(watch).await.unwrap().into_inner();

    let mut agent = Agent::connect(&aggregator, "node1").await;
    let elsewhere = agent.report(report("node1", 1, "test", "other")).await;
    assert_eq!(elsewhere.outcome(), Outcome::Stored);
    let acknowledgement = agent.report(report("node1", 2, "prod", "api-7f9")).await;
    assert_eq!((acknowledgement.outcome(), acknowledgement.sequence), (Outcome::Stored, 2));
    assert_eq!(acknowledgement.spool_id, SPOOL);

    let seen = tokio::time::timeout(SOON, watched.message()).await.unwrap().unwrap().unwrap().crash.unwrap();
    let id = format!("node1/{SPOOL}/2");
    assert_eq!(seen.id, id);

    let got =
        query.get_crash(v1::GetCrashRequest { id: id.clone() }).await.unwrap().into_inner().crash.unwrap();
    assert_eq!(got, seen);
    let diagnosis = got.diagnosis.as_ref().unwrap();
    assert_eq!((diagnosis.cause(), diagnosis.revision), (v1::Cause::OutOfMemory, 1));
    assert_eq!(diagnosis.object, "memory limit 64Mi");
    let mut as_reported = report("node1", 2, "prod", "api-7f9").crash.unwrap();
    (as_reported.id, as_reported.diagnosis) = (id.clone(), got.diagnosis.clone());
    assert_eq!(got, as_reported);

    let request =
        v1::ListCrashesRequest { namespace: "prod".to_owned(), ..v1::ListCrashesRequest::default() };
    let listed = query.list_crashes(request).await.unwrap().into_inner();
    assert_eq!((listed.crashes, listed.next_page_token.as_str()), (vec![got.clone()], ""));

    let request = v1::ExplainPodRequest {
        namespace: "prod".to_owned(),
        pod_name: "api-7f9".to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    let explained = query.explain_pod(request.clone()).await.unwrap().into_inner();
    let pod = explained.pod.unwrap();
    assert_eq!((pod.name.as_str(), pod.node.as_str(), pod.deleted), ("api-7f9", "node1", false));
    assert_eq!(explained.crashes, [got]);

    let nobody = v1::ExplainPodRequest { pod_name: "nobody".to_owned(), ..request };
    assert_eq!(query.explain_pod(nobody).await.unwrap_err().code(), Code::NotFound);
    let no_id = v1::GetCrashRequest { id: "no such".to_owned() };
    assert_eq!(query.get_crash(no_id).await.unwrap_err().code(), Code::NotFound);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_sent_again_is_stored_once_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(report("node1", 1, "prod", "api")).await.outcome(), Outcome::Stored);
    assert_eq!(agent.report(report("node1", 1, "prod", "api")).await.outcome(), Outcome::Stored);
    let counts = aggregator.reports().counts();
    assert_eq!((counts.received, counts.stored, counts.duplicate), (2, 1, 1));
    aggregator.stop().await.unwrap();

    let aggregator = start(&directory).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(report("node1", 1, "prod", "api")).await.outcome(), Outcome::Stored);
    assert_eq!(aggregator.reports().counts().duplicate, 1);
    let listed = query(&aggregator).await.list_crashes(v1::ListCrashesRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().crashes.len(), 1);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_poisoned_report_blocks_nothing_and_every_report_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    let good = || report("node1", 1, "prod", "api");
    let crash = || good().crash.unwrap();
    let with = |crash: v1::Crash| v1::CrashReport { crash: Some(crash), ..good() };
    let mut huge = crash();
    huge.log_tail = Some(v1::LogTail { lines: vec!["x".repeat(2 << 20)], ..v1::LogTail::default() });
    let mut no_number = crash();
    no_number.failures = vec![v1::Failure { last_before_death_ms: f64::NAN, ..v1::Failure::default() }];
    let poisoned = [
        v1::CrashReport { crash: None, ..good() },
        v1::CrashReport { spool_id: "../../etc".to_owned(), ..good() },
        v1::CrashReport { sequence: 0, ..good() },
        v1::CrashReport { sequence: u64::MAX, ..good() },
        report("node2", 1, "prod", "api"),
        with(v1::Crash { observed_at: None, ..crash() }),
        with(v1::Crash { container: None, ..crash() }),
        with(no_number),
        with(huge),
    ];
    let expected = poisoned.len();
    for report in poisoned {
        agent.send(report).await;
    }
    agent.send(good()).await;
    let mut outcomes = Vec::new();
    for _ in 0..=expected {
        let acknowledgement = agent.acknowledgement().await;
        let rejected = acknowledgement.outcome() == Outcome::Rejected;
        assert_eq!(rejected, !acknowledgement.reason.is_empty(), "{acknowledgement:?}");
        outcomes.push(acknowledgement.outcome());
    }
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Stored).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Rejected).count(), expected);
    let counts = aggregator.reports().counts();
    assert_eq!((counts.received, counts.accounted()), (10, 10));
    assert_eq!(counts.rejected, [1, 3, 1, 3, 1]);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_report_that_cannot_be_stored_now_is_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    let other = rusqlite::Connection::open(directory.path().join("lastwords.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = agent.report(report("node1", 1, "prod", "api")).await;
    assert_eq!(refused.outcome(), Outcome::Retry);
    assert!(refused.reason.contains("locked by another process"), "{}", refused.reason);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(agent.report(report("node1", 1, "prod", "api")).await.outcome(), Outcome::Stored);
    let counts = aggregator.reports().counts();
    assert_eq!((counts.received, counts.retry, counts.stored), (2, 1, 1));
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_stream_begins_with_a_hello_that_names_a_node() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let hello =
        |node: &str| Message::Hello(v1::AgentHello { node: node.to_owned(), ..v1::AgentHello::default() });
    let firsts =
        [Message::Report(report("node1", 1, "a", "b")), hello(""), hello("a/b"), hello(&"n".repeat(254))];
    for first in firsts {
        let mut agent = Agent::connect_with(&aggregator, first).await;
        assert_eq!(agent.responses.message().await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(aggregator.reports().counts().received, 0);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn lists_go_by_pages_and_refuse_a_token_that_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    for sequence in 1..=25 {
        agent.send(report("node1", sequence, "prod", "api")).await;
    }
    for _ in 1..=25 {
        agent.acknowledgement().await;
    }
    let mut query = query(&aggregator).await;
    let mut request = v1::ListCrashesRequest { page_size: 10, ..v1::ListCrashesRequest::default() };
    let mut sequences = Vec::new();
    loop {
        let page = query.list_crashes(request.clone()).await.unwrap().into_inner();
        let of = |crash: &v1::Crash| crash.id.rsplit('/').next().unwrap().parse::<u64>().unwrap();
        sequences.extend(page.crashes.iter().map(of));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(sequences, (1..=25).rev().collect::<Vec<_>>());
    request.page_token = "nonsense".to_owned();
    assert_eq!(query.list_crashes(request).await.unwrap_err().code(), Code::InvalidArgument);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_thousand_crashes_at_once_are_stored_within_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut agents = Vec::new();
    for node in 0..20 {
        agents.push((format!("node{node}"), Agent::connect(&aggregator, &format!("node{node}")).await));
    }
    let began = Instant::now();
    for (node, agent) in &agents {
        for sequence in 1..=50 {
            agent.send(report(node, sequence, "prod", &format!("{node}-{sequence}"))).await;
        }
    }
    for (_, agent) in &mut agents {
        for _ in 1..=50 {
            assert_eq!(agent.acknowledgement().await.outcome(), Outcome::Stored);
        }
    }
    // 1000 reports; 200 a second are asked for, of a debug build on whatever disk there is.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    let request = v1::ListCrashesRequest { page_size: 1_000, ..v1::ListCrashesRequest::default() };
    assert_eq!(
        query(&aggregator).await.list_crashes(request).await.unwrap().into_inner().crashes.len(),
        1_000
    );
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_how_far() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut query = query(&aggregator).await;
    let mut watched = query.watch_crashes(v1::WatchCrashesRequest::default()).await.unwrap().into_inner();
    let mut agent = Agent::connect(&aggregator, "node1").await;
    // Each is large, so that the connection's own buffers are soon full and the watcher's bound is what counts.
    for sequence in 1..=600 {
        let mut large = report("node1", sequence, "prod", "api");
        let lines = vec!["x".repeat(10_000)];
        large.crash.as_mut().unwrap().log_tail = Some(v1::LogTail { lines, ..v1::LogTail::default() });
        agent.send(large).await;
    }
    for _ in 1..=600 {
        agent.acknowledgement().await;
    }
    let mut received = 0_u64;
    let status = loop {
        match tokio::time::timeout(SOON, watched.message()).await.unwrap() {
            Ok(Some(_)) => received += 1,
            Ok(None) => panic!("ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DataLoss);
    let missed: u64 = status.message().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(received + missed + 256, 600, "{status}");
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn health_and_reflection_answer_as_the_standard_has_it() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let channel = channel(&aggregator).await;
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "lastwords.v1.CrashIngest", "lastwords.v1.CrashQuery"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    let other = HealthCheckRequest { service: "other".to_owned() };
    assert_eq!(health.check(other).await.unwrap_err().code(), Code::NotFound);

    let mut reflection = ServerReflectionClient::new(channel);
    let mut ask = async |message_request| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let stream = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        let answer: ServerReflectionResponse = stream.into_inner().message().await.unwrap().unwrap();
        answer.message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["lastwords.v1.CrashIngest", "lastwords.v1.CrashQuery", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let symbol = MessageRequest::FileContainingSymbol("lastwords.v1.CrashQuery.ExplainPod".to_owned());
    assert!(
        matches!(ask(symbol).await, MessageResponse::FileDescriptorResponse(files) if !files.file_descriptor_proto.is_empty())
    );
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_ends_open_streams_and_takes_under_five_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut query = query(&aggregator).await;
    let mut watched = query.watch_crashes(v1::WatchCrashesRequest::default()).await.unwrap().into_inner();
    let mut agent = Agent::connect(&aggregator, "node1").await;
    agent.report(report("node1", 1, "prod", "api")).await;
    watched.message().await.unwrap().unwrap();
    let began = Instant::now();
    let (stopped, watch_end, agent_end) =
        tokio::join!(aggregator.stop(), watched.message(), agent.responses.message());
    stopped.unwrap();
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    assert_eq!(watch_end.unwrap_err().code(), Code::Unavailable);
    assert_eq!(agent_end.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn an_address_in_use_is_said_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let other = tempfile::tempdir().unwrap();
    let mut settings = settings(&other);
    settings.listen = aggregator.address();
    let error = serve::start(settings).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on 127.0.0.1:") && error.contains("--listen"), "{error}");
    aggregator.stop().await.unwrap();
}
