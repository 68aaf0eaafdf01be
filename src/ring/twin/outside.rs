//! Ends of connections that no ring has: a test holds them itself.

use std::cell::RefMut;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

use crate::slots::Key;

use super::files::File;
use super::machine::Machine;
use super::object::Object;
use super::options::Options;
use super::stream::Readable;
use super::world::{World, error};

/// An end of a connection that a test holds itself, from [`World::connect`](crate::testing::World::connect):
/// what a plain socket would be on Linux. Nothing of trine's is in between, so that the code under test is
/// not measured by itself.
///
/// Nothing here waits: what cannot be done now is [`WouldBlock`](io::ErrorKind::WouldBlock), also while the
/// connection is still being made. In a simulated world things move on only with the turns of a run, so
/// whoever tries again lets one go by, with a [`checkpoint`](crate::checkpoint()). It takes no descriptor,
/// and is closed when it is dropped.
///
/// ```
/// use trine::net::TcpListener;
/// use trine::testing::World;
///
/// World::tame().run(async || {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let peer = World::current().connect(listener.local_addr()?)?;
///     let (stream, _) = listener.accept().await?;
///     assert_eq!(peer.send(b"ping")?, 4);
///     assert_eq!(stream.recv().await?.unwrap(), *b"ping");
///     stream.write_all("pong").await?;
///     let mut pong = [0; 4];
///     assert_eq!(peer.receive(&mut pong)?, 4);
///     assert_eq!(pong, *b"pong");
///     peer.reset();
///     assert!(stream.recv().await.is_err());
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Outside {
    world: Rc<World>,
    /// It has no number: the descriptors are those of the program.
    file: Key<File>,
    address: SocketAddr,
}

impl Outside {
    pub(crate) fn connect(world: &Rc<World>, to: SocketAddr) -> io::Result<Outside> {
        let machine = &mut *world.machine();
        let fresh = Object::fresh(to);
        let file = machine.nameless_file(fresh, Options::default());
        let begun = machine.begin_connect(file, to).and_then(|address| {
            // Where the network takes no time it may have been refused already.
            machine.failure_of(file).map_or(Ok(address), Err)
        });
        match begun {
            Ok(address) => Ok(Outside { world: Rc::clone(world), file, address }),
            Err(errno) => {
                machine.release_file(file);
                Err(error(errno))
            }
        }
    }

    /// With everything that is due by now, as for whoever enters a ring.
    fn machine(&self) -> RefMut<'_, Machine> {
        let mut machine = self.world.machine();
        machine.run_due();
        machine
    }

    /// Sends what there is room for, and says how much that was.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room, and what has become of the connection.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let machine = &mut *self.machine();
        let (conn, side) = machine.stream_of(self.file).map_err(error)?;
        machine.send(conn, side, bytes).unwrap_or(Err(libc::EAGAIN)).map_err(error)
    }

    /// Receives what has arrived, and says how much that was; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived, and what has become of the connection.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let machine = &mut *self.machine();
        let (conn, side) = machine.stream_of(self.file).map_err(error)?;
        match machine.readable(conn, side) {
            Readable::Bytes => {
                let room = into.len();
                let write = |at, part: &[u8]| into[at..at + part.len()].copy_from_slice(part);
                let (count, rights) = machine.receive(conn, side, room, write);
                machine.release_rights(rights);
                Ok(count)
            }
            Readable::End => Ok(0),
            Readable::Error(errno) => Err(error(errno)),
            Readable::Nothing => Err(error(libc::EAGAIN)),
        }
    }

    /// Ends one half or both, as [`std::net::TcpStream::shutdown`] does.
    ///
    /// # Errors
    /// `NotConnected` if the connection has ended.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => libc::SHUT_RD,
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        self.machine().shutdown(self.file, how).map_err(error)
    }

    /// Closes it so that the other end finds the connection reset, once it has what was sent before.
    pub fn reset(self) {
        if let Some(file) = self.world.machine().files.table.get_mut(self.file) {
            file.options.reset_on_close();
        }
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected` before the connection is made, and when it has ended.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.machine().peer_of(self.file).map_err(error)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.world.machine().release_file(self.file);
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outside").field(&self.address).finish()
    }
}
