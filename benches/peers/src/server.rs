//! The server's process, seen from both sides.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::plan::Side;
use super::{by_hand, by_tokio, by_trine};
use crate::measure::{die_with_parent, pin, raise_descriptors};

/// The first argument of such a process.
pub const ROLE: &str = "serve-echo";

/// A server that runs until this is dropped.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(side: Side, core: usize) -> Server {
        let program = std::env::current_exe().expect("the path of this program");
        let mut command = Command::new(program);
        command.args([ROLE, &side.to_string(), &core.to_string()]).stdout(Stdio::piped());
        let mut process = command.spawn().expect("a second process");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line of it");
        let address = line.trim().parse().expect("the address it listens on");
        Server { process, address }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What that process does: `arguments` are how, and on which core.
pub fn serve(arguments: &[String]) {
    let [side, core] = arguments else { panic!("{ROLE} <side> <core>") };
    die_with_parent();
    raise_descriptors();
    pin(core.parse().expect("a core"));
    match Side::parse(side) {
        Side::Hand => by_hand::serve(),
        Side::Trine => by_trine::serve(),
        Side::Tokio => by_tokio::serve(),
    }
}

/// Says where the server listens.
pub fn listens(address: SocketAddr) {
    println!("{address}");
    std::io::stdout().flush().expect("somebody who reads it");
}
