//! Socket families, and the network that is not there (jail.md C4, C7, C8).

use std::net::{TcpListener, UdpSocket};

use crate::probe::{Ground, run, skip, teeth};

/// Of 51 families four are left, of netlink one protocol.
#[test]
fn only_four_families_can_be_made() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"], &["--net", "host"]] {
        let said = ground.jail(flags, &["sockets"]);
        for (family, result) in said.with("socket ") {
            let (family, kind) = family.split_once(' ').unwrap();
            match (family, kind) {
                ("1" | "2" | "10" | "16", _) => {
                    assert!(
                        result != "ok" || !(kind == "3" && family != "16" && family != "1"),
                        "{family} {kind}"
                    );
                    // The old type that an INET socket becomes AF_PACKET by.
                    assert!(kind != "10" || result != "ok", "{family} {kind}: {result}");
                }
                _ => assert_eq!(result, "EAFNOSUPPORT", "{family} {kind}"),
            }
        }
        said.expect(
            "ok",
            &["socket 1 1", "socket 1 2", "socket 2 1", "socket 2 2", "socket 16 3", "socketpair"],
        );
        for (protocol, result) in said.with("netlink ") {
            assert_eq!(result, if protocol == "0" { "ok" } else { "EPROTONOSUPPORT" }, "netlink {protocol}");
        }
        said.expect("EPROTONOSUPPORT", &["inet 33", "inet 115", "inet 132", "inet 256"]);
        said.expect("EPERM", &["raw icmp"]);
    }
    let said = ground.jail(&[], &["sockets"]);
    let weaker = ground.outside(&["sockets"]).unwrap();
    // AF_VSOCK has no namespace; made, never connected.
    for (name, what) in [
        ("socket 40 1", "vsock"),
        ("socket 38 5", "alg"),
        ("netlink 4", "sock_diag"),
        ("netlink 16", "generic"),
    ] {
        if weaker.of(name) == "ok" {
            assert_ne!(said.of(name), "ok");
        } else {
            skip(format!("this kernel has no {what} sockets for this user: {}", weaker.of(name)));
        }
    }
    teeth(&said, Some(weaker), &[]);
    teeth(&said, ground.bwrap(&[], &["sockets"]), &["netlink 16"]);
    let strict = ground.jail(&["--seccomp", "strict"], &["sockets"]);
    strict.expect("EAFNOSUPPORT", &["socket 2 1", "socket 2 2", "socket 10 1"]);
    strict.expect("ok", &["socket 1 1"]);
}

#[test]
fn the_only_interface_is_lo_and_it_is_up() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["interfaces"]);
        said.expect("ok", &["getifaddrs"]);
        assert_eq!(said.all().map(|(n, _)| n).collect::<Vec<_>>(), ["getifaddrs", "lo"], "{said:?}");
        assert!(said.stdout.contains("lo: up"), "{said:?}");
        let proc = run(&mut ground
            .aj(flags, ["cat", "/proc/net/dev", "/proc/net/route", "/proc/net/tcp", "/proc/net/unix"]));
        let names: Vec<&str> =
            proc.stdout.lines().filter_map(|l| l.trim_start().split_once(':')).map(|(n, _)| n).collect();
        assert_eq!(
            names
                .iter()
                .filter(|n| n.chars().all(char::is_alphanumeric) && !n.chars().all(|c| c.is_ascii_hexdigit()))
                .collect::<Vec<_>>(),
            [&"lo"],
            "{proc:?}"
        );
    }
    let host = ground.jail(&["--net", "host"], &["interfaces"]);
    if host.all().count() == 2 {
        skip("this machine has no interface but lo either");
    }
}

/// A service of the host on its loopback, and the addresses that clouds put secrets behind.
#[test]
fn no_service_of_the_host_can_be_reached() {
    let Some(ground) = Ground::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap().to_string();
    let wide = TcpListener::bind("[::1]:0").ok();
    let six = wide.as_ref().map(|l| format!("::1:{}", l.local_addr().unwrap().port()));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = udp.local_addr().unwrap().to_string();
    let mut words = vec!["connect", "tcp", &tcp, "udp", &datagram];
    if let Some(six) = &six {
        words.extend(["tcp", six]);
    }
    let said = ground.jail(&[], &words);
    said.expect("ECONNREFUSED", &[&tcp]);
    udp.set_nonblocking(true).unwrap();
    let mut byte = [0];
    assert!(udp.recv(&mut byte).is_err(), "a datagram came out");
    teeth(&said, Some(ground.jail(&["--net", "host"], &words)), &[&tcp]);
    assert_eq!(udp.recv(&mut byte).ok(), Some(1), "with --net host it does");
    if let Some(six) = &six {
        assert_ne!(said.of(six), "ok");
    }
    let far = [
        "connect",
        "tcp",
        "169.254.169.254:80",
        "tcp",
        "100.100.100.200:80",
        "tcp",
        "10.0.0.1:22",
        "tcp",
        "1.1.1.1:53",
        "udp",
        "1.1.1.1:53",
        "tcp",
        "fd00:ec2::254:80",
        "udp",
        "224.0.0.251:5353",
        "udp",
        "255.255.255.255:67",
    ];
    for (address, result) in ground.jail(&[], &far).all() {
        assert!(["ENETUNREACH", "EACCES", "EADDRNOTAVAIL"].contains(&result), "{address}: {result}");
    }
}

/// What works in a jail without a network: its own loopback, both families.
#[test]
fn the_jails_own_loopback_works() {
    let Some(ground) = Ground::new() else { return };
    if std::process::Command::new("/usr/bin/python3").arg("--version").output().is_err() {
        skip("no python3 in /usr/bin");
        return;
    }
    let script = "import socket\nfor f, a in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET, '127.9.9.9')):\n \
        s = socket.socket(f); s.bind((a, 0)); s.listen(); c = socket.socket(f); c.connect(s.getsockname()); print('ok')";
    let said = run(&mut ground.aj(&[], ["/usr/bin/python3", "-c", script]));
    assert_eq!(said.stdout, "ok\nok\n", "{said:?}");
}
