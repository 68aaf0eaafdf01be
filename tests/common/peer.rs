//! The other end of a connection, which does not go through trine.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use trine::net::{TcpListener, TcpStream};
use trine::testing::{Outside, World};
use trine::{Result, yield_shielded};

/// A socket of the standard library on Linux, and what stands for one in a simulated world.
///
/// What it waits for comes with the turns of the run; being none of trine's it is cancelled by nobody.
pub enum Peer {
    Linux(std::net::TcpStream),
    World(Outside),
}

/// How long it takes at most to connect to somebody who takes connections.
const PATIENCE: Duration = Duration::from_secs(5);

impl Peer {
    pub fn connect(to: SocketAddr) -> io::Result<Peer> {
        Peer::connect_within(PATIENCE, to)
    }

    /// Where nobody answers within the time that is an error. In a world without latency that is known
    /// at once.
    pub fn connect_within(patience: Duration, to: SocketAddr) -> io::Result<Peer> {
        match World::try_current() {
            Some(world) => {
                let peer = world.connect(to)?;
                peer.peer_addr().map_err(|_| ErrorKind::TimedOut)?;
                Ok(Peer::World(peer))
            }
            None => {
                let peer = std::net::TcpStream::connect_timeout(&to, patience)?;
                peer.set_nonblocking(true)?;
                Ok(Peer::Linux(peer))
            }
        }
    }

    /// A stream of ours, and its other end.
    pub async fn pair() -> Result<(TcpStream, Peer)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let peer = Peer::connect(listener.local_addr()?)?;
        let (stream, _) = listener.accept().await?;
        listener.close().await?;
        Ok((stream, peer))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Peer::Linux(peer) => peer.local_addr(),
            Peer::World(peer) => Ok(peer.local_addr()),
        }
    }

    /// Sends what there is room for.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Linux(peer) => io::Write::write(&mut &*peer, bytes),
            Peer::World(peer) => peer.send(bytes),
        }
    }

    /// Receives what has come.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Peer::Linux(peer) => io::Read::read(&mut &*peer, into),
            Peer::World(peer) => peer.receive(into),
        }
    }

    /// Sends everything; where there is room for it, without a turn going by.
    pub async fn write_all(&self, bytes: &[u8]) -> Result {
        let mut sent = 0;
        while sent < bytes.len() {
            sent += retried(|| self.send(&bytes[sent..])).await?;
        }
        Ok(())
    }

    /// Receives something, or 0 bytes at the end of the stream.
    pub async fn read(&self, into: &mut [u8]) -> Result<usize> {
        retried(|| self.receive(into)).await
    }

    /// Receives this many bytes.
    pub async fn read_exact<const N: usize>(&self) -> Result<[u8; N]> {
        let (mut bytes, mut came) = ([0; N], 0);
        while came < N {
            match self.read(&mut bytes[came..]).await? {
                0 => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                count => came += count,
            }
        }
        Ok(bytes)
    }

    /// Receives everything up to the end of the stream.
    pub async fn read_to_end(&self) -> Result<Vec<u8>> {
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            match self.read(&mut piece).await? {
                0 => return Ok(bytes),
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Peer::Linux(peer) => peer.shutdown(how),
            Peer::World(peer) => peer.shutdown(how),
        }
    }

    /// Closes it so that its connection is reset.
    pub fn reset(self) {
        match self {
            Peer::Linux(peer) => {
                tokio::net::TcpSocket::from_std_stream(peer).set_zero_linger().unwrap();
            }
            Peer::World(peer) => peer.reset(),
        }
    }
}

/// Tries until it can be done, once in a turn.
async fn retried(mut operation: impl FnMut() -> io::Result<usize>) -> Result<usize> {
    loop {
        match operation() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => yield_shielded().await,
            done => return Ok(done?),
        }
    }
}
