//! Which setup flags, features and operations the kernel has.

use std::io;

use io_uring::{Builder, IoUring, Parameters, Probe, opcode};

use crate::ring::Ring;
use crate::world::{Mode, since};

/// The first kernel with it. Older ones may have it too: distributions port things back.
type Since = (u32, u32);

type Flag = fn(&mut Builder) -> &mut Builder;
type Feature = fn(&Parameters) -> bool;

/// Buffers of a ring are used up piece by piece.
const PBUF_RING_INC: u16 = 2;

#[test]
fn setup_flags_are_accepted_or_refused_as_invalid() {
    let flags: [(&str, Since, Flag); 8] = [
        ("CQSIZE", (5, 5), |ring| ring.setup_cqsize(64)),
        ("CLAMP", (5, 6), |ring| ring.setup_clamp()),
        ("SUBMIT_ALL", (5, 18), |ring| ring.setup_submit_all()),
        ("COOP_TASKRUN", (5, 19), |ring| ring.setup_coop_taskrun()),
        ("TASKRUN_FLAG", (5, 19), |ring| ring.setup_coop_taskrun().setup_taskrun_flag()),
        ("SINGLE_ISSUER", (6, 0), |ring| ring.setup_single_issuer()),
        ("DEFER_TASKRUN", (6, 1), |ring| ring.setup_single_issuer().setup_defer_taskrun()),
        ("NO_SQARRAY", (6, 6), |ring| ring.setup_no_sqarray()),
    ];
    for (name, first, flag) in flags {
        let built = flag(&mut IoUring::builder()).build(8);
        expect(&format!("setup {name}"), first, accepted(built.map(drop)));
    }
}

#[test]
fn features_of_a_kernel_stay() {
    let features: [(&str, Since, Feature); 6] = [
        ("NODROP", (5, 5), Parameters::is_feature_nodrop),
        ("EXT_ARG", (5, 11), Parameters::is_feature_ext_arg),
        ("CQE_SKIP", (5, 17), Parameters::is_feature_skip_cqe_on_success),
        ("RECVSEND_BUNDLE", (6, 10), Parameters::is_feature_recvsend_bundle),
        ("MIN_TIMEOUT", (6, 12), Parameters::is_feature_min_timeout),
        ("NO_IOWAIT", (6, 15), Parameters::is_feature_no_iowait),
    ];
    let ring = IoUring::new(8).expect("io_uring");
    for (name, first, has) in features {
        expect(&format!("feature {name}"), first, has(ring.params()));
    }
}

#[test]
fn buffer_rings_and_a_registered_ring_are_accepted() {
    let ring = Ring::new(Mode::Defer);
    expect("register PBUF_RING", (5, 19), accepted(ring.try_pool(0)));
    expect("register PBUF_RING_INC", (6, 12), accepted(ring.try_pool(PBUF_RING_INC)));
    expect("register RING_FD", (5, 18), accepted(ring.try_registered()));
}

#[test]
fn the_operations_of_the_table_are_supported() {
    let operations = [
        ("NOP", opcode::Nop::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("CONNECT", opcode::Connect::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
        ("SHUTDOWN", opcode::Shutdown::CODE),
        ("CLOSE", opcode::Close::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("READ", opcode::Read::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ];
    let (ring, mut probe) = (IoUring::new(8).expect("io_uring"), Probe::new());
    ring.submitter().register_probe(&mut probe).expect("probes are in Linux since 5.6");
    for (name, code) in operations {
        expect(&format!("operation {name}"), (5, 11), probe.is_supported(code));
    }
}

/// Prints the row; what a kernel has, all later ones have.
fn expect(what: &str, first: Since, has: bool) {
    println!("{what} | since {}.{} | {}", first.0, first.1, if has { "yes" } else { "no" });
    assert!(has || !since(first.0, first.1), "{what} is missing");
}

/// Whether the kernel took it. It refuses what it does not know in one way only.
fn accepted(result: io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        Err(error) => panic!("neither accepted nor unknown: {error}"),
    }
}
