//! Latency, cuts, resets, names, addresses.

use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

#[test]
fn everything_takes_its_time_on_the_way_and_nothing_overtakes() {
    let mut rig = Rig::tame();
    let listener = rig.listen("127.0.0.1:80", 8);
    rig.world.set_latency(10 * MS);
    let began = rig.clock.now();
    let (client, result) = rig.connect("127.0.0.1:80");
    assert_eq!((result, rig.clock.now() - began), (0, 20 * MS));
    let server = rig.result(Request::Accept { fd: listener, multishot: false });
    let began = rig.clock.now();
    assert_eq!(rig.send(client, b"slow"), 4);
    assert_eq!(rig.clock.now(), began, "sending does not wait");
    rig.world.set_latency(MS);
    assert_eq!(rig.send(client, b"fast"), 4);
    rig.world.close(client);
    assert_eq!(rig.receive(server, 9).unwrap(), b"slowfast");
    assert_eq!(rig.clock.now() - began, 10 * MS);
    assert_eq!(rig.receive(server, 9).unwrap(), b"");
    let (lost, result) = rig.connect("127.0.0.1:81");
    assert_eq!(result, -libc::ECONNREFUSED);
    rig.finish(&[server, listener, lost]);
}

#[test]
fn what_is_sent_into_a_cut_network_arrives_when_it_is_healed() {
    let mut rig = Rig::tame();
    let listener = rig.listen("10.0.0.1:80", 8);
    let (client, _) = rig.connect("10.0.0.1:80");
    let server = rig.result(Request::Accept { fd: listener, multishot: false });
    let (here, there) = (rig.world.local_addr(client).unwrap().ip(), ip("10.0.0.1"));
    rig.world.set_latency(MS);
    assert_eq!(rig.send(client, b"before"), 6);
    rig.world.partition(here, there);
    assert_eq!(rig.send(client, b" after"), 6);
    assert_eq!(rig.receive(server, 20).unwrap(), b"before");
    let memory = Memory::of(&[0; 8]);
    let receive = rig.pending(Request::Recv { fd: server, into: memory.region() });
    assert_eq!(rig.twin.next_event(), None, "nothing comes by itself");
    assert_eq!(rig.world.census().bytes, 6);
    rig.world.heal(there, here);
    assert_eq!(rig.wait(receive).result, 6);
    rig.finish(&[client, server, listener]);
}

#[test]
fn a_connect_into_a_cut_network_hangs_and_times_out() {
    let mut rig = Rig::tame();
    let listener = rig.listen("10.0.0.1:80", 8);
    rig.world.isolate_ip(ip("10.0.0.1"));
    let began = rig.clock.now();
    let (client, result) = rig.connect("10.0.0.1:80");
    assert_eq!(result, -libc::ETIMEDOUT);
    assert_eq!(rig.clock.now() - began, Duration::from_secs(130));
    let to: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let address = Address::new(to);
    let again = rig.pending(Request::Connect { fd: client, to: address.region() });
    rig.world.rejoin_ip(ip("10.0.0.1"));
    assert_eq!(rig.wait(again).result, 0);
    assert_eq!(rig.twin.next_event(), None, "the timeout does not matter any more");
    rig.finish(&[client, listener]);
}

#[test]
fn one_end_can_be_cut_off_alone() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let [other, its_server] = rig.pair();
    let end = rig.world.local_addr(client).unwrap();
    rig.world.isolate(end);
    rig.send(client, b"lost");
    rig.send(other, b"fine");
    assert_eq!(rig.receive(its_server, 9).unwrap(), b"fine");
    let memory = Memory::of(&[0; 8]);
    let receive = rig.pending(Request::Recv { fd: server, into: memory.region() });
    rig.world.rejoin(end);
    assert_eq!(rig.wait(receive).result, 4);
    rig.finish(&[client, server, other, its_server]);
}

#[test]
fn a_reset_is_seen_on_both_sides_once() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    rig.send(client, b"queued");
    let memory = Memory::of(&[0; 8]);
    let receive = rig.pending(Request::Recv { fd: client, into: memory.region() });
    rig.world.reset(rig.world.local_addr(client).unwrap());
    assert_eq!(rig.wait(receive).result, -libc::ECONNRESET);
    assert_eq!(rig.send(client, b"x"), -libc::EPIPE);
    assert_eq!(rig.receive(server, 9).unwrap(), b"queued");
    assert_eq!(rig.send(server, b"x"), -libc::ECONNRESET);
    assert_eq!(rig.receive(server, 9).unwrap(), b"");
    let how = libc::SHUT_WR;
    assert_eq!(rig.result(Request::Shutdown { fd: server, how }), -libc::ENOTCONN);
    rig.finish(&[client, server]);
}

#[test]
fn closing_while_it_connects_leaves_nothing() {
    for wait in [0, 1, 3] {
        let mut rig = Rig::tame();
        let listener = rig.listen("127.0.0.1:80", 8);
        rig.world.set_latency(2 * MS);
        let to: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let client = rig.world.tcp_socket(to).unwrap();
        let address = Address::new(to);
        let connect = rig.pending(Request::Connect { fd: client, to: address.region() });
        rig.clock.advance_to(rig.clock.now() + wait * MS);
        assert_eq!(rig.cancel(connect), cancelled(&[], &[-libc::ECANCELED]));
        rig.world.close(client);
        let accept = rig.push(Request::Accept { fd: listener, multishot: false });
        while let Some(next) = rig.twin.next_event() {
            rig.clock.advance_to(next);
            rig.enter();
        }
        let mut open = vec![listener];
        // A connection that the server has seen is accepted, and found dead.
        if let Some(accepted) = rig.poll(accept) {
            assert_eq!(rig.receive(accepted.result, 1), Err(libc::ECONNRESET));
            open.push(accepted.result);
        } else {
            rig.cancel(accept);
        }
        assert_eq!(open.len() > 1, wait == 3);
        rig.finish(&open);
    }
}

#[test]
fn addresses_are_taken_and_free_at_once() {
    let mut rig = Rig::tame();
    let first = rig.listen("127.0.0.1:80", 8);
    let busy = |at, shared| rig.listen_sharing(at, 1, shared) == Err(libc::EADDRINUSE);
    assert!(busy("127.0.0.1:80", false) && busy("0.0.0.0:80", false));
    assert!(busy("127.0.0.1:80", true), "both must want to share");
    rig.world.close(first);
    let sharing = [(); 2].map(|()| rig.listen_sharing("0.0.0.0:80", 1, true).unwrap());
    let v6 = rig.listen("[::]:80", 1);
    let (client, result) = rig.connect("0.0.0.0:80");
    assert_eq!(result, 0, "the unspecified address is this machine");
    let any = rig.listen("127.0.0.1:0", 1);
    assert!(rig.world.local_addr(any).unwrap().port() >= 32_768);
    rig.finish(&[sharing[0], sharing[1], v6, client, any]);
}

#[test]
fn a_socket_is_bound_once_and_to_its_own_family() {
    let mut rig = Rig::tame();
    let listener = rig.listen("127.0.0.1:80", 8);
    let world = &rig.world;
    let [v4, v6] =
        ["127.0.0.1:1", "[::1]:1"].map(|to| world.tcp_socket(to.parse().unwrap()).unwrap());
    let bind = |fd, at: &str| {
        let bound = world.bind(fd, at.parse().unwrap());
        bound.map_err(|error| error.raw_os_error().unwrap())
    };
    assert_eq!(bind(v4, "[::1]:0"), Err(libc::EAFNOSUPPORT));
    assert_eq!(bind(v6, "127.0.0.1:0"), Err(libc::EINVAL));
    let no_port = OptionName { level: libc::IPPROTO_IP, name: libc::IP_BIND_ADDRESS_NO_PORT };
    world.set_option(v4, no_port, OptionValue::number(1)).unwrap();
    assert_eq!(bind(v4, "127.0.0.2:0"), Ok(()));
    assert_eq!(bind(v4, "127.0.0.3:0"), Err(libc::EINVAL));
    assert_eq!(world.local_addr(v4).unwrap(), "127.0.0.2:0".parse().unwrap());
    assert_eq!(bind(v6, "[::1]:0"), Ok(()));
    assert_ne!(world.local_addr(v6).unwrap().port(), 0, "unless it is told to wait");
    assert_eq!(rig.connect_on(v4, "127.0.0.1:80".parse().unwrap()), 0);
    let from = rig.world.local_addr(v4).unwrap();
    assert!(from.ip() == ip("127.0.0.2") && from.port() != 0, "{from}");
    rig.finish(&[listener, v4, v6]);
}

#[test]
fn names_are_looked_up() {
    let rig = Rig::tame();
    let world = &rig.world;
    assert_eq!(world.lookup("localhost", 80).unwrap(), ["127.0.0.1:80".parse().unwrap()]);
    assert!(world.lookup("example.org", 80).is_err());
    world.add_name("example.org", ip("10.0.0.7"));
    world.add_name("example.org", ip("fd00::7"));
    assert_eq!(world.lookup("example.org", 80).unwrap().len(), 2);
    rig.finish(&[]);
}

#[test]
fn a_world_outlives_its_rings_and_the_timeline_tells_its_story() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let Rig { clock, world, twin, .. } = rig;
    twin.close();
    world.note("a new ring".to_owned());
    let twin = Twin::open(&world, SIZE).unwrap();
    let mut rig = Rig { clock, world, twin, tokens: 0, came: Vec::new(), ended: HashMap::new() };
    rig.send(client, b"hello");
    assert_eq!(rig.receive(server, 9).unwrap(), b"hello");
    let timeline = rig.world.timeline();
    for part in ["connection 0 established", "a new ring", "client sends 5", "ended with 5"] {
        assert!(timeline.contains(part), "{part}:\n{timeline}");
    }
    rig.finish(&[client, server]);
}
