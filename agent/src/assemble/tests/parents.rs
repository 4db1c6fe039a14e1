//! What a parent did after its child had ended.

use super::*;

/// A child of the main process.
const JOB: u32 = 800;

#[test]
fn how_often_a_parent_wrote_after_its_child() {
    let child = |tgid, parent, time, writes| decode::ChildExit {
        time,
        tgid,
        comm: b"job".to_vec(),
        status: Status { code: 1, ..Status::default() },
        detached: false,
        tid: tgid,
        waited: None,
        parent,
        writes,
    };
    let mut death = death(Status { code: 1, ..Status::default() });
    death.end = End::Exited(Exited { writes: Some(7), ..exited(Status { code: 1, ..Status::default() }) });
    let time = death.time;
    death.recording = Some(Recording {
        child_exits: vec![
            child(JOB, MAIN, time - 900, [Some(0), Some(5)]),
            // A grandchild, whose parent has ended since, one whose parent still runs, and a kernel that does not count.
            child(JOB + 2, JOB + 1, time - 800, [Some(0), Some(1)]),
            child(JOB + 1, MAIN, time - 700, [Some(1), Some(7)]),
            child(JOB + 3, JOB + 9, time - 600, [Some(0), Some(2)]),
            child(JOB + 4, MAIN, time - 500, [None, None]),
        ],
        ..Recording::default()
    });
    let children = evidence(&death).child_exits;
    let wrote: Vec<_> = children.iter().map(|child| (child.parent_pid, child.parent_wrote)).collect();
    let expected = [(MAIN, Some(2)), (JOB + 1, Some(0)), (MAIN, Some(0)), (JOB + 9, None), (MAIN, None)];
    assert_eq!(wrote, expected);
}
