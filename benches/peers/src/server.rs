//! The server's process, seen from both sides.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::measure::{die_with_parent, pin, raise_descriptors};
use crate::pools::Shape;
use crate::sides::Side;

/// The first argument of such a process.
pub const ROLE: &str = "serve-echo";

/// A server that runs until this is dropped.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Fails with the server's own words where it cannot start.
    pub fn start(side: Side, core: usize, pool: Option<Shape>) -> io::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ROLE, side.name(), &core.to_string()]).stdout(Stdio::piped());
        command.args(pool.map(Shape::name));
        let mut process = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(address) => Ok(Server { process, address }),
            Err(_) => {
                let _ = process.kill();
                let status = process.wait()?;
                let why = match line.trim() {
                    "" => format!("the process ended ({status}) before it listened"),
                    words => words.to_owned(),
                };
                Err(io::Error::other(why))
            }
        }
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
    let (parsed, pool) = match arguments {
        [side, core, pool @ ..] => (Side::parse(side).zip(core.parse().ok()), pool.first()),
        _ => (None, None),
    };
    let Some((side, core)) = parsed else { panic!("{ROLE} <side> <core> [<pool>]") };
    let pool = pool.map(|pool| {
        Shape::parse(pool).expect("a pool is <bytes>x<buffers>, with a + if it is incremental")
    });
    die_with_parent();
    raise_descriptors();
    pin(core);
    if let Err(error) = side.serve(core, pool) {
        // The other process reads one line, and has it already if this one ever listened.
        if say(&error).is_err() {
            eprintln!("{side}: {error}");
        }
    }
}

/// Says where the server listens.
pub fn listens(address: SocketAddr) {
    // Nobody reads: then nobody needs it.
    let _ = say(&address);
}

/// One line to the process that started this one.
fn say(what: &dyn Display) -> io::Result<()> {
    let line = what.to_string().replace('\n', " ");
    let mut output = io::stdout();
    writeln!(output, "{line}")?;
    output.flush()
}
