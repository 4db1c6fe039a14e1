//! Steps that make one call on a socket. Sockets stay open until the end.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, getsockopt, socket,
    sockopt::SocketError,
};

pub(crate) fn step(words: &[&str]) -> io::Result<bool> {
    match words {
        // With SO_REUSEADDR, as the standard library does it.
        ["listen", address] => mem::forget(TcpListener::bind(*address)?),
        ["bind", address] => mem::forget(bound(address)?),
        ["bind-udp", address] => mem::forget(UdpSocket::bind(*address)?),
        ["bind-unix", path] => mem::forget(UnixListener::bind(path)?),
        ["serve", address] => serve(&TcpListener::bind(*address)?),
        ["connect", address] => mem::forget(TcpStream::connect(*address)?),
        ["connect-unix", path] => mem::forget(UnixStream::connect(path)?),
        ["connect-late", address] => connect_late(address, wait_by_poll)?,
        ["connect-late-epoll", address] => connect_late(address, wait_by_epoll)?,
        ["raw-socket"] => mem::forget(raw_socket()?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// For ever.
fn serve(listener: &TcpListener) {
    for connection in listener.incoming() {
        drop(connection);
    }
}

fn parsed(address: &str) -> io::Result<SocketAddr> {
    address.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn stream(address: &SocketAddr, flags: SockFlag) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket(family, SockType::Stream, flags, None)?)
}

fn raw_socket() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp)
}

fn bound(address: &str) -> io::Result<OwnedFd> {
    let address = parsed(address)?;
    let socket = stream(&address, SockFlag::empty())?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// As event loops do it: the call says EINPROGRESS, the loop says when it is over, the socket says how it went.
fn connect_late(address: &str, wait: fn(&OwnedFd) -> io::Result<()>) -> io::Result<()> {
    let address = parsed(address)?;
    let socket = stream(&address, SockFlag::SOCK_NONBLOCK)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) => return Ok(()),
        Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    wait(&socket)?;
    match getsockopt(&socket, SocketError)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn wait_by_poll(socket: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsFd as _;
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
    Ok(())
}

fn wait_by_epoll(socket: &OwnedFd) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLOUT, 0))?;
    epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE)?;
    Ok(())
}
