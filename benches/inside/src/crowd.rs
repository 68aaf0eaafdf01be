//! A process that holds the other ends of many connections, and so has descriptors of its own for
//! them.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::measure::{Cores, die_with_parent, pin, raise_descriptors, reset_on_close};

/// The first argument of such a process.
pub const ROLE: &str = "hold-connections";

/// Connections that say nothing, until this is dropped.
pub struct Crowd(Child);

impl Crowd {
    /// Connects `count` times to `to`; whoever listens there has to accept meanwhile.
    ///
    /// # Panics
    /// If this process may not have as many descriptors.
    pub fn gather(to: SocketAddr, count: usize) -> Crowd {
        let limit = raise_descriptors();
        assert!(
            count + 100 <= limit,
            "{count} connections take more descriptors than {limit}: raise `ulimit -Hn`"
        );
        let program = std::env::current_exe().expect("the path of this program");
        let mut command = Command::new(program);
        let core = Cores::ours().helper;
        command.args([ROLE, &to.to_string(), &count.to_string(), &core.to_string()]);
        command.stdin(Stdio::piped());
        Crowd(command.spawn().expect("a second process"))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What that process does: `arguments` are where to, how often, and on which core.
pub fn hold(arguments: &[String]) {
    let [to, count, core] = arguments else { panic!("{ROLE} <address> <count> <core>") };
    let to: SocketAddr = to.parse().expect("an address");
    let count: usize = count.parse().expect("a count");
    die_with_parent();
    raise_descriptors();
    pin(core.parse().expect("a core"));
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let stream = TcpStream::connect(to).expect("a connection");
        reset_on_close(&stream);
        held.push(stream);
    }
    let _ = std::io::stdin().read(&mut [0]);
}
