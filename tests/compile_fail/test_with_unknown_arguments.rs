//! All mistakes are told at once, each where it is.

#[trine::test(flavor = "sim", kernel = "windows", runs = 0, timeout = "soon")]
async fn a_test() {}

#[trine::test(kernel = "real", faults = "wild")]
async fn the_real_kernel_takes_no_orders() {}

#[trine::test(clock = "real")]
async fn time_does_not_pass_by_itself_in_a_simulated_world() {}

#[trine::test]
#[test]
async fn a_test_twice() {}

fn main() {}
