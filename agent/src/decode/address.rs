//! `struct sockaddr` → the address as people write it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// An address that a program passed to bind, connect or sendto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketAddress {
    /// IPv4 or IPv6; a v4-mapped one as IPv4.
    Internet(SocketAddr),
    /// A UNIX socket's path; an abstract one begins with `@`.
    Unix(Vec<u8>),
}

/// Decodes the `length` bytes of a `struct sockaddr`; None for other families and cut ones.
#[must_use]
pub fn socket_address(bytes: &[u8]) -> Option<SocketAddress> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    match family {
        AF_UNIX => {
            let path = bytes.get(2..)?;
            let path = match path.strip_prefix(&[0]) {
                Some(name) => [b"@", name].concat(),
                None => path.split(|byte| *byte == 0).next()?.to_vec(),
            };
            Some(SocketAddress::Unix(path))
        }
        AF_INET => {
            let address: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddress::Internet(SocketAddr::new(Ipv4Addr::from(address).into(), port(bytes)?)))
        }
        AF_INET6 => {
            let address: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let address: IpAddr = Ipv6Addr::from(address).to_canonical();
            Some(SocketAddress::Internet(SocketAddr::new(address, port(bytes)?)))
        }
        _ => None,
    }
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_people_write_them() {
        let inet = [2, 0, 0x1f, 0x90, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(socket_address(&inet), Some(SocketAddress::Internet("10.0.0.9:8080".parse().unwrap())));
        let mut mapped = [0; 28];
        mapped[..4].copy_from_slice(&[10, 0, 0x15, 0x38]);
        mapped[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        assert_eq!(socket_address(&mapped), Some(SocketAddress::Internet("127.0.0.1:5432".parse().unwrap())));
        assert_eq!(
            socket_address(b"\x01\0/run/a.sock\0\0"),
            Some(SocketAddress::Unix(b"/run/a.sock".to_vec()))
        );
        assert_eq!(socket_address(b"\x01\0\0name"), Some(SocketAddress::Unix(b"@name".to_vec())));
        for cut in 0..16 {
            let _ = socket_address(&inet[..cut]);
        }
        assert_eq!(socket_address(&[16, 0, 1, 2]), None, "AF_NETLINK");
    }
}
