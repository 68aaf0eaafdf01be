//! Every thing, side by side, under criterion: `cargo bench -- spawn`, or `-- --test` to see that each runs.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use trine_inside::measure::{Cores, pin};
use trine_inside::{Side, THINGS, crowd};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == crowd::ROLE) {
        return crowd::hold(&arguments[1..]);
    }
    pin(Cores::ours().measured);
    // Ten samples: many things take a second or more, of which most is making connections.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for thing in THINGS {
        let mut group = criterion.benchmark_group(thing.name);
        group.throughput(Throughput::Elements(thing.each));
        for (side, measure) in thing.sides.iter().filter(|(side, _)| Side::USUAL.contains(side)) {
            group.bench_function(side.to_string(), |bencher| bencher.iter_custom(measure));
        }
        group.finish();
    }
    criterion.final_summary();
}
