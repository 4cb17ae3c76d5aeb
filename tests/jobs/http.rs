//! `--ready http:…`: a server in the jail is asked, and a hostile one has a hard time to make anything of it.

use std::time::{Duration, Instant};

use super::Jobs;
use crate::real::project::has;
use crate::yard::eventually;

/// A port that nobody has, of the host's as well.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server on `port` that says this to whoever connects, and nothing before `after` seconds are over but 503.
fn server(port: u16, after: f64, says: &str) -> String {
    format!(
        "exec python3 -c '
import socket, threading, time
began = time.time()
listener = socket.create_server((\"127.0.0.1\", {port}))
def serve(c):
    try:
        line = c.recv(4096).split(b\"\\r\\n\")[0]
        print(line.decode(), flush=True)
        if time.time() - began < {after}:
            c.sendall(b\"HTTP/1.1 503 Not yet\\r\\n\\r\\n\")
        else:
            {says}
        c.close()
    except OSError:
        pass
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],)).start()
'"
    )
}

const FINE: &str = "c.sendall(b\"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n\")";

fn jobs() -> Option<Jobs> {
    if !has("python3") {
        crate::real::project::skip("there is no python3");
        return None;
    }
    Jobs::new()
}

#[test]
fn a_job_is_ready_once_its_server_says_so() {
    let Some(jobs) = jobs() else { return };
    jobs.out(&["ws", "create", "api"]);
    for place in [&["api"][..], &[], &["--net", "host"]] {
        for ready in ["http:PORT/up?x=1", "http:/up?x=1", "http://localhost:PORT/up?x=1"] {
            let port = free_port();
            let ready = &ready.replace("PORT", &port.to_string());
            if ready == "http:/up?x=1" && place == ["--net", "host"] {
                continue; // Whose server answers there is not ours to say.
            }
            let began = Instant::now();
            let flags = [place, &["--ready", ready, "--ready-timeout", "20s"]].concat();
            let id = jobs.start(&flags, &server(port, 0.7, FINE));
            assert!(began.elapsed() >= Duration::from_millis(700), "{place:?} {ready}: 503 is not ready");
            assert_eq!(jobs.show(&id)["ready"], true, "{place:?} {ready}");
            // The answer may be heard before the line of the log is written.
            let logged = |line: &str| jobs.out(&["job", "logs", &id]).contains(line);
            assert!(
                eventually(Duration::from_secs(5), || logged("GET /up?x=1 HTTP/1.1")),
                "{place:?} {ready}"
            );
            jobs.out(&["wait", &id, "--for", &format!("http:{port}/later"), "--timeout", "20s"]);
            assert!(
                eventually(Duration::from_secs(5), || logged("GET /later HTTP/1.1")),
                "{place:?} {ready}"
            );
            let nobody = format!("http:{}/", free_port());
            let said = jobs.said(&["wait", &id, "--for", &nobody, "--timeout", "300ms"]);
            assert_eq!(said.fate, 124, "nothing listens there: {said:#?}");
            assert!(
                said.err.contains(&nobody.replace("http:", "nothing listened on port ").replace('/', "")),
                "{said:#?}"
            );
            jobs.out(&["job", "rm", "--force", &id]);
        }
    }
}

#[test]
fn a_hostile_server_is_not_ready_and_costs_no_more_than_the_time() {
    let Some(jobs) = jobs() else { return };
    jobs.out(&["ws", "create", "api"]);
    for (says, seen) in [
        ("time.sleep(60)", "port 8123 did not answer in time"),
        (
            "[(c.sendall(b\"HTTP/1.1 200 OK\"[n % 15:][:1]), time.sleep(0.05)) for n in range(10000)]",
            "port 8123 did not answer in time",
        ),
        (
            "[c.sendall(b\"HTTP/1.1 \" * 10000) for n in range(100000)]",
            "the answer of port 8123 is none of HTTP",
        ),
        ("c.sendall(b\"HTTP/1.1 404 No\\r\\n\")", "port 8123 answered with 404"),
        ("c.sendall(b\"\\x1b]0;owned\\x07\\r\\n\")", "the answer of port 8123 is none of HTTP"),
        ("pass", "port 8123 closed the connection without an answer"),
    ] {
        for place in [&["api"][..], &[]] {
            let began = Instant::now();
            let flags =
                [&["job", "start"], place, &["--ready", "http:8123/", "--ready-timeout", "900ms"]].concat();
            let script = server(8123, 0.0, says);
            let said = jobs.said(&[&flags[..], &["--", "sh", "-c", &script]].concat());
            assert_eq!(said.fate, 124, "{says} {place:?}: {said:#?}");
            assert!(began.elapsed() < Duration::from_secs(20), "{says} {place:?}");
            assert!(!said.err.contains('\x1b'), "{said:#?}");
            assert!(said.err.contains(seen), "{says} {place:?}: {said:#?}");
        }
    }
}

#[test]
fn what_a_server_answered_last_is_told_when_the_time_is_up() {
    let Some(jobs) = jobs() else { return };
    jobs.out(&["ws", "create", "api"]);
    for place in [&["api"][..], &[]] {
        let port = free_port();
        let flags = [&["job", "start", "--json"], place].concat();
        let flags = [&flags[..], &["--ready", "http:PORT/", "--ready-timeout", "1500ms"]].concat();
        let ready = format!("http:{port}/");
        let flags: Vec<&str> =
            flags.into_iter().map(|f| if f == "http:PORT/" { &ready } else { f }).collect();
        let script = server(port, 60.0, FINE);
        let said = jobs.said(&[&flags[..], &["--", "sh", "-c", &script]].concat());
        let error: serde_json::Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
        assert_eq!(
            error["error"]["causes"][0],
            format!("port {port} answered with 503"),
            "{place:?}: {said:#?}"
        );
        let id = jobs.start(place, &script);
        let waits = ["--for", &ready, "--timeout", "2s", "--json"];
        let said = jobs.said(&[&["wait", &id][..], &waits].concat());
        let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let unready = &told["waited"][0]["unready"];
        assert_eq!((said.fate, &unready["status"]), (124, &503.into()), "{place:?}: {said:#?}");
        assert!(said.err.contains(&format!("port {port} answered with 503")), "{said:#?}");
        let waits = ["--for", "exit", "--timeout", "1ms", "--json"];
        let said = jobs.said(&[&["wait", &id][..], &waits].concat());
        assert!(said.out.contains("\"unready\": null") || said.out.contains("\"unready\":null"), "{said:#?}");
        jobs.out(&["job", "rm", "--force", &id]);
    }
}

#[test]
fn who_has_nobody_listening_is_not_asked_and_the_end_of_a_job_is_told() {
    let Some(jobs) = jobs() else { return };
    let said = jobs.said(&["job", "start", "--ready", "http:8123/", "--", "sh", "-c", "sleep 0.3; exit 7"]);
    assert!(said.fate != 0 && said.fate != 124, "it ended before it was ready: {said:#?}");
    for bad in ["http:", "http:3000", "http://example.org/", "https:/"] {
        let said = jobs.said(&["job", "start", "--ready", bad, "--", "true"]);
        assert!(said.fate != 0 && said.err.contains("--ready"), "{bad}: {said:#?}");
    }
}
