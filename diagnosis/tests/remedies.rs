//! What is to be done about it: true for the place, the user and the program that it is about.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{Mount, Variable};
use lastwords_diagnosis::{EvidenceRef, diagnose, errno, signals};
use support::*;

fn refused_on(mount_point: &str, path: &str) -> Evidence {
    let mount = Some(lastwords_diagnosis::evidence::Mount {
        mount_point: mount_point.into(),
        read_only: true,
        ..Default::default()
    });
    with(exited(&["app"], 40, 1), vec![Failure { mount, ..failed("mkdir", errno::EROFS, path, 0.6) }])
}

fn volume(source: &str, read_only: bool) -> Vec<Mount> {
    vec![Mount { path: "/data".into(), volume: "v".into(), source: source.into(), read_only }]
}

#[test]
fn a_read_only_root_a_mount_of_its_own_and_the_kernels() {
    let remedy = |mount_point, path| diagnose(&refused_on(mount_point, path), None).remedy;
    assert_eq!(
        remedy("/", "/data/uploads"),
        "mount an emptyDir or another writable volume at /data (spec.containers[0].volumeMounts), or set spec.containers[0].securityContext.readOnlyRootFilesystem to false"
    );
    assert_eq!(
        remedy("/data", "/data/uploads"),
        "/data is a mount of its own: let the entry of spec.containers[0].volumeMounts whose mountPath is /data have no readOnly, and see how the volume itself is mounted; or write elsewhere"
    );
    assert_eq!(
        remedy("/proc/sys", "/proc/sys/net/core/somaxconn"),
        "set it for the pod in spec.securityContext.sysctls, or leave it to the node: no container may write there that is not privileged"
    );
}

#[test]
fn volumes_that_are_always_read_only() {
    let remedy = |source, read_only| {
        let evidence = refused_on("/data", "/data/uploads");
        diagnose(&evidence, Some(&in_pod(volume(source, read_only), Vec::new()))).remedy
    };
    for source in
        ["configmap site", "secret tls", "projected", "downwardAPI", "service account token", "image a:1"]
    {
        assert_eq!(
            remedy(source, true),
            format!(
                "/data is a {source}, which is always read-only: copy it to an emptyDir first (an init container, or the program's own start), or write elsewhere"
            )
        );
    }
    assert_eq!(
        remedy("persistentvolumeclaim secrets", true),
        "the volume mount /data (persistentvolumeclaim secrets) is readOnly: set spec.containers[1].volumeMounts[].readOnly to false, or write elsewhere"
    );
    assert_eq!(
        remedy("persistentvolumeclaim secrets", false),
        "the volume mount /data (persistentvolumeclaim secrets) is not readOnly, so the volume itself is: see readOnly of its entry in spec.volumes, its access mode, and whether the node mounted it read-only after an error; or write elsewhere"
    );
}

fn tries(number: i32) -> Vec<Failure> {
    let open =
        |number, path: &str, before_ms| Failure { uid: 0, ..failed("openat", number, path, before_ms) };
    vec![
        open(number, "/tmp/hhjubzpa", 36.15),
        open(number, "/var/tmp/kvq1vcvd", 36.02),
        open(errno::ENOENT, "/usr/tmp/27yew5tn", 36.01),
        open(number, "/app/6jf5zbe4", 36.0),
    ]
}

#[test]
fn no_folder_for_temporary_files() {
    let evidence = with(exited(&["app"], 400, 255), tries(errno::EROFS));
    let it = diagnose(&evidence, None);
    assert_eq!(short(&it), "READ_ONLY_FILESYSTEM HIGH /tmp");
    assert_eq!(
        it.summary,
        "app (uid 0) found no folder that it may write temporary files in: it tried /tmp, /var/tmp, /usr/tmp, /app, the last time openat failed with EROFS (read-only file system) 36 ms before it ended with exit code 255"
    );
    assert_eq!(
        it.remedy,
        "mount an emptyDir at /tmp (spec.containers[0].volumeMounts), or let the variable TMPDIR in spec.containers[0].env name a folder that it may write"
    );
    assert!(it.also_seen.is_empty(), "{:?}", it.also_seen);
    let evidence = with(exited(&["app"], 400, 255), tries(errno::EACCES));
    assert_eq!(verdict(&evidence, None), "PERMISSION_DENIED HIGH /tmp");
}

#[test]
fn one_name_in_several_folders_is_no_temporary_one() {
    let open = |path: &str, before_ms| failed("openat", errno::EROFS, path, before_ms);
    let same =
        vec![open("/tmp/database", 36.2), open("/var/tmp/database", 36.1), open("/app/database", 36.0)];
    assert_eq!(
        verdict(&with(exited(&["app"], 400, 1), same), None),
        "READ_ONLY_FILESYSTEM HIGH /app/database"
    );
    let mut few = tries(errno::EROFS);
    few.drain(1..3);
    assert_eq!(
        verdict(&with(exited(&["app"], 400, 1), few), None),
        "READ_ONLY_FILESYSTEM HIGH /app/6jf5zbe4"
    );
}

#[test]
fn a_port_below_1024() {
    let bind = |uid, capabilities: &[&str]| {
        let failure = Failure {
            uid,
            capability: "CAP_NET_BIND_SERVICE".into(),
            capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
            ..failed_at("bind", errno::EACCES, "0.0.0.0:80/tcp", 0.4)
        };
        diagnose(&with(exited(&["app"], 40, 1), vec![failure]), None).remedy
    };
    assert_eq!(
        bind(1000, &[]),
        "listen on a port from 1024 up, or set the sysctl net.ipv4.ip_unprivileged_port_start to 0 in spec.securityContext.sysctls; or run it as root (runAsUser 0) with NET_BIND_SERVICE in spec.containers[0].securityContext.capabilities.add, which alone gives uid 1000 nothing"
    );
    let add = "listen on a port from 1024 up, or add NET_BIND_SERVICE to spec.containers[0].securityContext.capabilities.add";
    assert_eq!(bind(0, &[]), add);
    assert_eq!(bind(165_536, &["CAP_CHOWN"]), add, "root of a user namespace");
}

#[test]
fn a_certificate_is_no_module() {
    let look = |path: &str, before_ms| failed("newfstatat", errno::ENOENT, path, before_ms);
    let evidence = with(
        exited(&["haproxy", "-f", "/etc/haproxy.cfg"], 10, 1),
        ["", ".dsa", ".ecdsa", ".rsa"].map(|ending| look(&format!("/certs/site.pem{ending}"), 0.22)).to_vec(),
    );
    let it = diagnose(&evidence, None);
    assert_eq!(short(&it), "FILE_NOT_FOUND MEDIUM /certs/site.pem");
    assert_eq!(
        it.summary,
        "app did not find /certs/site.pem, nor a file of that name with an ending behind it (.dsa, .ecdsa, .rsa), and ended with exit code 1 220 µs later"
    );
    assert!(it.remedy.starts_with("put the file into the image, or mount what holds it"), "{}", it.remedy);
    assert!(it.evidence.contains(&EvidenceRef::Failure(0)), "{:?}", it.evidence);
    let evidence = with(
        exited(&["node", "/app/server.js"], 50, 1),
        [".js", ".json", ".node"].map(|ending| look(&format!("/app/routes{ending}"), 3.0)).to_vec(),
    );
    assert!(
        diagnose(&evidence, None).summary.contains("found the module /app/routes under none of 3 endings")
    );
}

#[test]
fn a_program_that_a_script_starts() {
    let missing = |args: &[&str], comm: &str| {
        let failure = Failure {
            comm: comm.into(),
            file: Some(FileFacts { kind: "directory".into(), path: "/opt".into(), ..FileFacts::default() }),
            ..failed("execve", errno::ENOENT, "/opt/bin/server", 0.1)
        };
        diagnose(&with(exited(args, 5, 127), vec![failure]), None).remedy
    };
    let in_script = "put /opt/bin/server into the image, or correct its name where /opt/entry.sh starts it";
    assert_eq!(missing(&["/bin/bash", "/opt/entry.sh"], "entry.sh"), in_script);
    assert_eq!(missing(&["tini", "--", "/opt/entry.sh"], "entry.sh"), in_script);
    assert_eq!(missing(&["sh", "-e", "/opt/entry.sh"], "sh"), in_script);
    assert_eq!(
        missing(&["/bin/bash", "/opt/entry.sh"], "migrate"),
        "put /opt/bin/server into the image, or correct its name where migrate starts it"
    );
    let in_pod = "correct spec.containers[0].command (or spec.containers[0].args), or put /opt/bin/server into the image";
    assert_eq!(missing(&["/bin/sh", "/opt/entry.sh", "server"], "entry.sh"), in_pod);
    assert_eq!(missing(&["sh", "-c", "exec /opt/bin/server --port=80"], "sh"), in_pod);
}

#[test]
fn the_heap_limit_of_v8() {
    let own = || by(SenderKind::SameContainer, "node", MAIN);
    let evidence = |args: &[&str]| {
        let mut evidence = signalled(args, 900, signals::SIGABRT, own());
        evidence.signals[0].code = -6;
        evidence
    };
    let with_limit = evidence(&["node", "--max-old-space-size=32", "app.js"]);
    let it = diagnose(&with_limit, None);
    assert_eq!(short(&it), "PROGRAM_ERROR HIGH SIGABRT");
    assert_eq!(
        it.summary,
        "node aborted itself (SIGABRT); likely V8's own heap limit, --max-old-space-size=32, was reached, at which it aborts, and no memory limit of the container"
    );
    assert_eq!(
        it.remedy,
        "raise --max-old-space-size=32 in spec.containers[0].args (or spec.containers[0].command), and spec.containers[0].resources.limits.memory with it, or make the program use less; if its log tells of another reason for the abort, go back to the image that last ran well"
    );

    let said = "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory";
    let it = diagnose(&logged(evidence(&["node", "app.js"]), &[said]), None);
    assert!(it.summary.contains("V8's own heap limit was reached"), "{}", it.summary);
    assert!(it.remedy.starts_with("raise --max-old-space-size (by NODE_OPTIONS"), "{}", it.remedy);
    assert!(it.evidence.contains(&EvidenceRef::LogTail));

    let variable = Variable {
        name: "NODE_OPTIONS".into(),
        value: "--enable-source-maps --max_old_space_size 256".into(),
        field_path: "spec.containers[1].env[0]".into(),
        ..Variable::default()
    };
    let it = diagnose(&evidence(&["node", "app.js"]), Some(&in_pod(Vec::new(), vec![variable])));
    assert!(
        it.remedy.starts_with(
            "raise --max_old_space_size=256 in the variable NODE_OPTIONS (spec.containers[1].env[0]), and"
        ),
        "{}",
        it.remedy
    );

    let its_check =
        |evidence: &Evidence| diagnose(evidence, None).remedy.starts_with("the program's own check");
    assert!(its_check(&evidence(&["node", "app.js"])), "nothing tells of a limit");
    let mut small = evidence(&["node", "--max-old-space-size=4096", "app.js"]);
    small.memory = vec![MemorySample { time: small.observed_at, bytes: 80 << 20 }];
    assert!(its_check(&small), "it was far from the limit");
    let mut child = exited(&["tini", "--", "node", "--max-old-space-size=32", "app.js"], 900, 134);
    child.child_exits = vec![child_exit("node", 0, signals::SIGABRT, 5.0)];
    assert!(diagnose(&child, None).summary.ends_with("and no memory limit of the container"));
    child.child_exits = vec![child_exit("ffmpeg", 0, signals::SIGABRT, 5.0)];
    assert!(its_check(&child), "another program than the one with the limit");
}

#[test]
fn an_option_that_was_not_given_is_added() {
    let line = "consumer.py: error: the following arguments are required: --queue";
    let evidence = logged(exited(&["python3", "/app/consumer.py", "--broker", "kafka-0"], 60, 2), &[line]);
    let it = diagnose(&evidence, None);
    assert_eq!(short(&it), "INVALID_ARGUMENTS HIGH --queue");
    assert_eq!(it.remedy, "add --queue to spec.containers[0].args (or spec.containers[0].command)");
}

#[test]
fn a_program_that_a_first_line_names() {
    let mut evidence = exited(&["/usr/bin/env", "node18", "/app/cli.js"], 5, 127);
    evidence.execs[0].path = "/app/cli.js".into();
    evidence.failures =
        vec![Failure { comm: "env".into(), ..failed("execve", errno::ENOENT, "/usr/bin/node18", 0.1) }];
    let remedy = diagnose(&evidence, None).remedy;
    assert!(remedy.contains("correct its name where the first line of /app/cli.js starts it"), "{remedy}");
    assert!(remedy.contains("a line end of Windows"), "which of the two is missing was not seen: {remedy}");
}

#[test]
fn a_victim_that_held_little_of_the_limit() {
    let remedy = |limit| {
        let mut evidence = signalled(&["dd"], 900, signals::SIGKILL, by(SenderKind::OomKiller, "", 0));
        evidence.oom = vec![oom(OomScope::Container, limit, true, 1, evidence.observed_at)];
        diagnose(&evidence, None).remedy
    };
    assert!(remedy(200 << 20).contains("files in memory (/dev/shm"), "{}", remedy(200 << 20));
    assert!(!remedy(20 << 20).contains("files in memory"));
}

#[test]
fn a_lacking_capability_leaves_no_doubt_who_refused() {
    let failure = Failure { capability: "CAP_NET_ADMIN".into(), ..failed("sendmsg", errno::EPERM, "", 0.4) };
    let said = diagnose(&with(exited(&["ip"], 40, 2), vec![failure]), None);
    assert!(!said.summary.contains("security module"), "{}", said.summary);
}

#[test]
fn nobody_answers_at_the_pods_own_address() {
    let refused = |address| {
        let failure = failed_at("connect", errno::ETIMEDOUT, address, 3.0);
        diagnose(&with(exited(&["app"], 9_000, 1), vec![failure]), None).remedy
    };
    assert!(
        refused("127.0.0.1:9000/tcp").contains("one whose queue is full"),
        "{}",
        refused("127.0.0.1:9000/tcp")
    );
    assert!(refused("10.0.0.9:9000/tcp").contains("NetworkPolicy"));
}
