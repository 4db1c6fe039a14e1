use super::*;

#[test]
fn one_refused_connection_seen_twice_is_one() {
    let connect = |time, tid, late| Failure {
        tid,
        syscall: 42,
        errno: 111,
        object: Object::Address(decode::SocketAddress::Internet("10.0.0.9:5432".parse().unwrap())),
        late,
        ..failure(time, b"")
    };
    let count = |failures| with_failures(failures).failures.iter().map(|it| it.count).collect::<Vec<_>>();
    // By the socket's state and by the call itself, or by the state and by SO_ERROR on another thread.
    assert_eq!(count(vec![connect(2_000_000, MAIN, true), connect(2_000_100, MAIN, false)]), [1]);
    let asked = Failure { arguments: [object::ASKED, 0, 0], ..connect(2_900_000, MAIN + 1, true) };
    assert_eq!(count(vec![connect(2_000_000, MAIN, true), asked]), [1]);
    // Two tries, each of which waited.
    let twice = |late| [connect(2_000_000, MAIN, late), connect(2_000_100, MAIN, late)];
    assert_eq!(count([twice(true), twice(false)].concat()), [2]);
    assert_eq!(count(vec![connect(2_000_000, MAIN, false), connect(2_000_100, MAIN, false)]), [2]);
}

#[test]
fn an_address_has_its_sockets_transport() {
    let address = |transport, port: u16, errno| {
        let to = format!("10.0.0.9:{port}").parse().unwrap();
        let object = Object::Address(decode::SocketAddress::Internet(to));
        let failures = vec![Failure { syscall: 49, errno, object, transport, ..failure(2_000_000, b"") }];
        with_failures(failures).failures.remove(0).address
    };
    assert_eq!(address(Some(decode::Transport::Udp), 53, 13), "10.0.0.9:53/udp");
    assert_eq!(address(Some(decode::Transport::Tcp), 53, 101), "10.0.0.9:53/tcp");
    // By what is usual, where it is not known.
    assert_eq!(address(None, 53, 101), "10.0.0.9:53/udp");
    assert_eq!(address(None, 443, 13), "10.0.0.9:443/tcp");
}

#[test]
fn a_connection_that_was_made_in_the_end_is_told() {
    let to = |time, address: &str, errno| Failure {
        syscall: 42,
        errno,
        object: Object::Address(decode::SocketAddress::Internet(address.parse().unwrap())),
        late: true,
        ..failure(time, b"")
    };
    let later = |failures| {
        let failures = with_failures(failures).failures;
        failures.iter().map(|it| (it.count, it.later_succeeded)).collect::<Vec<_>>()
    };
    let refused = |time| to(time, "10.0.0.9:5432", 111);
    // Nothing but failures stands in the report; one that came after the success stands for itself.
    assert_eq!(later(vec![refused(2_000_000), to(2_000_100, "10.0.0.9:5432", 0)]), [(1, true)]);
    assert_eq!(later(vec![to(2_000_000, "10.0.0.9:5432", 0), refused(2_000_100)]), [(1, false)]);
    // One protocol after the other is one try; another server at the same port is not.
    assert_eq!(
        later(vec![to(2_000_000, "[::1]:5432", 111), to(2_000_100, "127.0.0.1:5432", 0)]),
        [(1, true)]
    );
    assert_eq!(later(vec![refused(2_000_000), to(2_000_100, "10.0.0.8:5432", 0)]), [(1, false)]);
    // Within one tick of a coarse clock what was recorded first came first.
    assert_eq!(later(vec![refused(2_000_000), to(2_000_000, "10.0.0.9:5432", 0)]), [(1, true)]);
    assert_eq!(later(vec![to(2_000_000, "10.0.0.9:5432", 0), refused(2_000_000)]), [(1, false)]);
}

#[test]
fn where_it_connected_to_after_a_failure_is_told_also_within_one_tick_of_the_clock() {
    let to = |tgid, address: &str, errno| Failure {
        tgid,
        syscall: 42,
        errno,
        object: Object::Address(decode::SocketAddress::Internet(address.parse().unwrap())),
        ..failure(2_000_000, b"")
    };
    let next = |made: Failure| {
        let refused = to(MAIN, "10.0.0.9:4317", 111);
        let [before, after] = [vec![made.clone(), refused.clone()], vec![refused, made]].map(with_failures);
        [before, after].map(|it| it.failures[0].later_connected.clone())
    };
    assert_eq!(next(to(MAIN, "10.0.0.8:6379", 0)), ["", "10.0.0.8:6379/tcp"]);
    assert_eq!(next(to(MAIN + 1, "10.0.0.8:6379", 0)), ["", ""], "another process goes its own way");
}

#[test]
fn a_lost_connection_is_told_by_its_peer_and_so_is_the_one_that_took_its_place() {
    let connection = |time, syscall, address: &str, errno| Failure {
        syscall,
        errno,
        object: Object::Address(decode::SocketAddress::Internet(address.parse().unwrap())),
        lost: errno != 0,
        transport: Some(decode::Transport::Tcp),
        ..failure(time, b"")
    };
    // recvfrom, and sendto, whose addresses are otherwise those of datagrams.
    let lost = |syscall| connection(2_000_000, syscall, "10.0.0.9:5432", 104);
    let told = |failures| {
        let failures = with_failures(failures).failures;
        let of = |it: &lastwords_diagnosis::evidence::Failure| {
            (it.address.clone(), it.later_succeeded, it.later_connected.clone())
        };
        failures.iter().map(of).collect::<Vec<_>>()
    };
    let is = |later, next: &str| vec![("10.0.0.9:5432/tcp".to_owned(), later, next.to_owned())];
    assert_eq!(told(vec![lost(45)]), is(false, ""));
    assert_eq!(told(vec![lost(44)]), is(false, ""));
    assert_eq!(told(vec![lost(45), connection(2_000_100, 42, "10.0.0.9:5432", 0)]), is(true, ""));
    let other = connection(2_000_100, 42, "10.0.0.8:6379", 0);
    assert_eq!(told(vec![lost(45), other.clone()]), is(false, "10.0.0.8:6379/tcp"));
    assert_eq!(told(vec![other, lost(45)]), is(false, ""));
}
