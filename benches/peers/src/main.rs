//! What a request costs an echo server: processor time per request, by the ring used by hand, by
//! trine and by tokio, in turn.
//!
//! The server is this program once more, alone on one core; the load comes from another core, over
//! loopback, and never sleeps, so that no server pays for waking it. The price of a request is the
//! share of the window in which the server's core was not idle, divided by the requests answered:
//! the kernel does part of a server's work in softirqs that are charged to no process.
//!
//! `cargo run --release` measures everything; with `-- 64 open-64` some of it; `--rounds 3`,
//! `--seconds 1`, `--sides trine,hand` and `--smoke` (small and short, to see that it runs) do what
//! they say.

mod buffers;
mod by_hand;
mod by_tokio;
mod by_trine;
mod latency;
mod load;
mod plan;
mod report;
mod server;
mod window;

#[path = "../../hand/mod.rs"]
mod hand;
#[path = "../../measure/mod.rs"]
mod measure;

use crate::load::Load;
use crate::measure::{Cores, pin, raise_descriptors};
use crate::plan::{Options, PLANS, Plan, SMOKE, Side};
use crate::report::Row;
use crate::server::Server;
use crate::window::Measured;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == server::ROLE) {
        return server::serve(&arguments[1..]);
    }
    let options = Options::parse(arguments);
    let cores = Cores::ours();
    raise_descriptors();
    pin(cores.helper);
    println!(
        "{} rounds of {:?} in turn; server on core {}, load on core {}",
        options.rounds, options.window, cores.measured, cores.helper
    );
    let plans = if options.smoke { SMOKE } else { PLANS };
    for plan in plans.iter().filter(|plan| options.selects(plan)) {
        let mut rows: Vec<Row> = options.sides.iter().map(|&side| Row::new(side)).collect();
        for _ in 0..options.rounds {
            for row in &mut rows {
                row.push(measure(plan, row.side, &options, cores));
            }
        }
        report::print(plan, &rows, options.smoke);
    }
}

fn measure(plan: &Plan, side: Side, options: &Options, cores: Cores) -> Measured {
    let server = Server::start(side, cores.measured);
    let mut load = Load::connect(server.address, plan);
    load.run(options.window / 5);
    let measured = window::measure_undisturbed(&server, &mut load, cores, options.window);
    // First the server: the load leaves without saying goodbye, which a server may take ill.
    drop(server);
    measured
}
