//! A simulated machine and its network, as a test uses them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use trine::net::{TcpListener, TcpStream};
use trine::testing::{Faults, Tape, World, wait_all_tasks_blocked};
use trine::time::{Instant, sleep, sleep_forever};
use trine::{Error, Result, checkpoint, move_on_after, nop, nursery};

use super::common::pair;

const SECOND: Duration = Duration::from_secs(1);

fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// A listener on a machine of its own.
async fn listen(number: u8) -> Result<TcpListener> {
    TcpListener::bind(SocketAddr::new(host(number), 7000)).await
}

async fn connect(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

#[trine::test]
async fn what_is_sent_is_under_way_for_as_long_as_the_latency_says() -> Result {
    let world = World::current();
    world.set_latency(SECOND);
    let began = Instant::now();
    let (client, server) = pair().await?;
    let connected = began.elapsed();
    assert!(connected >= SECOND, "a handshake takes its time: {connected:?}");
    let began = Instant::now();
    client.write_all("ping").await?;
    assert_eq!(server.read_exact(vec![0; 4]).await?, *b"ping");
    server.write_all("pong").await?;
    assert_eq!(client.read_exact(vec![0; 4]).await?, *b"pong");
    assert_eq!(began.elapsed(), SECOND * 2);
    world.set_latency(Duration::ZERO);
    client.write_all("x").await?;
    server.read_exact(vec![0; 1]).await?;
    assert_eq!(began.elapsed(), SECOND * 2);
    Ok(())
}

// What is sent later does not overtake, even if the way has become shorter.
#[trine::test(runs = 20)]
async fn bytes_keep_their_order_when_the_latency_changes() -> Result {
    let (client, server) = pair().await?;
    nursery(async |n| {
        n.spawn(async {
            World::current().set_latency(SECOND);
            client.write_all("first").await?;
            World::current().set_latency(Duration::ZERO);
            client.write_all("second").await?;
            Ok(())
        });
        assert_eq!(server.read_exact(vec![0; 11]).await?, *b"firstsecond");
        Ok(())
    })
    .await
}

#[trine::test]
async fn what_is_sent_into_a_cut_network_arrives_when_it_is_whole_again() -> Result {
    let world = World::current();
    let listener = listen(1).await?;
    let (client, server) = connect(&listener).await?;
    let from = client.local_addr()?.ip();
    world.partition(from, host(1));
    client.write_all("held back").await?;
    assert!(move_on_after(SECOND * 30, async |_| server.recv().await).await?.is_none());
    let hangs = TcpStream::connect_addr(listener.local_addr()?);
    assert!(move_on_after(SECOND, async |_| hangs.await).await?.is_none());
    world.heal(from, host(1));
    assert_eq!(server.read_exact(vec![0; 9]).await?, *b"held back");
    let (other, accepted) = connect(&listener).await?;
    other.close().await?;
    accepted.close().await
}

#[trine::test]
async fn a_connection_can_be_isolated_alone() -> Result {
    let world = World::current();
    let listener = listen(1).await?;
    let (one, one_server) = connect(&listener).await?;
    let (two, two_server) = connect(&listener).await?;
    world.isolate(one.local_addr()?);
    one.write_all("1").await?;
    two.write_all("2").await?;
    assert_eq!(two_server.read_exact(vec![0; 1]).await?, *b"2");
    assert!(move_on_after(SECOND, async |_| one_server.recv().await).await?.is_none());
    one_server.write_all("back").await?;
    assert!(move_on_after(SECOND, async |_| one.recv().await).await?.is_none());
    world.rejoin(one.local_addr()?);
    assert_eq!(one_server.read_exact(vec![0; 1]).await?, *b"1");
    assert_eq!(one.read_exact(vec![0; 4]).await?, *b"back");
    Ok(())
}

#[trine::test]
async fn a_listener_that_is_isolated_cuts_all_its_connections() -> Result {
    let (world, listener) = (World::current(), listen(1).await?);
    let (client, server) = connect(&listener).await?;
    world.isolate(listener.local_addr()?);
    client.write_all("x").await?;
    assert!(move_on_after(SECOND, async |_| server.recv().await).await?.is_none());
    let hangs = TcpStream::connect_addr(listener.local_addr()?);
    assert!(move_on_after(SECOND, async |_| hangs.await).await?.is_none());
    world.rejoin(listener.local_addr()?);
    assert_eq!(server.read_exact(vec![0; 1]).await?, *b"x");
    Ok(())
}

#[trine::test(runs = 20)]
async fn a_reset_is_seen_at_both_ends() -> Result {
    let (client, server) = &pair().await?;
    nursery(async |n| {
        n.spawn(async move {
            let error = server.recv().await.expect_err("it is broken");
            assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionReset));
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        World::current().reset(client.local_addr()?);
        let error = client.recv().await.expect_err("it is broken");
        assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionReset));
        Ok(())
    })
    .await
}

#[trine::test(runs = 20)]
async fn names_are_known_to_the_world_that_was_told_them() -> Result {
    World::current().add_name("database.example", host(7));
    let listener = TcpListener::bind("database.example:5432").await?;
    assert_eq!(listener.local_addr()?, SocketAddr::new(host(7), 5432));
    let unknown = TcpListener::bind("other.example:5432").await;
    unknown.expect_err("nobody has told it that one");
    let elsewhere = World::tame().elapsed();
    assert_eq!(elsewhere, Duration::ZERO, "another world is another world");
    Ok(())
}

// EMFILE comes to whoever wants one more, and goes when one is closed.
#[trine::test(runs = 20)]
async fn descriptors_run_out() -> Result {
    let (world, listener) = (World::current(), listen(1).await?);
    world.limit_descriptors(2);
    let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    let error = TcpStream::connect_addr(listener.local_addr()?).await.expect_err("no more");
    let Error::Io(error) = error else { panic!("{error}") };
    assert_eq!(error.raw_os_error(), Some(24));
    let Err(Error::Io(error)) = listener.accept().await else { panic!("accepted one too many") };
    assert_eq!(error.raw_os_error(), Some(24));
    world.limit_descriptors(3);
    let (server, _) = listener.accept().await?;
    client.close().await?;
    assert!(server.recv().await?.is_none());
    Ok(())
}

#[trine::test]
async fn the_census_counts_what_there_is() -> Result {
    let world = World::current();
    nop().await?;
    let before = world.census();
    assert_eq!((before.descriptors, before.connections, before.in_flight), (0, 0, 0));
    let (client, server) = pair().await?;
    client.write_all(vec![0; 100]).await?;
    let census = world.census();
    assert_eq!((census.descriptors, census.connections, census.bytes), (2, 1, 100));
    assert!(census.submitted > before.submitted);
    let chunk = server.recv().await?.expect("100 bytes");
    assert_eq!(world.census().bytes, 0);
    assert_eq!(world.census().buffers_out, 1, "a chunk is a buffer of the pool");
    drop(chunk);
    client.close().await?;
    server.close().await?;
    let census = world.census();
    assert_eq!((census.descriptors, census.connections), (0, 0));
    assert!(format!("{world:?}").contains("census"));
    Ok(())
}

#[trine::test]
fn the_timeline_tells_what_happened_and_what_was_noted() -> Result {
    let world = World::tame();
    world.run(async || {
        sleep(SECOND).await?;
        let (client, _server) = pair().await?;
        world.note("here we are");
        client.write_all("four").await?;
        Ok(())
    })?;
    let timeline = world.timeline();
    for part in ["1.000000000 s  here we are", "established", "client sends 4", "closed"] {
        assert!(timeline.contains(part), "{part}: {timeline}");
    }
    assert_eq!(world.finish(), Vec::<String>::new());
    assert_eq!(world.violations(), Vec::<String>::new());
    Ok(())
}

// Determinism: the same seed does the same, and what was recorded of it too.
#[trine::test]
fn the_same_seed_gives_the_same_trace() -> Result {
    let traced = |world: World| -> Result<(u64, Tape)> {
        world.run(async || {
            let (client, server) = &pair().await?;
            nursery(async |n| {
                for _ in 0..5 {
                    n.spawn(async { nop().await });
                }
                n.spawn(async move {
                    client.write_all(vec![1; 2000]).await?;
                    Ok(())
                });
                server.read_exact(vec![0; 2000]).await?;
                World::current().note(format!("drew {}", World::current().choose(1000)));
                Ok(())
            })
            .await
        })?;
        assert_eq!(world.finish(), Vec::<String>::new());
        Ok((world.trace(), world.tape()))
    };
    let mut traces = std::collections::HashSet::new();
    for seed in 0..20 {
        let (trace, tape) = traced(World::from_seed(seed))?;
        assert_eq!(traced(World::from_seed(seed))?.0, trace);
        let replayed =
            World::from_tape(Tape::parse(&tape.to_string()).unwrap(), Faults::lossless());
        assert_eq!(traced(replayed)?.0, trace, "seed {seed}");
        traces.insert(trace);
    }
    assert!(traces.len() > 10, "20 seeds did only {} different things", traces.len());
    Ok(())
}

#[trine::test]
fn a_choice_is_tame_on_the_tame_tape_and_within_its_bounds_otherwise() {
    let world = World::tame();
    assert!([0, 1, 2, 256, 1_000_000].into_iter().all(|options| world.choose(options) == 0));
    let world = World::from_seed(3);
    let drawn: Vec<u32> = (0..100).map(|_| world.choose(7)).collect();
    assert!(drawn.iter().all(|&choice| choice < 7));
    assert!((0..7).all(|option| drawn.contains(&option)), "each comes up: {drawn:?}");
    assert!(world.tape().to_string().contains("program:"));
}

#[trine::test]
fn a_world_that_was_left_untidy_says_what_is_left() -> Result {
    let world = World::tame();
    world.run(async || {
        let (client, server) = pair().await?;
        std::mem::forget(client);
        server.close().await
    })?;
    assert_eq!(world.violations(), Vec::<String>::new());
    let left = world.finish().join("\n");
    assert!(left.contains("is still open: a connection made from"), "{left}");
    Ok(())
}

// P4: nothing in the world can wake it, also no clock. The tree says who waits where.
#[trine::test]
fn a_deadlock_shows_the_tree() {
    let ended = World::tame().run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        nursery(async |n| {
            n.spawn(async { listener.accept().await.map(drop) });
            n.spawn(async { sleep_forever().await });
            Ok(())
        })
        .await
    });
    let Err(Error::Deadlock(tree)) = ended else { panic!("{ended:?}") };
    for part in ["run at", "nursery at", "child spawned at", "waits for accept", "world.rs"] {
        assert!(tree.contains(part), "{part}: {tree}");
    }
}

#[trine::test]
fn a_run_that_goes_round_in_circles_is_stopped_after_its_turns() {
    let world = World::tame().turns(500);
    let ended = world.run(async || -> Result {
        nursery(async |n| {
            n.spawn(async {
                loop {
                    checkpoint().await?;
                }
            });
            Ok(())
        })
        .await
    });
    let Err(Error::Overrun(tree)) = ended else { panic!("{ended:?}") };
    assert!(tree.contains("child spawned at") && tree.contains("world.rs"), "{tree}");
    assert_eq!(world.finish(), Vec::<String>::new());
}

#[trine::test]
fn a_run_that_takes_too_long_is_stopped_at_its_time() {
    let world = World::tame().timeout(SECOND * 5);
    let ended = world.run(async || {
        loop {
            sleep(SECOND * 2).await?;
            World::current().note("tick");
        }
    });
    let ended: Result = ended;
    let Err(Error::Overrun(tree)) = ended else { panic!("{ended:?}") };
    assert!(tree.contains("run at"), "{tree}");
    assert_eq!(world.elapsed(), SECOND * 5);
    assert_eq!(world.timeline().matches("tick").count(), 2);
    let error = Error::Overrun(tree).to_string();
    assert!(error.contains("time"), "it says what was used up: {error}");
}

#[trine::test]
fn a_run_that_is_stopped_leaves_nothing_in_the_kernel() {
    let world = World::tame().timeout(SECOND);
    let ended: Result = world.run(async || {
        let (client, server) = pair().await?;
        nursery(async |n| {
            n.spawn(async { server.recv().await.map(drop) });
            n.spawn(async {
                client.write_all(vec![0; 9 << 20]).await?;
                Ok(())
            });
            sleep_forever().await
        })
        .await
    });
    assert!(matches!(ended, Err(Error::Overrun(_)) | Err(Error::Deadlock(_))), "{ended:?}");
    assert_eq!((world.finish(), world.census().in_flight), (vec![], 0));
}

#[trine::test(kernel = "both")]
async fn a_program_can_ask_in_which_world_it_is() -> Result {
    match World::try_current() {
        Some(world) => {
            world.note("this one");
            assert!(World::current().timeline().contains("this one"));
        }
        None => assert!(std::panic::catch_unwind(World::current).is_err()),
    }
    Ok(())
}

#[test]
fn outside_of_a_run_there_is_no_world() {
    assert!(World::try_current().is_none());
    World::tame().during(|| assert!(World::try_current().is_none()));
}

// `during`: every run that is started meanwhile is in it, and afterwards none.
#[test]
fn every_run_during_a_world_is_in_it() {
    let world = World::tame();
    let inner = World::tame();
    world.during(|| {
        trine::run(async || sleep(SECOND * 60).await).unwrap();
        inner.during(|| trine::run(async || sleep(SECOND * 600).await).unwrap());
        trine::run(async || sleep(SECOND * 60).await).unwrap();
    });
    assert_eq!((world.elapsed(), inner.elapsed()), (SECOND * 120, SECOND * 600));
    trine::run(async || {
        assert!(World::try_current().is_none());
        Ok(())
    })
    .unwrap();
}
