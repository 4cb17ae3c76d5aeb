//! `--json`, `--events` and `--status-fd`: what programs read.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::yard::{Running, Yard, fate, said};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

/// Bytes of one stream, put together again.
fn joined(events: &[Value], stream: &str) -> Vec<u8> {
    let of = events.iter().filter(|e| e["type"] == stream);
    of.flat_map(|e| match (&e["text"], &e["base64"]) {
        (Value::String(text), Value::Null) => text.clone().into_bytes(),
        (Value::Null, Value::String(b)) => agentjail::schema::jail::bytes64::decode(b).unwrap(),
        both => panic!("{both:?}"),
    })
    .collect()
}

#[test]
fn json_holds_small_output_whole_and_both_ends_of_large_output() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--json"], ["sh", "-c", "echo out; echo err >&2; exit 3"]));
    let answer = json(&ran.out);
    assert_eq!((ran.fate, ran.err.as_str()), (3, ""));
    assert_eq!((&answer["stdout"], &answer["stderr"]), (&"out\n".into(), &"err\n".into()));
    assert_eq!(answer["truncated"], serde_json::json!({"stdout": false, "stderr": false}));
    assert_eq!(
        (&answer["exit_code"], &answer["timed_out"], &answer["signal"]),
        (&3.into(), &false.into(), &Value::Null)
    );
    let ran = said(&mut yard.exec(["--json"], ["sh", "-c", "seq 1500000; echo small >&2"]));
    let answer = json(&ran.out);
    assert_eq!(answer["truncated"], serde_json::json!({"stdout": true, "stderr": false}));
    let text = answer["stdout"].as_str().unwrap();
    assert_eq!(text.len(), 128 * 1024);
    assert!(text.starts_with("1\n2\n3\n") && text.ends_with("\n1499999\n1500000\n"));
    // Exactly as much as is kept: whole.
    let ran = said(&mut yard.exec(["--json"], ["sh", "-c", "head -c 131072 /dev/zero | tr '\\0' a"]));
    let answer = json(&ran.out);
    assert_eq!(
        (answer["stdout"].as_str().unwrap().len(), &answer["truncated"]["stdout"]),
        (131_072, &false.into())
    );
}

#[test]
fn one_object_and_lines_of_events_are_asked_for_apart() {
    let Some(yard) = Yard::new() else { return };
    for words in ["exec --json --events", "--json exec --events", "exec --events --json --timeout 9s"] {
        let ran = said(&mut yard.sh(&format!("$AJ {words} -- ./life exit 3")));
        assert!(ran.fate != 3 && ran.out.is_empty() && ran.err.contains("--events"), "{words}: {ran:?}");
    }
    let ran = said(&mut yard.exec(["--events"], ["./no-such"]));
    assert_eq!(json(ran.out.lines().last().unwrap())["type"], "failed", "{ran:?}");
    // Nothing runs, so there is nothing to tell of line by line.
    let ran = said(&mut yard.exec(["--events", "--dry-run"], ["true"]));
    assert!(ran.fate == 125 && ran.out.is_empty() && ran.err.contains("--dry-run --json"), "{ran:?}");
    // The first line says which version it is, also where it is the last one.
    let ran = said(&mut yard.exec(["--events", "--root-dir", "/no/such"], ["true"]));
    let first = json(ran.out.lines().next().unwrap());
    assert_eq!((&first["type"], &first["format_version"]), (&"failed".into(), &"0.1".into()), "{ran:?}");
}

#[test]
fn bytes_that_are_no_text_come_as_base64() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--json"], ["printf", "a\\377\\000b"]));
    let answer = json(&ran.out);
    assert_eq!(answer["stdout"], "a\u{fffd}\u{0}b");
    assert_eq!(answer["stdout_base64"], agentjail::schema::jail::bytes64::encode(b"a\xff\0b"));
    let ran = said(&mut yard.exec(["--events"], ["printf", "a\\377\\000b"]));
    assert_eq!(joined(&events(&ran.out), "stdout"), b"a\xff\0b");
}

#[test]
fn events_come_in_order_and_completed_is_last() {
    let Some(yard) = Yard::new() else { return };
    let script = "echo one; echo two >&2; sleep 1.3; echo three; exit 5";
    let ran = said(&mut yard.exec(["--events"], ["sh", "-c", script]));
    let events = events(&ran.out);
    assert_eq!(ran.fate, 5, "{ran:?}");
    for (i, e) in events.iter().enumerate() {
        assert_eq!(e["seq"], i, "{ran:?}");
        assert!(e["time"].as_str().unwrap().ends_with('Z'));
    }
    let types: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], types[types.len() - 1]), ("started", "completed"));
    assert_eq!(types.iter().filter(|t| **t == "completed" || **t == "started").count(), 2);
    assert!(types.contains(&"stats"), "{types:?}");
    assert_eq!(
        (joined(&events, "stdout"), joined(&events, "stderr")),
        (b"one\nthree\n".to_vec(), b"two\n".to_vec())
    );
    let result = &events[events.len() - 1]["result"];
    assert_eq!(result["exit_code"], 5);
    // It has been told, which an empty text would deny.
    for key in ["stdout", "stderr", "stdout_base64", "stderr_base64", "truncated"] {
        assert_eq!(result.get(key), Some(&Value::Null), "{key}");
    }
}

#[test]
fn events_carry_everything_and_cut_no_character_in_two() {
    let Some(yard) = Yard::new() else { return };
    // 3 bytes each: no power of two is a boundary between characters.
    let script = "yes € | head -n 200000 | tr -d '\\n'";
    let ran = said(&mut yard.exec(["--events"], ["sh", "-c", script]));
    let events = events(&ran.out);
    assert!(events.iter().all(|e| e["base64"].is_null()), "a character was cut");
    assert!(joined(&events, "stdout") == "€".repeat(200_000).into_bytes());
    // Half a character at the very end is delivered all the same.
    let ran = said(&mut yard.exec(["--events"], ["printf", "x\\342\\202"]));
    assert_eq!(joined(&self::events(&ran.out), "stdout"), b"x\xe2\x82");
}

#[test]
fn a_slow_reader_of_events_gets_them_all() {
    let Some(yard) = Yard::new() else { return };
    let mut aj = yard.exec(["--events"], ["seq", "200000"]);
    let mut running = Running::start(aj.stdout(Stdio::piped()));
    std::thread::sleep(Duration::from_secs(1));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut running.0.stdout.take().unwrap(), &mut text).unwrap();
    let events = events(&text);
    let expected: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    assert!(joined(&events, "stdout") == expected.as_bytes());
    assert_eq!(events.last().unwrap()["type"], "completed");
    assert_eq!(fate(running.end()), 0);
}

#[test]
fn a_reader_of_events_that_leaves_ends_the_command_as_in_a_plain_pipe() {
    let Some(yard) = Yard::new() else { return };
    let start = Instant::now();
    let piped = |words: &str| {
        let script = format!("{{ $AJ exec {words}; echo $? >&3; }} 3>code | head -n 1 | wc -l; cat code");
        said(&mut yard.sh(&script)).out
    };
    // What never ends by itself, on either stream.
    for flags in ["", "--events"] {
        assert_eq!(piped(&format!("{flags} -- yes")), "1\n141\n", "{flags}");
    }
    assert_eq!(piped("--events -- sh -c 'exec yes >&2'"), "1\n141\n");
    // What writes no more after the reader has left ends with its own code.
    assert_eq!(piped("--events -- sh -c 'echo 1; sleep 1; exit 3'"), "1\n3\n");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn the_status_descriptor_tells_a_commands_125_from_ajs() {
    let Some(yard) = Yard::new() else { return };
    let status = |words: &str| {
        let ran = said(
            &mut yard
                .sh(&format!("$AJ exec --status-fd 7 {words} 7>status >/dev/null 2>&1; echo $?; cat status")),
        );
        let (code, lines) = ran.out.split_once('\n').unwrap();
        (code.parse::<i32>().unwrap(), lines.lines().map(json).collect::<Vec<_>>())
    };
    let (code, lines) = status("-- ./life exit 125");
    assert_eq!((code, lines.len()), (125, 2), "{lines:?}");
    assert_eq!(
        (&lines[0]["event"], &lines[1]["event"], &lines[1]["code"]),
        (&"started".into(), &"exited".into(), &125.into())
    );
    assert!(lines[0]["pid"].as_i64().unwrap() > 1);
    let (code, lines) = status("-- ./no-such");
    assert_eq!(
        (code, lines.len(), &lines[0]["event"], &lines[0]["errno"]),
        (127, 1, &"failed".into(), &"ENOENT".into())
    );
    let (code, lines) = status("--timeout 300ms --grace 0s -- sleep 60");
    assert_eq!((code, &lines.last().unwrap()["code"]), (124, &124.into()));
    let (code, lines) = status("-- ./life raise 15");
    assert_eq!((code, &lines.last().unwrap()["outcome"]["signal"]), (143, &15.into()));
    let ran = said(&mut yard.sh("$AJ exec --status-fd 9 -- true 9>&-"));
    assert_eq!(ran.fate, 125, "{ran:?}");
    assert!(ran.err.contains("--status-fd 9") && ran.err.contains("EBADF"), "{ran:?}");
    // One that nothing can be written to would be waited for in vain.
    let ran = said(&mut yard.sh("$AJ exec --status-fd 9 -- ./life exit 0 9</dev/null"));
    assert!(ran.fate == 125 && ran.err.contains("--status-fd 9") && ran.err.contains("EBADF"), "{ran:?}");
    let ran = said(&mut yard.sh("$AJ exec --status-fd 9 -- ./life exit 3 9>/dev/full"));
    assert!(ran.fate == 3 && ran.err.contains("`--status-fd`") && ran.err.contains("ENOSPC"), "{ran:?}");
}

#[test]
fn the_status_descriptor_stays_outside() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.sh("$AJ exec --status-fd 3 -- ./life fds 3>status"));
    assert_eq!(ran.out, "open 0\nopen 1\nopen 2\n");
}

#[test]
fn under_json_a_failed_start_is_one_line_on_stderr() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--json"], ["./no-such"]));
    assert_eq!((ran.fate, ran.out.as_str()), (127, ""));
    assert_eq!(json(&ran.err)["error"]["code"], "command_not_found", "{ran:?}");
    let ran = said(&mut yard.exec(["--events"], ["./no-such"]));
    let events = events(&ran.out);
    assert_eq!((ran.fate, events.len(), &events[0]["type"]), (127, 1, &"failed".into()), "{ran:?}");
}

#[test]
fn a_reader_of_status_lines_that_sleeps_holds_nobody_up() {
    let Some(yard) = Yard::new() else { return };
    // A pipe that is full, with a reader that does not read: the shell itself.
    let script =
        "mkfifo p; exec 3<>p; timeout 1 cat /dev/zero >&3; exec $AJ exec --status-fd 3 -- ./life exit 3";
    let started = Instant::now();
    let ran = said(&mut yard.sh(script));
    assert!(ran.fate == 3 && ran.err.contains("nobody read them within 1 s"), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}
