use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::*;
use crate::counters;

fn crash(text: &str) -> v1::Crash {
    v1::Crash { node: text.to_owned(), ..v1::Crash::default() }
}

fn text_of(report: &v1::CrashReport) -> String {
    report.crash.as_ref().map(|crash| crash.node.clone()).unwrap_or_default()
}

/// Everything that is to be sent, by sequence number.
fn reports(spool: &Spool) -> BTreeMap<u64, v1::CrashReport> {
    let mut reports = BTreeMap::new();
    let mut after = 0;
    while let Some(report) = spool.next_after(after) {
        after = report.sequence;
        reports.insert(report.sequence, report);
    }
    assert_eq!(reports.len(), spool.pending());
    reports
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    segments.sort();
    segments
}

/// A small generator of numbers that look random and are the same at every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

#[test]
fn keeps_reports_until_they_are_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(spool.next_after(0), None);
    let numbers: Vec<_> = ["a", "b", "c"].map(|text| spool.append(crash(text)).unwrap()).to_vec();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(spool.pending(), 3);
    let first = spool.next_after(0).unwrap();
    assert_eq!((first.sequence, text_of(&first).as_str(), first.spool_id.len()), (1, "a", 32));
    assert_eq!(spool.next_after(1).unwrap().sequence, 2);
    assert_eq!(spool.get(3).map(|report| text_of(&report)).as_deref(), Some("c"));

    assert!(spool.acknowledge(2));
    assert!(!spool.acknowledge(2) && !spool.acknowledge(77));
    assert_eq!(spool.get(2), None);
    assert_eq!(spool.next_after(1).unwrap().sequence, 3);
    drop(spool);

    let spool = Spool::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(reports(&spool).into_keys().collect::<Vec<_>>(), [1, 3]);
    let fourth = spool.append(crash("d")).unwrap();
    assert_eq!(fourth, 4);
    assert_eq!(spool.get(fourth).unwrap().spool_id, first.spool_id);
}

#[test]
fn numbers_are_never_given_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = HashSet::new();
    for _ in 0..5 {
        let spool = Spool::open(directory.path(), 1 << 20).unwrap();
        let killed = copy(directory.path());
        for _ in 0..3 {
            let sequence = spool.append(crash("x")).unwrap();
            let report = spool.get(sequence).unwrap();
            assert!(seen.insert((report.spool_id, report.sequence)));
            assert!(spool.acknowledge(sequence));
        }
        drop(spool);
        // As a power failure leaves it that took everything but the synced reservation.
        let spool = Spool::open(killed.path(), 1 << 20).unwrap();
        let sequence = spool.append(crash("after the failure")).unwrap();
        let report = spool.get(sequence).unwrap();
        assert!(seen.insert((report.spool_id, report.sequence)));
        drop(spool);
        std::fs::copy(killed.path().join("sequence"), directory.path().join("sequence")).unwrap();
    }
    for damaged in ["sequence", "spool-id"] {
        let copied = copy(directory.path());
        std::fs::write(copied.path().join(damaged), "?").unwrap();
        let spool = Spool::open(copied.path(), 1 << 20).unwrap();
        let sequence = spool.append(crash("under a new id")).unwrap();
        let report = spool.get(sequence).unwrap();
        assert!(seen.insert((report.spool_id, report.sequence)));
    }
}

#[test]
fn more_numbers_are_reserved_when_they_run_out() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), 1 << 20).unwrap();
    for expected in 1..=2500 {
        assert_eq!(spool.append(crash("x")), Some(expected));
        assert!(spool.acknowledge(expected));
    }
    let killed = copy(directory.path());
    let after_kill = Spool::open(killed.path(), 1 << 20).unwrap();
    let next = after_kill.append(crash("x")).unwrap();
    assert!((2501..=2500 + 1025).contains(&next), "{next}");
    drop(spool);
    assert_eq!(Spool::open(directory.path(), 1 << 20).unwrap().append(crash("x")), Some(2501));
}

#[test]
fn a_stop_at_any_byte_loses_only_what_was_not_written_whole() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), 1 << 20).unwrap();
    let mut ends = Vec::new();
    for text in ["one", "two", "three", "four"] {
        spool.append(crash(text)).unwrap();
        ends.push(std::fs::metadata(&segments(directory.path())[0]).unwrap().len());
    }
    let all = reports(&spool);
    let length = *ends.last().unwrap();
    for kept in 0..=length {
        let copied = copy(directory.path());
        let segment = segments(copied.path()).remove(0);
        File::options().write(true).open(segment).unwrap().set_len(kept).unwrap();
        let spool = Spool::open(copied.path(), 1 << 20).unwrap();
        let whole = ends.iter().filter(|end| **end <= kept).count();
        let expected: BTreeMap<_, _> = all.clone().into_iter().take(whole).collect();
        assert_eq!(reports(&spool), expected, "{kept} bytes kept");
        let next = spool.append(crash("next")).unwrap();
        assert!(next > 4);
        drop(spool);
        let spool = Spool::open(copied.path(), 1 << 20).unwrap();
        assert_eq!((spool.pending(), text_of(&spool.get(next).unwrap()).as_str()), (whole + 1, "next"));
    }
}

#[test]
fn no_damaged_byte_makes_a_false_report() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), 1 << 20).unwrap();
    for text in ["one", "two", "three"] {
        spool.append(crash(text)).unwrap();
    }
    spool.acknowledge(2);
    let all = reports(&spool);
    for name in ["acknowledged", "sequence", "spool-id", "00000000000000000001.segment"] {
        let length = std::fs::metadata(directory.path().join(name)).unwrap().len();
        for position in 0..usize::try_from(length).unwrap() {
            let copied = copy(directory.path());
            let path = copied.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[position] ^= 0x41;
            std::fs::write(&path, bytes).unwrap();
            let spool = Spool::open(copied.path(), 1 << 20).unwrap();
            let found = reports(&spool);
            let known =
                |report: &v1::CrashReport| all.get(&report.sequence) == Some(report) || report.sequence == 2;
            assert!(found.values().all(known), "{name} byte {position}");
            // The one that was damaged, and none after it.
            let lost = all.keys().filter(|sequence| !found.contains_key(sequence)).count();
            assert!(lost <= usize::from(name.ends_with("segment")), "{name} byte {position}: {lost} lost");
        }
    }
}

#[test]
fn what_stands_behind_a_damaged_place_is_found_and_the_place_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), 64 << 20).unwrap();
    let given: Vec<u64> = (0..6).map(|_| spool.append(crash(&"x".repeat(50_000))).unwrap()).collect();
    let all = reports(&spool);
    drop(spool);
    // The second record's end, all of the third and the fourth's beginning.
    let path = segments(directory.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let record = (bytes.len() - 8) / given.len();
    bytes[8 + 2 * record - 100..8 + 3 * record + 100].fill(0);
    std::fs::write(&path, bytes).unwrap();

    let before = counters::SPOOL_DROPPED_CORRUPT.value();
    let spool = Spool::open(directory.path(), 64 << 20).unwrap();
    let kept: BTreeMap<_, _> =
        all.into_iter().filter(|(sequence, _)| ![2, 3, 4].contains(sequence)).collect();
    assert_eq!(reports(&spool), kept);
    assert!(counters::SPOOL_DROPPED_CORRUPT.value() > before);
}

/// Random appends, acknowledgements, restarts and kills, checked against a model.
#[test]
fn behaves_as_its_model_through_kills() {
    for seed in 1..=15 {
        let mut numbers = Numbers(seed * 0x9e37_79b9);
        let mut directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 64 << 20).unwrap();
        let mut pending: BTreeMap<u64, String> = BTreeMap::new();
        let mut used: BTreeSet<u64> = BTreeSet::new();
        for step in 0..150 {
            match numbers.below(10) {
                0..=4 => {
                    let text =
                        format!("{step} {}", "x".repeat(usize::try_from(numbers.below(3000)).unwrap()));
                    let sequence = spool.append(crash(&text)).unwrap();
                    assert!(used.insert(sequence), "seed {seed}: {sequence} was given twice");
                    pending.insert(sequence, text);
                }
                5..=7 => {
                    let index = usize::try_from(numbers.below(pending.len() as u64)).unwrap();
                    if let Some(sequence) = pending.keys().nth(index).copied() {
                        assert!(spool.acknowledge(sequence));
                        pending.remove(&sequence);
                    }
                }
                8 => {
                    drop(spool);
                    spool = Spool::open(directory.path(), 64 << 20).unwrap();
                    let found = reports(&spool);
                    assert!(
                        found.iter().map(|(n, report)| (*n, text_of(report))).eq(pending.clone()),
                        "seed {seed}"
                    );
                }
                _ => {
                    // A power failure: the newest segment and the acknowledgements end anywhere.
                    let copied = copy(directory.path());
                    let newest = segments(copied.path()).pop();
                    for path in newest.into_iter().chain([copied.path().join("acknowledged")]) {
                        let file = File::options().write(true).open(path).unwrap();
                        file.set_len(numbers.below(file.metadata().unwrap().len() + 1)).unwrap();
                    }
                    drop(spool);
                    spool = Spool::open(copied.path(), 64 << 20).unwrap();
                    directory = copied;
                    let found = reports(&spool);
                    for (sequence, report) in &found {
                        assert!(used.contains(sequence), "seed {seed}");
                        assert!(
                            pending.get(sequence).is_none_or(|text| *text == text_of(report)),
                            "seed {seed}"
                        );
                    }
                    pending = found.iter().map(|(sequence, report)| (*sequence, text_of(report))).collect();
                }
            }
            let found: BTreeMap<_, _> =
                reports(&spool).iter().map(|(n, report)| (*n, text_of(report))).collect();
            assert!(found == pending, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn acknowledged_segments_are_deleted_and_the_bound_holds() {
    let directory = tempfile::tempdir().unwrap();
    let max_bytes = 1 << 20;
    let spool = Spool::open(directory.path(), max_bytes).unwrap();
    let big = "x".repeat(10_000);
    let on_disk =
        || segments(directory.path()).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum::<u64>();

    for _ in 0..500 {
        let sequence = spool.append(crash(&big)).unwrap();
        spool.acknowledge(sequence);
    }
    assert!(segments(directory.path()).len() <= 2, "{}", segments(directory.path()).len());

    let before = counters::SPOOL_DROPPED_FULL.value();
    let given: Vec<u64> = (0..500).map(|_| spool.append(crash(&big)).unwrap()).collect();
    assert!(on_disk() <= max_bytes, "{}", on_disk());
    let kept: Vec<u64> = reports(&spool).into_keys().collect();
    assert!(given.ends_with(&kept), "the oldest go first");
    assert!(kept.len() > 85, "{} of about 104 are kept", kept.len());
    let dropped = usize::try_from(counters::SPOOL_DROPPED_FULL.value() - before).unwrap();
    assert_eq!(dropped + kept.len(), given.len());
    assert!(!spool.acknowledge(given[0]), "a late acknowledgement of a dropped report is nothing");

    assert_eq!(spool.append(crash(&"x".repeat(300_000))), None);
    drop(spool);
    let spool = Spool::open(directory.path(), max_bytes).unwrap();
    assert_eq!(reports(&spool).into_keys().collect::<Vec<_>>(), kept);
}

#[test]
fn the_list_of_acknowledgements_stays_small() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), 64 << 20).unwrap();
    for _ in 0..20_000 {
        let sequence = spool.append(crash(&"x".repeat(1000))).unwrap();
        spool.acknowledge(sequence);
    }
    let size = std::fs::metadata(directory.path().join("acknowledged")).unwrap().len();
    assert!(size <= 160 * 1024, "{size}");
    drop(spool);
    assert_eq!(Spool::open(directory.path(), 64 << 20).unwrap().pending(), 0);
}

#[test]
fn a_directory_that_cannot_be_used_is_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let sentence = Spool::open(&file.join("below"), 1 << 20).unwrap_err().to_string();
    assert!(sentence.starts_with("cannot use the spool directory /"), "{sentence}");
    assert!(sentence.contains("spool_directory"), "{sentence}");
    assert!(!sentence.contains('\n'));

    let _first = Spool::open(directory.path(), 1 << 20).unwrap();
    let sentence = Spool::open(directory.path(), 1 << 20).unwrap_err().to_string();
    assert!(sentence.contains("another lastwords-agent uses it"), "{sentence}");
}

/// On a small file system of its own, in a mount namespace of this test's thread.
#[test]
fn a_full_disk_is_bridged_in_memory() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();

    let spool = Spool::open(&directory.path().join("spool"), 64 << 20).unwrap();
    let filler = directory.path().join("filler");
    let full = std::fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    let dropped_before = counters::SPOOL_DROPPED_MEMORY.value();
    let text = "x".repeat(1000);
    let given: Vec<u64> = (0..MEMORY_REPORTS + 10).map(|_| spool.append(crash(&text)).unwrap()).collect();
    assert_eq!(counters::SPOOL_DROPPED_MEMORY.value() - dropped_before, 10);
    assert_eq!(reports(&spool).into_keys().collect::<Vec<_>>(), given[10..]);
    assert!(spool.acknowledge(given[10]));

    std::fs::remove_file(filler).unwrap();
    spool.sync();
    drop(spool);
    let spool = Spool::open(&directory.path().join("spool"), 64 << 20).unwrap();
    assert_eq!(reports(&spool).into_keys().collect::<Vec<_>>(), given[11..]);
}
