//! Steps that lose a connection that had been made. Both its sides are this process's; sockets stay open until the end.

use std::io::{self, Read as _, Write as _};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{
    getsockopt, setsockopt,
    sockopt::{Linger, SocketError, TcpUserTimeout},
};

use crate::faults;

/// Until a reset on the loopback network has arrived, on an emulated processor.
const ARRIVAL: Duration = Duration::from_millis(50);
/// Milliseconds for which a sent byte may stay unanswered.
const SILENCE: u32 = 400;

pub(crate) fn step(words: &[&str]) -> io::Result<bool> {
    match words {
        // The peer resets it, and what is done then fails.
        ["lose", address, how @ ("receive" | "wait" | "send" | "write" | "ask" | "pipe")] => {
            lose(address, how)?;
        }
        // The peer says nothing any more.
        ["lose", address, "silence"] => fall_silent(address)?,
        // The other side: a server whose client resets the connection.
        ["be-left", address] => be_left(address)?,
        ["lose-unix", path] => lose_unix(path)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A client, and the server's side of its connection. The listener stays, so that it can connect again.
fn connection(address: &str) -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(address)?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    mem::forget(listener);
    Ok((client, server))
}

/// Closes so that the other side is reset (SO_LINGER with 0).
fn reset(socket: TcpStream) -> io::Result<()> {
    setsockopt(&socket, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    drop(socket);
    Ok(())
}

fn lose(address: &str, how: &str) -> io::Result<()> {
    let (mut client, server) = connection(address)?;
    if how == "wait" {
        let later = thread::spawn(move || {
            thread::sleep(ARRIVAL);
            reset(server)
        });
        let result = client.read(&mut [0]);
        let _ = later.join();
        mem::forget(client);
        return result.map(drop);
    }
    reset(server)?;
    thread::sleep(ARRIVAL);
    let result = match how {
        "receive" => client.read(&mut [0]).map(drop),
        "send" => client.write(&[0]).map(drop),
        "write" => nix::unistd::write(&client, &[0]).map(drop).map_err(io::Error::from),
        "ask" => match getsockopt(&client, SocketError)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        },
        _ => broken_pipe(&mut client),
    };
    mem::forget(client);
    result
}

/// As a program does that knows nothing of signals: the first send is told of the reset, the second one is the end.
fn broken_pipe(client: &mut TcpStream) -> io::Result<()> {
    faults::end_by(Signal::SIGPIPE)?;
    let _ = nix::unistd::write(&*client, &[0]);
    nix::unistd::write(&*client, &[0])?;
    Ok(())
}

fn fall_silent(address: &str) -> io::Result<()> {
    let (mut client, server) = connection(address)?;
    setsockopt(&client, TcpUserTimeout, &SILENCE)?;
    Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "down"]).status()?;
    client.write_all(&[0])?;
    let result = client.read(&mut [0]);
    mem::forget((client, server));
    result.map(drop)
}

fn be_left(address: &str) -> io::Result<()> {
    let (client, mut server) = connection(address)?;
    reset(client)?;
    thread::sleep(ARRIVAL);
    let result = server.read(&mut [0]);
    mem::forget(server);
    result.map(drop)
}

fn lose_unix(path: &str) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    let client = UnixStream::connect(path)?;
    drop(listener.accept()?);
    let result = nix::unistd::write(&client, &[0]);
    mem::forget((client, listener));
    Ok(result.map(drop)?)
}
