//! `resolve WAY ANSWER [NAME]`: asks a name server of its own for the address of a name, as resolvers do it; `orders-db.prod` if none is said.
//!
//! Ways: `udp`; over TCP `parts` (glibc: the length in a part of its own, and read by itself), `one` (Go, c-ares: both in one), `message` (musl:
//! by sendmsg and recvmsg). Answers: a response code, `cut` for one that does not fit into a datagram, `address`, or `nothing`: the
//! name server closes the connection, and leaves a datagram unanswered.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;

use nix::sys::socket::{MsgFlags, recvmsg, sendmsg};

use crate::number;

/// With recursion; one question (RFC 1035, 4.1).
const HEADER: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0";
/// For an address.
const TYPE_AND_CLASS: &[u8] = b"\0\0\x01\0\x01";
/// 127.0.0.1 for the name in the question.
const RECORD: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01";
/// Of the flags: an answer, with recursion; not all of it.
const ANSWER: u8 = 0x81;
const CUT: u8 = 0x02;

pub(crate) fn step(words: &[&str]) -> io::Result<bool> {
    let ["resolve", way, answer, name @ ..] = words else { return Ok(false) };
    let query = query(name.first().copied().unwrap_or("orders-db.prod"));
    match *way {
        "udp" => over_udp(&query, answer)?,
        way => over_tcp(&query, way, answer)?,
    }
    Ok(true)
}

fn query(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&prefix(label.len())[1..], label.as_bytes()].concat());
    [HEADER, &labels.collect::<Vec<u8>>(), TYPE_AND_CLASS].concat()
}

/// None when there is to be none.
fn answer(to: &[u8], what: &str) -> io::Result<Option<Vec<u8>>> {
    let (flags, code, record) = match what {
        "nothing" => return Ok(None),
        "cut" => (ANSWER | CUT, 0, &[][..]),
        "address" => (ANSWER, 0, RECORD),
        code => (ANSWER, number(code)?, &[][..]),
    };
    let mut message = to.to_vec();
    message[2] = flags;
    message[3] = 0x80 | code;
    message[7] = u8::from(!record.is_empty());
    message.extend_from_slice(record);
    Ok(Some(message))
}

fn over_udp(query: &[u8], what: &str) -> io::Result<()> {
    let server = UdpSocket::bind("127.0.0.1:53")?;
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.connect("127.0.0.1:53")?;
    client.send(query)?;
    let mut message = vec![0; query.len()];
    let (_, asker) = server.recv_from(&mut message)?;
    let Some(answer) = answer(&message, what)? else { return Ok(()) };
    server.send_to(&answer, asker)?;
    client.recv(&mut [0; 512]).map(drop)
}

fn over_tcp(query: &[u8], way: &str, what: &str) -> io::Result<()> {
    // Not waiting for the last connection's end, as the standard library does it.
    let server = TcpListener::bind("127.0.0.1:53")?;
    let address = server.local_addr()?;
    let (what, length) = (what.to_owned(), query.len());
    let serving = thread::spawn(move || serve(&server, length, &what));
    let asked = ask(query, way, address);
    let served = serving.join().unwrap_or_else(|_| Err(io::Error::other("the name server failed")));
    asked.and(served)
}

/// One query.
fn serve(server: &TcpListener, length: usize, what: &str) -> io::Result<()> {
    let (mut connection, _) = server.accept()?;
    let mut message = vec![0; 2 + length];
    connection.read_exact(&mut message)?;
    let Some(answer) = answer(&message[2..], what)? else { return Ok(()) };
    connection.write_all(&[&prefix(answer.len())[..], &answer].concat())
}

fn prefix(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or_default().to_be_bytes()
}

fn ask(query: &[u8], way: &str, server: SocketAddr) -> io::Result<()> {
    let socket = OwnedFd::from(TcpStream::connect(server)?);
    let prefix = prefix(query.len());
    let mut length = [0; 2];
    let mut message = [0; 512];
    match way {
        "parts" => {
            let mut file = File::from(socket);
            let written = file.write_vectored(&[IoSlice::new(&prefix), IoSlice::new(query)])?;
            if written != prefix.len() + query.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            file.read_exact(&mut length)?;
            file.read_exact(&mut message[..usize::from(u16::from_be_bytes(length))])
        }
        "one" => {
            let mut file = File::from(socket);
            file.write_all(&[&prefix, query].concat())?;
            file.read(&mut message).map(drop)
        }
        "message" => {
            let parts = [IoSlice::new(&prefix), IoSlice::new(query)];
            sendmsg::<()>(socket.as_raw_fd(), &parts, &[], MsgFlags::empty(), None)?;
            let mut parts = [IoSliceMut::new(&mut length), IoSliceMut::new(&mut message)];
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
            Ok(())
        }
        _ => Err(io::Error::other(format!("{way} is no way to ask"))),
    }
}
