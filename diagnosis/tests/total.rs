//! A report may come from a broken or hostile node: whatever it holds, there is a diagnosis, of bounded size and on one line.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{Cause, Confidence, EvidenceRef, diagnose};
use support::*;

/// A generator of evidence out of extreme and ordinary values; the same seed gives the same evidence.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn of<T: Clone>(&mut self, values: &[T]) -> T {
        values[usize::try_from(self.roll() % values.len() as u64).unwrap_or_default()].clone()
    }

    fn number(&mut self) -> i32 {
        self.of(&[
            0,
            1,
            2,
            6,
            9,
            11,
            13,
            15,
            24,
            30,
            98,
            111,
            126,
            127,
            137,
            139,
            143,
            255,
            -1,
            i32::MAX,
            i32::MIN,
        ])
    }

    fn text(&mut self) -> String {
        let long = "/x".repeat(4_000);
        self.of(&[
            "",
            "/",
            ".",
            "/etc/shadow",
            "a\n\u{1b}[2Jb",
            "/usr/bin/sh",
            "sh",
            "10.0.0.9:80/tcp",
            "\u{feff}é",
            &long,
        ])
        .to_owned()
    }

    fn pid(&mut self) -> u32 {
        self.of(&[0, MAIN, CHILD, u32::MAX])
    }

    fn before(&mut self) -> f64 {
        self.of(&[0.0, -5.0, 0.4, 30.0, 5_000.0, 1e9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY])
    }

    fn time(&mut self) -> UnixNanos {
        UnixNanos(self.of(&[0, i64::MIN, i64::MAX, 1_795_353_365_000_000_000, -1]))
    }

    fn yes(&mut self) -> bool {
        self.roll().is_multiple_of(2)
    }

    fn sender(&mut self) -> Option<KilledBy> {
        let kinds = [
            SenderKind::Unknown,
            SenderKind::Kernel,
            SenderKind::OomKiller,
            SenderKind::Runtime,
            SenderKind::Other,
        ];
        let (kind, pid, comm) = (self.of(&kinds), self.pid(), self.text());
        self.yes().then_some(KilledBy { kind, pid, comm })
    }

    fn failure(&mut self) -> Failure {
        let calls =
            ["openat", "flock", "execve", "statx", "connect", "bind", "fchownat", "clone", "", "a\u{7}b"];
        Failure {
            syscall: self.of(&calls).to_owned(),
            errno: self.number(),
            path: self.text(),
            address: self.text(),
            name: self.text(),
            comm: self.text(),
            pid: self.pid(),
            count: u64::MAX,
            last_before_death_ms: self.before(),
            by_dying_thread: self.yes(),
            later_succeeded: self.roll().is_multiple_of(8),
            file: self.yes().then(|| FileFacts {
                mode: u32::MAX,
                kind: "file".into(),
                path: "/etc/shadow".into(),
                ..FileFacts::default()
            }),
            holder: self.holder(),
            holder_looked_for: self.yes(),
            ..Failure::default()
        }
    }

    fn holder(&mut self) -> Option<Holder> {
        let (pid, comm, container_id, pod_uid) = (self.pid(), self.text(), self.text(), self.text());
        let same_container = self.yes();
        self.yes().then_some(Holder { pid, comm, container_id, pod_uid, same_container })
    }

    fn blocked(&mut self) -> BlockedCall {
        BlockedCall {
            syscall: self.of(&["flock", "fcntl", "connect", "read", "a\u{7}b"]).to_owned(),
            pid: self.pid(),
            comm: self.text(),
            path: self.text(),
            address: self.text(),
            signal: self.number(),
            before_death_ms: self.before(),
            holder: self.holder(),
            holder_looked_for: self.yes(),
            ..BlockedCall::default()
        }
    }

    fn evidence(&mut self) -> Evidence {
        let some = |dice: &mut Self| dice.roll() % 6;
        let mut evidence = exited(&["sh", "-c", "x"], 10, self.number());
        if let Some(process) = &mut evidence.process {
            (process.started_at, process.exited_at, process.comm) = (self.time(), self.time(), self.text());
        }
        evidence.exit = self.yes().then(|| Exit {
            code: self.number(),
            signal: self.number(),
            killed_by: self.sender(),
            ..Exit::default()
        });
        if self.yes() {
            evidence.execs.clear();
        }
        if self.roll().is_multiple_of(4) {
            evidence.process = None;
        }
        evidence.container_survived = self.yes();
        evidence.timed_out = self.roll().is_multiple_of(16);
        let blocked = self.blocked();
        evidence.blocked = self.roll().is_multiple_of(4).then_some(blocked);
        evidence.failures = (0..some(self)).map(|_| self.failure()).collect();
        evidence.signals = (0..some(self))
            .map(|_| Signal {
                target_pid: self.pid(),
                fault_address: u64::MAX,
                syscall: self.text(),
                ..sent(self.number(), self.number(), self.sender(), self.before())
            })
            .collect();
        evidence.child_exits = (0..some(self))
            .map(|_| child_exit(&self.text(), self.number(), self.number(), self.before()))
            .collect();
        evidence.oom = (0..some(self) / 3)
            .map(|_| OomKill {
                anon_rss_bytes: u64::MAX,
                shmem_rss_bytes: u64::MAX,
                time: self.time(),
                ..oom(
                    self.of(&[OomScope::Node, OomScope::Pod, OomScope::Unknown]),
                    self.roll(),
                    self.yes(),
                    0,
                    UnixNanos(1),
                )
            })
            .collect();
        evidence
    }
}

#[test]
fn whatever_arrives_is_diagnosed() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut causes = std::collections::HashSet::new();
    for round in 0..4_000 {
        let evidence = dice.evidence();
        let diagnosis = diagnose(&evidence, None);
        causes.insert(diagnosis.cause);
        assert_eq!(diagnosis, diagnose(&evidence, None), "round {round}: not the same twice");
        assert!(
            !(diagnosis.cause == Cause::Unknown && diagnosis.confidence == Confidence::High),
            "round {round}"
        );
        let texts = [&diagnosis.summary, &diagnosis.object, &diagnosis.remedy]
            .into_iter()
            .chain(&diagnosis.also_seen);
        for text in texts {
            assert!(text.chars().count() < 3_000, "round {round}: {} characters", text.chars().count());
            assert!(!text.chars().any(char::is_control), "round {round}: {text:?}");
        }
        let holds = |reference: &EvidenceRef| match *reference {
            EvidenceRef::Exit => evidence.exit.is_some(),
            EvidenceRef::Oom(index) => index < evidence.oom.len(),
            EvidenceRef::Failure(index) => index < evidence.failures.len(),
            EvidenceRef::Signal(index) => index < evidence.signals.len(),
            EvidenceRef::ChildExit(index) => index < evidence.child_exits.len(),
            EvidenceRef::Exec(index) => index < evidence.execs.len(),
            EvidenceRef::Fault => evidence.fault.is_some(),
            EvidenceRef::Blocked => evidence.blocked.is_some(),
            EvidenceRef::OpenedFile(index) => index < evidence.opened_files.len(),
            EvidenceRef::Listener(index) => index < evidence.listeners.len(),
            EvidenceRef::LogTail => evidence.log_tail.is_some(),
            EvidenceRef::LogFile(index) => index < evidence.log_files.len(),
            EvidenceRef::ProbeEvent(_) | EvidenceRef::Change(_) => false,
        };
        assert!(diagnosis.evidence.iter().all(holds), "round {round}: {:?}", diagnosis.evidence);
    }
    assert!(causes.len() >= 10, "the generator reaches most causes: {causes:?}");
}
