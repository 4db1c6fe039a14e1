//! What is counted: short pieces of what every program does all day, and of what it does when it fails.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use nix::{
    fcntl::{OFlag, open},
    libc,
    sys::{
        signal::{SigSet, Signal, kill},
        socket::{setsockopt, sockopt::Linger},
        stat::Mode,
    },
    unistd::{close, getpid, getppid},
};

use crate::{clock, nothing};

/// A file that is there; the machine's start writes it.
const THERE: &str = "/etc/hosts";
const MISSING: &str = "/no/such/file";
/// Nobody listens at this port.
const REFUSING: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const MESSAGE: usize = 64;
/// Before a batch this part of it is run without the clock: caches and free lists are then as in its middle.
const WARM_UP: u32 = 4;

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// A call that nobody asked about.
    Getppid,
    /// open and close that succeed, long after the container's start.
    OpenClose,
    /// The same within the first moments of the container's life.
    OpenCloseYoung,
    /// open of a file that is not there, in a container.
    OpenMissingInside,
    /// The same elsewhere on the node.
    OpenMissingOutside,
    /// socket, connect, accept and two times close.
    ConnectOk,
    /// socket, connect to a port where nobody listens, and close.
    ConnectRefused,
    /// write of 64 bytes to /dev/null.
    Write,
    /// A datagram to a socket on this machine and one back.
    UdpEcho,
    /// 64 bytes through a connection and 64 back.
    TcpSendRecv,
    /// fork, exec of a program of three instructions, its exit, wait.
    Process,
    /// kill with SIGTERM of a process that takes it with sigwait.
    Sigterm,
}

impl Operation {
    /// As tables and requests write it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How many are timed together. Under `-icount` a batch of some 2 ms most often comes between two ticks of the timer (4 ms), so the
    /// smallest of several batches has none in it.
    pub(crate) fn batch(self) -> u32 {
        match self {
            Self::Getppid | Self::Write => 2_000,
            Self::OpenClose | Self::OpenCloseYoung => 200,
            Self::OpenMissingInside | Self::OpenMissingOutside => 100,
            Self::Sigterm | Self::UdpEcho | Self::TcpSendRecv => 50,
            Self::ConnectRefused => 30,
            Self::ConnectOk => 20,
            // Of several the pages and areas that the kernel takes differ too much: the smallest of single ones repeats.
            Self::Process => 1,
        }
    }

    /// Does it some times, then `times` times against the clock; nanoseconds of these.
    ///
    /// # Errors
    /// When an operation does not end as it should: a cost of something else is no result.
    pub(crate) fn run(self, times: u32) -> Result<u64> {
        match self {
            Self::Getppid => timed(times, || {
                std::hint::black_box(getppid());
                Ok(())
            }),
            Self::OpenClose | Self::OpenCloseYoung => {
                timed(times, || Ok(close(open(THERE, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)?))
            }
            Self::OpenMissingInside | Self::OpenMissingOutside => timed(times, || {
                ensure!(open(MISSING, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).is_err());
                Ok(())
            }),
            Self::ConnectOk => connect_ok(times),
            Self::ConnectRefused => timed(times, || {
                ensure!(TcpStream::connect(REFUSING).is_err());
                Ok(())
            }),
            Self::Write => {
                let mut sink = File::options().write(true).open("/dev/null")?;
                timed(times, || Ok(sink.write_all(&[0; MESSAGE])?))
            }
            Self::UdpEcho => udp_echo(times),
            Self::TcpSendRecv => tcp_send_recv(times),
            Self::Process => process(times),
            Self::Sigterm => sigterm(times),
        }
    }
}

fn timed(times: u32, mut operation: impl FnMut() -> Result<()>) -> Result<u64> {
    let mut some = |times| (0..times).try_for_each(|_| operation());
    some(times / WARM_UP + 1)?;
    let before = clock::now();
    some(times)?;
    Ok(clock::now() - before)
}

/// The connection is reset by the side that closes first: a thousand of them in TIME_WAIT would make the next ones dearer.
fn connect_ok(times: u32) -> Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Accepted sockets inherit it.
    setsockopt(&listener, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    let address = listener.local_addr()?;
    timed(times, || {
        let ours = TcpStream::connect(address)?;
        let (theirs, _) = listener.accept()?;
        drop(theirs);
        drop(ours);
        Ok(())
    })
}

fn udp_echo(times: u32) -> Result<u64> {
    let (ours, theirs) =
        (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
    ours.connect(theirs.local_addr()?)?;
    theirs.connect(ours.local_addr()?)?;
    let mut buffer = [0; MESSAGE];
    timed(times, || {
        for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
            from.send(&[0; MESSAGE])?;
            ensure!(to.recv(&mut buffer)? == MESSAGE);
        }
        Ok(())
    })
}

fn tcp_send_recv(times: u32) -> Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&listener, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let (theirs, _) = listener.accept()?;
    for side in [&ours, &theirs] {
        side.set_nodelay(true)?;
        side.set_read_timeout(Some(Duration::from_secs(5)))?;
    }
    let mut buffer = [0; MESSAGE];
    timed(times, || {
        for (mut from, mut to) in [(&ours, &theirs), (&theirs, &ours)] {
            from.write_all(&[0; MESSAGE])?;
            to.read_exact(&mut buffer)?;
        }
        Ok(())
    })
}

fn process(times: u32) -> Result<u64> {
    let program: PathBuf = nothing::program().context("cannot make the program that does nothing")?;
    timed(times, || {
        // Told to set a user, the library forks; otherwise it would share its memory with the child until the exec.
        let status = Command::new(&program).uid(0).status()?;
        ensure!(status.success(), "the program that does nothing failed: {status}");
        Ok(())
    })
}

fn sigterm(times: u32) -> Result<u64> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let took = timed(times, || {
        kill(getpid(), Signal::SIGTERM)?;
        ensure!(signals.wait()? == Signal::SIGTERM);
        Ok(())
    });
    signals.thread_unblock()?;
    took
}
